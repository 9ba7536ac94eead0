"""Reports in files, and the changes between two of them that exceed the noise."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coalesced.tools.bench import report
from coalesced.tools.bench.measure import Spread, spread
from coalesced.tools.errors import BadInput
from coalesced.tools.runs.json_members import INLINE, json_text, print_json
from coalesced.tools.runs.report import print_table
from coalesced.vmm.output import write_whole

FORMAT = 1
SIZE_MAX = 1 << 26  # bytes
DIGITS = 3  # significant digits of a single time


@dataclass(frozen=True)
class Samples:
    """The samples of a benchmark's rows, by their names."""

    title: str
    unit: str
    samples: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, section: report.Section) -> Samples:
        """Those of the rows that have samples."""
        samples = {row.what: row.figure.samples for row in section.rows if row.figure.samples}
        return cls(section.title, section.unit, samples)


@dataclass(frozen=True)
class Histogram:
    """Ascending times in microseconds, to three digits, and the count of each."""

    us: Sequence[float]
    counts: Sequence[int]

    @classmethod
    def of(cls, nanoseconds: NDArray[np.int64]) -> Histogram:
        """The histogram of single times."""
        digits = np.floor(np.log10(np.maximum(nanoseconds, 1))).astype(np.int64)
        step = 10 ** np.maximum(digits - (DIGITS - 1), 0)
        values, counts = np.unique((nanoseconds + step // 2) // step * step, return_counts=True)
        return cls((values / 1e3).tolist(), counts.tolist())


@dataclass(frozen=True)
class Saved:
    """The content of a file of --save."""

    report: Mapping[str, object] = field(metadata=INLINE)  # the members of --json
    format: int
    figures: Mapping[str, Samples]  # by the benchmark's key
    histograms: Mapping[str, Mapping[str, Histogram]]


def save(path: Path, result: report.Report) -> None:
    """Write the members of `--json`, every sample and every single time. Raises BadInput."""
    histograms = {
        section.key: {name: Histogram.of(times) for name, times in section.singles.items()}
        for section in result.sections
        if section.singles
    }
    figures = {section.key: Samples.of(section) for section in result.sections}
    whole = Saved(result.members(), FORMAT, figures, histograms)
    try:
        write_whole(path, (json_text(whole) + "\n").encode())
    except OSError as error:
        raise BadInput(f"--save {path}: {error.strerror}") from error


@dataclass(frozen=True)
class Change:
    """A figure in both files."""

    section: str
    what: str
    unit: str
    before: Spread
    after: Spread
    ratio: float  # after / before
    beyond_noise: bool  # the intervals that hold the two medians do not overlap

    @classmethod
    def of(cls, section: str, what: str, unit: str, before: Spread, after: Spread) -> Change:
        """The change of a figure between its samples in either file."""
        ratio = after.median / before.median if before.median else math.nan
        low, high = before.interval()
        other_low, other_high = after.interval()
        apart = other_low > high or other_high < low
        return cls(section, what, unit, before, after, ratio, apart)


@dataclass(frozen=True)
class Changes:
    """The figures that two files have in common."""

    before: str  # the files' paths
    after: str
    machine_differs: Mapping[str, Sequence[object]]  # the property in either file
    figures: Sequence[Change]


def compare(before: Path, after: Path) -> Changes:
    """Compare two files. Raises BadInput for a file that `save` did not write."""
    was, now = _load(before), _load(after)
    machines = was["machine"], now["machine"]
    differs = {
        name: [machine.get(name) for machine in machines]
        for name in machines[0] | machines[1]
        if name != "load" and machines[0].get(name) != machines[1].get(name)
    }
    return Changes(str(before), str(after), differs, _changes(was, now))


def show(changes: Changes, as_json: bool) -> None:
    """Print the figures of both files, changes first."""
    if as_json:
        print_json(report.encoded(changes))
        return
    for name, (was, now) in changes.machine_differs.items():
        print(f"The machines differ: {name} {was}, then {now}")
    _print(changes.figures)


def samples(option: str, path: Path, section: str, what: Sequence[str]) -> tuple[str, list[float]]:
    """The first of these figures that a section has: its name and samples. Raises BadInput."""
    found = _load(path, option)["figures"].get(section, {}).get("samples", {})
    for name in what:
        if name in found:
            return name, found[name]
    raise BadInput(f"{option} {path}: expected a file of `bench {section} --save`")


def _load(path: Path, option: str = "--compare") -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_MAX + 1)
        if len(data) > SIZE_MAX:
            raise BadInput(f"{option} {path}: expected at most {SIZE_MAX >> 20} MiB, got more")
        whole = json.loads(data)
    except OSError as error:
        raise BadInput(f"{option} {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{option} {path}: expected a file of --save, got no JSON") from error
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise BadInput(f"{option} {path}: expected a file of --save, format {FORMAT}")
    wrong = _what_is_wrong(whole)
    if wrong:
        raise BadInput(f"{option} {path}: expected a file of --save, {wrong} is missing or wrong")
    return whole


def _what_is_wrong(whole: Mapping[str, Any]) -> str | None:
    """The first part that `save` would have written otherwise; None if there is none."""
    for name in ("machine", "figures"):
        if not isinstance(whole.get(name), dict):
            return name
    for key, told in whole["figures"].items():
        if not isinstance(told, dict) or not isinstance(told.get("unit"), str):
            return f"the unit of {key}"
        if not isinstance(told.get("samples"), dict):
            return f"samples of {key}"
        for what, samples in told["samples"].items():
            if not isinstance(samples, list) or not samples or not all(map(_is_sample, samples)):
                return f"{key}, {what!r}"
    return None


def _is_sample(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """The figures of both: those beyond the noise first, then by the size of the change."""
    changes = [
        Change.of(key, what, told["unit"], spread(samples), spread(others))
        for key, told in before["figures"].items()
        for what, samples in told["samples"].items()
        if (others := after["figures"].get(key, {}).get("samples", {}).get(what))
    ]
    return sorted(changes, key=lambda c: (not c.beyond_noise, -abs(math.log(abs(c.ratio) or 1))))


def _print(changes: Sequence[Change]) -> None:
    beyond = [change for change in changes if change.beyond_noise]
    if beyond:
        rows = [
            (
                (f"{change.section}: {change.what}", ""),
                (
                    f"{report.text(change.before.median)} {change.unit}",
                    f"{report.text(change.after.median)} {change.unit}",
                    f"{change.ratio:.2f}",
                ),
            )
            for change in beyond
        ]
        heads = ("before, median", "after, median", "after / before")
        print_table(report.narrow_table("What changed beyond the noise", heads, rows))
    print(
        f"{len(beyond)} of {len(changes)} figures changed beyond the noise: "
        "the 95 % confidence intervals of their medians do not overlap."
    )

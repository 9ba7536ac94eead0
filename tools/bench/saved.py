"""Results in a file, and what changed between two of them beyond the noise."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from coalesced.tools.bench import report
from coalesced.tools.bench.measure import Spread, spread
from coalesced.tools.errors import BadInput
from coalesced.tools.runs.report import print_json, print_table
from coalesced.vmm.output import write_whole

FORMAT = 1
SIZE_MAX = 1 << 26


def save(
    path: Path,
    sections: Sequence[report.Section],
    machine: Mapping[str, object],
    complete: bool,
) -> None:
    """Write what `--json` prints, every sample and every histogram. Raises BadInput."""
    whole = report.as_object(sections, machine, complete)
    whole["format"] = FORMAT
    whole["figures"] = {
        section.key: {
            "title": section.title,
            "unit": section.unit,
            "samples": {what: list(f.samples) for what, f, _ in section.rows if f.samples},
        }
        for section in sections
    }
    whole["histograms"] = {
        section.key: {name: histogram.as_json() for name, histogram in section.histograms.items()}
        for section in sections
        if section.histograms
    }
    try:
        write_whole(path, (json.dumps(whole) + "\n").encode())
    except OSError as error:
        raise BadInput(f"--save {path}: {error.strerror}") from error


class Change(NamedTuple):
    """A figure in both files."""

    section: str
    what: str
    unit: str
    before: Spread
    after: Spread

    @property
    def ratio(self) -> float:
        """After by before."""
        return self.after.median / self.before.median if self.before.median else math.nan

    @property
    def beyond_noise(self) -> bool:
        """Can the two medians not be the same, each being where its interval says?"""
        low, high = self.before.interval()
        other_low, other_high = self.after.interval()
        return other_low > high or other_high < low


def compare(before: Path, after: Path, as_json: bool) -> None:
    """Print what both files have, what changed first. Raises BadInput for a file that is none."""
    loaded = [_load(path) for path in (before, after)]
    changes = _changes(*loaded)
    machines = [one["machine"] for one in loaded]
    differs = {
        name: [machine.get(name) for machine in machines]
        for name in machines[0] | machines[1]
        if name != "load" and machines[0].get(name) != machines[1].get(name)
    }
    if as_json:
        print_json(_as_object(before, after, differs, changes))
        return
    for name, (was, now) in differs.items():
        print(f"Another machine: {name} {was}, then {now}")
    _print(changes)


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_MAX + 1)
        if len(data) > SIZE_MAX:
            raise BadInput(f"--compare {path}: expected at most {SIZE_MAX >> 20} MiB, got more")
        whole = json.loads(data)
    except OSError as error:
        raise BadInput(f"--compare {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"--compare {path}: expected a file of --save, it is no JSON") from error
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise BadInput(f"--compare {path}: expected a file of --save, format {FORMAT}")
    wrong = _what_is_wrong(whole)
    if wrong:
        raise BadInput(f"--compare {path}: expected a file of --save, {wrong} is missing or wrong")
    return whole


def _what_is_wrong(whole: Mapping[str, Any]) -> str | None:
    """The first part of a file that is not what `save` writes; None when all is well."""
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
    """Those beyond the noise first, the greatest change first within each."""
    changes = [
        Change(key, what, told["unit"], spread(samples), spread(others))
        for key, told in before["figures"].items()
        for what, samples in told["samples"].items()
        if (others := after["figures"].get(key, {}).get("samples", {}).get(what))
    ]
    return sorted(changes, key=lambda c: (not c.beyond_noise, -abs(math.log(c.ratio or 1))))


def _as_object(
    before: Path, after: Path, differs: dict[str, list[object]], changes: Sequence[Change]
) -> dict[str, object]:
    return {
        "before": str(before),
        "after": str(after),
        "machine_differs": differs,
        "figures": [
            {
                "section": change.section,
                "what": change.what,
                "unit": change.unit,
                "before": report.rounded(change.before.median),
                "after": report.rounded(change.after.median),
                "ratio": report.rounded(change.ratio),
                "beyond_noise": change.beyond_noise,
            }
            for change in changes
        ],
    }


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
        "the intervals that hold their medians, 95 % sure each, do not meet."
    )

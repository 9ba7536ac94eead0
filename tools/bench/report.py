"""Figures as one JSON object, or as tables with units and the spread of the repetitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tools.bench import kvm
from tools.bench.exits import ExitResult
from tools.bench.measure import Spread
from tools.bench.ring import RingResult
from tools.bench.vga import VgaResult
from tools.report import print_json, print_table

if TYPE_CHECKING:
    from rich.table import Table

Row = tuple[str, Spread, str]  # what, figure, remark


class Section(NamedTuple):
    """What one benchmark has to say."""

    key: str
    values: dict[str, object]
    title: str
    unit: str
    rows: list[Row]


def show(sections: Sequence[Section], machine: Mapping[str, object], as_json: bool) -> None:
    """Print the sections, with the machine that they hold on."""
    if as_json:
        print_json({"machine": dict(machine), **{s.key: s.values for s in sections}})
        return
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    for section in sections:
        print_table(_table(section))


def _table(section: Section) -> Table:
    from rich.table import Table  # noqa: PLC0415 - --json does not need it

    table = Table(title=section.title, title_justify="left")
    table.add_column("")
    table.add_column(f"median, {section.unit}", justify="right")
    table.add_column(f"min to max, {section.unit}", justify="right")
    table.add_column("")
    for what, figure, remark in section.rows:
        table.add_row(
            what, _text(figure.median), f"{_text(figure.low)} to {_text(figure.high)}", remark
        )
    return table


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def ring(result: RingResult) -> Section:
    """Nanoseconds per entry; peers as multiples of the ring."""
    ours = result.batched.median
    best = min(result.peers.items(), key=lambda item: item[1].median, default=None)
    values: dict[str, object] = {
        "ns_per_entry": _rounded(ours),
        "batch": _rounded(result.batch),
        "ns_per_entry_each": _rounded(result.each.median),
        "ring_pages": result.ring_pages,
        "best_peer_ratio": _rounded(best[1].median / ours) if best else None,
        "peers": _medians(result.peers),
        "floors": _medians(result.floors),
        "spread": {
            **_spreads({"ns_per_entry": result.batched, "ns_per_entry_each": result.each}),
            "peers": _spreads(result.peers),
            "floors": _spreads(result.floors),
        },
    }
    rows: list[Row] = [
        ("ring, published in batches", result.batched, f"{result.batch:.0f} entries a drain"),
        ("ring, every entry published", result.each, ""),
    ]
    rows += [
        (f"peer: {name}", figure, f"{figure.median / ours:,.0f} times the ring")
        for name, figure in result.peers.items()
    ]
    rows += [(f"floor: {name}", figure, "") for name, figure in result.floors.items()]
    title = f"A 24-byte entry, two processes, ring of {result.ring_pages} pages"
    return Section("ring", values, title, "ns", rows)


def exit_(results: Mapping[str, ExitResult]) -> Section:
    """Microseconds per round trip; `split` at the top, null with one CPU, `same` within."""
    rows: list[Row] = []
    for placement, result in results.items():
        rows.append((f"{placement}: C ping-pong over two pipes", result.floor, "the floor"))
        for policy, figure in result.policies.items():
            middle, late = result.percentiles[policy]
            remark = (
                f"{figure.median / result.floor.median:.2f} times the floor, "
                f"single ones p50 {_text(middle)}, p99 {_text(late)}"
            )
            rows.append((f"{placement}: --wait {policy}", figure, remark))
    values = {**_exit_values(results.get("split")), "same": _exit_values(results.get("same"))}
    return Section("exit", values, "The round trip of an exit, a load", "us", rows)


def _exit_values(result: ExitResult | None) -> dict[str, object]:
    if result is None:
        keys = ("floor_pipe_us", "block_us", "adaptive_us", "poll_us")
        return dict.fromkeys(keys)
    figures = {"floor_pipe_us": result.floor}
    figures |= {f"{policy}_us": figure for policy, figure in result.policies.items()}
    return {
        **_medians(figures),
        "block_ratio": _rounded(result.policies["block"].median / result.floor.median),
        "p50_us": {policy: _rounded(p[0]) for policy, p in result.percentiles.items()},
        "p99_us": {policy: _rounded(p[1]) for policy, p in result.percentiles.items()},
        "spread": _spreads(figures),
    }


def vga(result: VgaResult) -> Section:
    """Nanoseconds per write; the first size of the ring at the top, every size in `rings`."""
    rings = [
        {"ring_pages": pages, "coalesced_ns_per_write": _rounded(figure.median)}
        for pages, figure in result.coalesced.items()
    ]
    rows: list[Row] = [
        (f"coalesced, ring of {pages} page{'s' * (pages > 1)}", figure, f"--wait {result.wait}")
        for pages, figure in result.coalesced.items()
    ]
    rows.append(("every write exits", result.exit, f"--wait {result.wait}"))
    rows.append(("direct, one process", result.direct, "no ring"))
    rows += kvm.rows(result.on_kvm) if result.on_kvm else []
    values: dict[str, object] = {
        **rings[0],
        "exit_ns_per_write": _rounded(result.exit.median),
        "direct_ns_per_write": _rounded(result.direct.median),
        "wait": result.wait,
        "rings": rings,
        **({"kvm": kvm.values(result.on_kvm)} if result.on_kvm else {}),
        "spread": {
            "coalesced_ns_per_write": _spreads(
                {str(pages): figure for pages, figure in result.coalesced.items()}
            ),
            **_spreads({"exit_ns_per_write": result.exit, "direct_ns_per_write": result.direct}),
        },
    }
    return Section("vga", values, "A planar VGA write, end to end", "ns", rows)


def _medians(figures: Mapping[str, Spread]) -> dict[str, object]:
    return {name: _rounded(figure.median) for name, figure in figures.items()}


def _spreads(figures: Mapping[str, Spread]) -> dict[str, object]:
    return {name: [_rounded(figure.low), _rounded(figure.high)] for name, figure in figures.items()}


def _rounded(value: float) -> float:
    return round(value, 3)

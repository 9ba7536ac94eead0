"""`coalesced replay`: a recorded run of a real driver as the guest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from coalesced.hv.printable import printable
from coalesced.tools import traces
from coalesced.tools.commands.options import DeviceOption, png_option, with_run_options
from coalesced.tools.runs import report
from coalesced.tools.runs.boards import DEFAULT_MACHINE
from coalesced.tools.runs.options import RunOptions, picture
from coalesced.tools.runs.outputs import check_apart, guest_files
from coalesced.tools.runs.replay import NOT_HERE, Replay
from coalesced.tools.runs.replay import replay as run_replay
from coalesced.tools.traces.trace import read

EXAMPLES = (
    "Examples: coalesced replay boot --text · coalesced replay my.trace.gz --json · "
    "record a trace with qemu-system-x86_64 -trace 'memory_region_ops_*' …"
)
JOINED = (
    "joined to another one: QEMU logs each byte of a word that the guest wrote or read in a text "
    "window or as an index and its data, and an access that crosses a page is two"
)


@with_run_options(without=("netdev", "pcap"), staleness="off")
def replay(
    options: RunOptions,
    json: bool,
    trace: Annotated[
        str, typer.Argument(metavar="TRACE", help="A trace file, or one of: boot, e1000.")
    ],
    device: DeviceOption = None,
    text: Annotated[bool, typer.Option("--text", help="Print the text screen.")] = False,
    png: Annotated[Path | None, png_option("replay.png")] = None,
) -> int:
    """Run the accesses of a recorded trace as the guest, and check the value of every load."""
    wanted = picture(png, "replay.png")
    source = traces.find(trace)
    files = {"the recording": source, **guest_files("", device or [])}
    check_apart(options.outputs(wanted), files)
    result = run_replay(read(source), device or DEFAULT_MACHINE, options, wanted, text)
    if json:
        report.print_json(result)
    else:
        _print(trace, result)
    report.print_failures([result.run])
    return 1 if result.mismatches or result.run.failed_writes else 0


def _print(name: str, result: Replay) -> None:
    plain = result.exits_without_coalescing
    rows = {
        "accesses": f"{result.accesses:,}",
        "  writes": f"{result.writes:,}",
        "  reads": f"{result.reads:,}",
        "queued in the ring": f"{result.run.coalesced:,}",
        "exits": f"{result.run.exits:,} ({report.by_reason(result.run.exits_by, ', ')})",
        "exits without coalescing": f"{plain:,}: {1 - result.run.exits / plain:.1%} saved",
        "reads equal to the recording": f"{result.reads_matching:,} of "
        f"{result.reads_checked:,} checked",
        **_unchecked_rows(result),
        "no device there": f"{result.run.unassigned:,}",
        "time, ms": f"{result.run.seconds * 1e3:,.1f}",
        "waited, p50 / p99 / max, µs": report.wait(result.run.waits.wait_us),
        "screen": result.png or "none",
    }
    report.print_rows(f"Replay of {printable(name)}", rows)
    report.print_unanswered(result.run)
    for line in _lines(result):
        print(line)
    for wrong in result.mismatches:
        print(
            f"line {wrong.line}: {wrong.name} {wrong.address:#x} size {wrong.size}: "
            f"recorded {wrong.expected:#x}, got {wrong.got:#x}"
        )
    if more := result.reads_checked - result.reads_matching - len(result.mismatches):
        print(f"{more:,} more reads differ")
    if result.screen is not None:
        _print_text(result.screen.text)


def _lines(result: Replay) -> Iterator[str]:
    """A sentence for each kind of line that is not an access of its own."""
    counted = result.counted
    for count, sentence in (
        (counted.joined, JOINED),
        (counted.nested, "left out: a region passed the access to another one, and QEMU logs both"),
        (counted.no_vcpu, "left out: cpu -1 is not a vCPU"),
    ):
        if count:
            yield f"{count:,} of {counted.lines:,} lines {sentence}."
    if result.string_accesses:
        ports = ", ".join(f"{port}: {n:,}" for port, n in result.string_accesses.items())
        yield (
            f"{sum(result.string_accesses.values()):,} string instructions left out (ports {ports})"
            ": a recording has only the first value of each."
        )
    for event, count in result.apart.items():
        yield f"{count:,} lines {event}_* left out: their addresses are offsets in a region."
    if (first := result.first_skipped) is not None:
        yield (
            f"{result.skipped:,} lines skipped that are not accesses; the first is line "
            f"{first.line}: {first.text}"
        )


def _unchecked_rows(result: Replay) -> dict[str, str]:
    """The loads that were not checked, and the parts that the machine lacks."""
    missing = {**result.missing_functions, **result.missing_regions}
    return {
        **{f"  checked without {key}": f"{count:,}" for key, count in result.masked.items()},
        **{
            f"  not checked: {key}": f"{count:,}"
            for key, count in result.unchecked.items()
            if not key.endswith(NOT_HERE)
        },
        **{f"  not on this machine: {key}": f"{n:,} accesses" for key, n in missing.items()},
    }


def _print_text(text: list[str] | None) -> None:
    if text is None:
        print("The screen is not in a text mode.")
    else:
        print("\n".join(printable(row) for row in text).rstrip("\n"))


def register(app: typer.Typer) -> None:
    """Add `replay` to the program."""
    app.command("replay", epilog=EXAMPLES)(replay)

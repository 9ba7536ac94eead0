"""`coalesced replay`: a recorded run of a real driver as the guest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from coalesced.devices.bus.pci import BASE_ADDRESS_0, COMMAND, COMMAND_IO, COMMAND_MEMORY
from coalesced.devices.bus.region import Region
from coalesced.hv.abi import OP, PAGE_SIZE
from coalesced.hv.printable import printable
from coalesced.tools import traces
from coalesced.tools.commands.options import (
    Accel,
    AccelOption,
    Cpus,
    CpusOption,
    JsonOption,
    NoCoalesceOption,
    RingPagesOption,
    RunOptions,
    StalenessOption,
    TracebackOption,
    TraceOption,
    Wait,
    WaitOption,
    path_of,
    picture,
    png_option,
    run_options,
)
from coalesced.tools.guests.replay import PROGRAM
from coalesced.tools.runs import report, session
from coalesced.tools.runs.boards import DEFAULT_DEVICE, DeviceOption
from coalesced.tools.runs.outputs import check_apart, guest_files, trace_file
from coalesced.tools.runs.runner import Job, run_job
from coalesced.tools.traces import lacking, unchecked
from coalesced.tools.traces.tracefile import Trace, shown
from coalesced.tools.traces.tracefile import read as read_trace
from coalesced.vmm.accel.base import GuestMemory
from coalesced.vmm.accel.kvm import KvmAccelerator
from coalesced.vmm.accel.recording import Recording
from coalesced.vmm.board import Board
from coalesced.vmm.counters import Counters
from coalesced.vmm.machine import Machine

EXAMPLES = (
    "Examples: coalesced replay boot --text · coalesced replay my.trace.gz --json · "
    "qemu-system-x86_64 -trace 'memory_region_ops_*' … records one"
)
MISMATCHES_SHOWN = 10
LINE_SENTENCES = {
    "joined": "joined to another one: QEMU logs each byte of a word that the guest wrote or read "
    "in a text window or as an index and its data",
    "nested": "left out: a region handed the access on to another one, and QEMU logs both",
    "no_vcpu": "left out: cpu -1 is no vCPU",
}
NOT_HERE = " (not on this machine)"
DEFAULT_MACHINE = [DEFAULT_DEVICE, "e1000,addr=03.0"]


@dataclass(frozen=True)
class Stage:
    """A PC, and the RAM outside the machine that holds the program."""

    board: Board
    program: GuestMemory | None  # None: the guest is machine code


@dataclass(frozen=True)
class Seen:
    """What there was to see after the replay."""

    results: NDArray[np.void]
    regions: dict[str, NDArray[np.bool_]]  # per region that the machine lacks: its accesses
    functions: dict[str, NDArray[np.bool_]]  # the same of PCI functions
    screen: NDArray[np.uint8] | None
    text: list[str] | None


def replay(
    trace: Annotated[
        str, typer.Argument(metavar="TRACE", help="A trace file, or one of: boot, e1000.")
    ],
    device: DeviceOption = None,
    accel: AccelOption = Accel.process,
    ring_pages: RingPagesOption = 1,
    wait: WaitOption = Wait.adaptive,
    staleness: StalenessOption = "off",
    no_coalesce: NoCoalesceOption = False,
    cpus: CpusOption = Cpus.anywhere,
    trace_out: TraceOption = None,
    text: Annotated[bool, typer.Option("--text", help="Print the text screen.")] = False,
    png: Annotated[Path | None, png_option("replay.png")] = None,
    _traceback: TracebackOption = False,
    json: JsonOption = False,
) -> None:
    """Run the accesses of a recorded trace as the guest, and check every load's value."""
    options = run_options(accel, ring_pages, wait, staleness, no_coalesce, cpus, trace_out)
    wanted = picture(png, "replay.png")
    source = traces.find(trace)
    files = {"the recording": source, **guest_files("", device or [])}
    check_apart({"--trace": trace_out, "--png": path_of(wanted)}, files)
    recorded = read_trace(source)
    run, counters, seen = _run(recorded, options, device or DEFAULT_MACHINE)
    result = _result(recorded, run, counters, seen)
    result["png"] = None if seen.screen is None else session.save_picture(wanted, seen.screen)
    if text:
        result["text"] = seen.text
    if json:
        report.print_json(result)
    else:
        _print(trace, result)
        if text:
            _print_text(seen.text)
    report.print_failures([{**run, "load_mismatches": []}])
    raise typer.Exit(1 if result["mismatches"] or run["failed_writes"] else 0)


def _run(
    recorded: Trace, options: RunOptions, specs: list[str]
) -> tuple[report.Run, Counters, Seen]:
    ops = recorded.ops
    size = max(-(-ops.nbytes // PAGE_SIZE), 1) * PAGE_SIZE

    def build(machine: Machine) -> Stage:
        board = session.board_of(specs)(machine)
        _place_bars(board, recorded)
        if isinstance(machine.accel, KvmAccelerator):
            return Stage(board, None)
        return Stage(board, machine.add_ram(PROGRAM, size, declared=False))

    def load_program(_machine: Machine, stage: Stage) -> None:
        if stage.program is not None:
            stage.program.write(0, ops.tobytes())

    def inspect(machine: Machine, stage: Stage) -> Seen:
        screen = session.screen_of(machine, stage.board)
        results = _results(machine, stage, recorded)
        displays = stage.board.displays
        text = displays[0].text() if displays else None
        return Seen(
            results,
            lacking.regions(machine, recorded),
            lacking.functions(stage.board, recorded),
            screen,
            text,
        )

    job = Job(
        "coalesced.tools.guests.replay:run",
        {"count": len(ops)},
        build,
        inspect,
        load_program,
        record=lambda _guest, _arguments: Recording([ops]),
    )
    with trace_file(options.trace) as trace:
        return run_job(job, options, options.accel, options.coalesce, trace)


def _results(machine: Machine, stage: Stage, recorded: Trace) -> NDArray[np.void]:
    """The accesses with the values that the loads gave now."""
    if stage.program is not None:
        return np.frombuffer(stage.program.read(0, recorded.ops.nbytes), dtype=OP)
    assert isinstance(machine.accel, KvmAccelerator)
    results = recorded.ops.copy()
    results["value"][recorded.reads] = machine.accel.loads()[1]
    return results


def _place_bars(board: Board, recorded: Trace) -> None:
    """Put each BAR that the guest does not place where its first access to that region says."""
    config = lacking.Config.of(recorded)
    for slot, function in board.bus.functions().items():
        for number, bar in function.bars.items():
            named = [n for n, name in enumerate(recorded.names) if _names(name, bar.region)]
            found = np.flatnonzero(np.isin(recorded.region, named))
            if not len(found) or config.places_bar(slot, number):
                continue
            base = int(recorded.ops["address"][found[0]]) & ~(bar.region.size - 1)
            function.config_write(BASE_ADDRESS_0 + 4 * number, 4, base & 0xFFFFFFFF)
            decode = COMMAND_IO if bar.io else COMMAND_MEMORY
            function.config_write(COMMAND, 2, function.command | decode)


def _names(recorded: str, region: Region) -> bool:
    return recorded != "unnamed" and lacking.is_region(recorded, region)


def _result(recorded: Trace, run: report.Run, counters: Counters, seen: Seen) -> dict[str, object]:
    ops, reads = recorded.ops, recorded.reads
    checked = reads.copy()
    apart: dict[str, int] = {}
    for name, mask in {**seen.functions, **seen.regions}.items():
        if (checked & mask).any():
            apart[f"{name}{NOT_HERE}"] = int((checked & mask).sum())
        checked &= ~mask
    for name, mask in unchecked.whole(recorded).items():
        apart[name] = int((checked & mask).sum())
        checked &= ~mask
    masked: dict[str, int] = {}
    left_out = np.zeros(len(ops), dtype=np.uint64)
    for name, (mask, bits) in unchecked.in_part(recorded).items():
        masked[name] = int((checked & mask).sum())
        left_out[mask] = bits
    equal = seen.results["value"] | left_out == ops["value"] | left_out
    wrong = np.flatnonzero(checked & ~equal)
    return {
        "trace": str(recorded.path),
        "accesses": len(ops),
        **_lines(recorded),
        "writes": int((~reads).sum()),
        "reads": int(reads.sum()),
        "coalesced": counters.coalesced,
        "exits": counters.exits,
        "exits_without_coalescing": counters.exits + counters.coalesced,
        "exits_by": run["exits_by"],
        "reads_checked": int(checked.sum()),
        "reads_matching": int((checked & equal).sum()),
        "unchecked": apart,
        "masked": masked,
        "unassigned": run["unassigned"],
        "missing_regions": {name: int(mask.sum()) for name, mask in seen.regions.items()},
        "missing_functions": {name: int(mask.sum()) for name, mask in seen.functions.items()},
        "mismatches": [_mismatch(recorded, seen.results, i) for i in wrong[:MISMATCHES_SHOWN]],
        "wait_us": run["wait_us"],
        "waited_longest": run["waited_longest"],
        "slept_on": run["slept_on"],
        "seconds": run["seconds"],
        "signals": run["signals"],
        "stale_drains": run["stale_drains"],
        "accel": run["accel"],
        "coalescing": run["coalescing"],
        "state": run["state"],
    }


def _lines(recorded: Trace) -> dict[str, object]:
    """What became of the lines of the trace."""
    counted, first = recorded.counted, recorded.first_foreign
    return {
        "lines": counted.lines,
        "joined": counted.joined,
        "nested": counted.nested,
        "no_vcpu": counted.no_vcpu,
        "apart": dict(recorded.apart),
        "skipped": recorded.foreign,
        "first_skipped": first and {"line": first.line, "text": shown(first)},
    }


def _mismatch(recorded: Trace, results: NDArray[np.void], index: int) -> dict[str, object]:
    op = recorded.ops[index]
    return {
        "line": int(recorded.lines[index]),
        "name": recorded.names[recorded.region[index]],
        "address": int(op["address"]),
        "size": int(op["size"]),
        "expected": int(op["value"]),
        "got": int(results[index]["value"]),
    }


def _print(name: str, result: dict[str, object]) -> None:
    from rich.table import Table  # noqa: PLC0415

    exits, plain, seconds = result["exits"], result["exits_without_coalescing"], result["seconds"]
    exits_by, mismatches = result["exits_by"], result["mismatches"]
    assert isinstance(exits, int)
    assert isinstance(plain, int)
    assert isinstance(seconds, float)
    assert isinstance(exits_by, dict)
    assert isinstance(mismatches, list)
    table = Table(title=f"Replay of {printable(name)}", title_justify="left", show_header=False)
    rows = {
        "accesses": f"{result['accesses']:,}",
        "  writes": f"{result['writes']:,}",
        "  reads": f"{result['reads']:,}",
        "queued in the ring": f"{result['coalesced']:,}",
        "exits": f"{exits:,} ({', '.join(f'{k} {v:,}' for k, v in exits_by.items() if v)})",
        "exits without coalescing": f"{plain:,}: {1 - exits / plain:.1%} saved",
        "reads equal to the recording": f"{result['reads_matching']:,} of "
        f"{result['reads_checked']:,} checked",
        **_unchecked_rows(result),
        "no device there": f"{result['unassigned']:,}",
        "time, ms": f"{seconds * 1e3:,.1f}",
        "waited, p50 / p99 / max, µs": report.wait(result["wait_us"]),
        "screen": str(result["png"] or "none"),
    }
    for key, value in rows.items():
        table.add_row(key, value)
    report.print_table(table)
    _print_lines(result)
    for wrong in mismatches:
        print(
            f"line {wrong['line']}: {wrong['name']} {wrong['address']:#x} size {wrong['size']}: "
            f"recorded {wrong['expected']:#x}, got {wrong['got']:#x}"
        )


def _print_lines(result: dict[str, object]) -> None:
    """A sentence for each kind of line that is not simply an access."""
    apart, first, lines = result["apart"], result["first_skipped"], result["lines"]
    assert isinstance(apart, dict)
    for key, sentence in LINE_SENTENCES.items():
        if result[key]:
            print(f"{result[key]:,} of {lines:,} lines {sentence}.")
    for event, count in apart.items():
        print(f"{count:,} lines {event}_* left out: their addresses are offsets in a region.")
    if isinstance(first, dict):
        print(
            f"{result['skipped']:,} lines skipped that are no accesses; the first is line "
            f"{first['line']}: {first['text']}"
        )


def _unchecked_rows(result: dict[str, object]) -> dict[str, str]:
    """What was not checked, and what the machine lacks."""
    unchecked_, masked = result["unchecked"], result["masked"]
    regions, functions = result["missing_regions"], result["missing_functions"]
    assert isinstance(unchecked_, dict)
    assert isinstance(masked, dict)
    assert isinstance(regions, dict)
    assert isinstance(functions, dict)
    return {
        **{f"  checked without {key}": f"{count:,}" for key, count in masked.items()},
        **{
            f"  not checked: {key}": f"{count:,}"
            for key, count in unchecked_.items()
            if not key.endswith(NOT_HERE)
        },
        **{
            f"  not on this machine: {key}": f"{count:,} accesses"
            for key, count in {**functions, **regions}.items()
        },
    }


def _print_text(text: list[str] | None) -> None:
    if text is None:
        print("The screen is not in a text mode.")
    else:
        print("\n".join(printable(row) for row in text).rstrip("\n"))


def register(app: typer.Typer) -> None:
    """Add `replay` to the program."""
    app.command("replay", epilog=EXAMPLES)(replay)

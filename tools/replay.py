"""`coalesced replay`: a recorded run of a real driver as the guest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from devices.bus.pci import BASE_ADDRESS_0, COMMAND, COMMAND_IO, COMMAND_MEMORY
from hv.abi import OP, OP_IN, OP_OUT, PAGE_SIZE
from tools import report, session, traces, unchecked
from tools.devices import DEFAULT_DEVICE, DeviceOption
from tools.guests.replay import PROGRAM
from tools.options import (
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
    picture,
    png_option,
    run_options,
    trace_file,
)
from tools.runner import Job, run_job
from tools.tracefile import Trace
from tools.tracefile import read as read_trace
from vmm.accel.base import GuestMemory
from vmm.accel.kvm import KvmAccelerator
from vmm.accel.recording import Recording
from vmm.board import Board
from vmm.counters import Counters
from vmm.machine import Machine

EXAMPLES = (
    "Examples: coalesced replay boot --text · coalesced replay my.trace.gz --json · "
    "qemu-system-x86_64 -trace 'memory_region_ops_*' … records one"
)
MISMATCHES_SHOWN = 10
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
    present: NDArray[np.bool_]  # per access: does the machine have the region?
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
    recorded = read_trace(traces.find(trace))
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
    size = -(-ops.nbytes // PAGE_SIZE) * PAGE_SIZE

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
        return Seen(results, _present(machine, ops), screen, text)

    job = Job(
        "tools.guests.replay:run",
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
    """Put each BAR where the trace's first access to a region of its name says."""
    for function in board.functions:
        for number, bar in function.bars.items():
            region = bar.region
            if region.name not in recorded.names:
                continue
            first = int(np.argmax(recorded.region == recorded.names.index(region.name)))
            base = int(recorded.ops["address"][first]) & ~(region.size - 1)
            function.config_write(BASE_ADDRESS_0 + 4 * number, 4, base & 0xFFFFFFFF)
            decode = COMMAND_IO if bar.io else COMMAND_MEMORY
            function.config_write(COMMAND, 2, function.command | decode)


def _present(machine: Machine, ops: NDArray[np.void]) -> NDArray[np.bool_]:
    """Per access: does some region of the machine answer its first byte?"""
    present = np.zeros(len(ops), dtype=bool)
    is_port = (ops["kind"] == OP_IN) | (ops["kind"] == OP_OUT)
    for space, mask in ((machine.ports, is_port), (machine.memory, ~is_port)):
        addresses, places = np.unique(ops["address"][mask], return_inverse=True)
        answered = [space.region_at(address) is not None for address in addresses.tolist()]
        present[mask] = np.array(answered, dtype=bool)[places]
    return present


def _result(recorded: Trace, run: report.Run, counters: Counters, seen: Seen) -> dict[str, object]:
    ops, reads = recorded.ops, recorded.reads
    checked = reads & seen.present
    apart: dict[str, int] = {}
    for name, mask in unchecked.whole(recorded).items():
        apart[name] = int((checked & mask).sum())
        checked &= ~mask
    masked: dict[str, int] = {}
    left_out = np.zeros(len(ops), dtype=np.uint64)
    for name, (mask, bits) in unchecked.in_part(recorded).items():
        masked[name] = int((checked & mask).sum())
        left_out[mask] = bits
    missing = Counter(recorded.names[index] for index in recorded.region[~seen.present].tolist())
    for name in missing:
        lacking = ~seen.present & reads & (recorded.region == recorded.names.index(name))
        if lacking.any():
            apart[f"{name} (not on this machine)"] = int(lacking.sum())
    equal = seen.results["value"] | left_out == ops["value"] | left_out
    wrong = np.flatnonzero(checked & ~equal)
    return {
        "trace": str(recorded.path),
        "accesses": len(ops),
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
        "missing_regions": dict(missing),
        "unassigned": run["unassigned"],
        "mismatches": [_mismatch(recorded, seen.results, i) for i in wrong[:MISMATCHES_SHOWN]],
        "seconds": run["seconds"],
        "signals": run["signals"],
        "stale_drains": run["stale_drains"],
        "accel": run["accel"],
        "coalescing": run["coalescing"],
        "state": run["state"],
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
    unchecked_, masked, missing = (
        result[key] for key in ("unchecked", "masked", "missing_regions")
    )
    exits_by, mismatches = result["exits_by"], result["mismatches"]
    assert isinstance(unchecked_, dict)
    assert isinstance(masked, dict)
    assert isinstance(missing, dict)
    assert isinstance(exits_by, dict)
    assert isinstance(mismatches, list)
    exits, plain = result["exits"], result["exits_without_coalescing"]
    assert isinstance(exits, int)
    assert isinstance(plain, int)
    seconds = result["seconds"]
    assert isinstance(seconds, float)
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=f"Replay of {name}", title_justify="left", show_header=False)
    rows = {
        "accesses": f"{result['accesses']:,}",
        "  writes": f"{result['writes']:,}",
        "  reads": f"{result['reads']:,}",
        "queued in the ring": f"{result['coalesced']:,}",
        "exits": f"{exits:,} ({', '.join(f'{k} {v:,}' for k, v in exits_by.items() if v)})",
        "exits without coalescing": f"{plain:,}: {1 - exits / plain:.1%} saved",
        "reads equal to the recording": f"{result['reads_matching']:,} of "
        f"{result['reads_checked']:,} checked",
        **{f"  checked without {key}": f"{count:,}" for key, count in masked.items()},
        **{f"  not checked: {key}": f"{count:,}" for key, count in unchecked_.items()},
        "no device there": f"{result['unassigned']:,}",
        **{f"region not on this machine: {k}": f"{v:,} accesses" for k, v in missing.items()},
        "time, ms": f"{seconds * 1e3:,.1f}",
        "screen": str(result["png"] or "none"),
    }
    for key, value in rows.items():
        table.add_row(key, value)
    report.print_table(table)
    for wrong in mismatches:
        print(
            f"line {wrong['line']}: {wrong['name']} {wrong['address']:#x} size {wrong['size']}: "
            f"recorded {wrong['expected']:#x}, got {wrong['got']:#x}"
        )


def _print_text(text: list[str] | None) -> None:
    if text is None:
        print("The screen is not in a text mode.")
    else:
        print("\n".join(text).rstrip("\n"))


def register(app: typer.Typer) -> None:
    """Add `replay` to the program."""
    app.command("replay", epilog=EXAMPLES)(replay)

"""The README's table: a line for each thing that people ask for, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coalesced.tools.bench import report
from coalesced.tools.errors import BadInput
from coalesced.vmm.output import write_whole

Line = tuple[str, str, str]  # what, measured, beside it


def write(path: Path, sections: Sequence[report.Section], machine: Mapping[str, object]) -> None:
    """Write the table of what was measured. Raises BadInput when the file cannot be written."""
    values = {section.key: section.values for section in sections}
    lines = [line for key, make in _LINES.items() if key in values for line in make(values[key])]
    text = "\n".join(
        (
            f"| what, on {machine['cpus']} CPUs of {machine['cpu']} | measured | "
            "beside it, in the same run |",
            "|---|---:|---|",
            *(f"| {what} | {measured} | {beside} |" for what, measured, beside in lines),
            "",
        )
    )
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise BadInput(f"--table {path}: {error.strerror}") from error


def _figure(value: object, unit: str) -> str:
    return f"{report.text(value)} {unit}" if isinstance(value, int | float) else "not measured"


def _times(value: object, other: object) -> str:
    if not isinstance(value, int | float) or not isinstance(other, int | float):
        return "not measured"
    return f"{value / other:.2f}"


def _ring(ring: Mapping[str, Any]) -> list[Line]:
    floors = ring["floors"]
    peers = sorted(
        (cost, name) for name, cost in ring["peers"].items() if isinstance(cost, int | float)
    )
    beside = ", ".join(f"{_figure(cost, 'ns')} {name}" for cost, name in peers)
    pages = report.plural(ring["ring_pages"], "page")
    batched, each, alone, pipe = floors.items()
    return [
        (
            f"append + drain of an entry, two processes, {pages}, published in batches",
            _figure(ring["ns_per_entry"], "ns"),
            f"{_figure(batched[1], 'ns')} {batched[0]}, {_figure(alone[1], 'ns')} {alone[0]}",
        ),
        (
            "the same, every entry published",
            _figure(ring["ns_per_entry_each"], "ns"),
            f"{_figure(each[1], 'ns')} {each[0]}",
        ),
        ("the same entry, one per call, otherwise", _figure(pipe[1], "ns") + f" {pipe[0]}", beside),
    ]


def _exit(exits: Mapping[str, Any]) -> list[Line]:
    lines: list[Line] = []
    for placement, values in (("CPUs split", exits), ("one CPU", exits["same"])):
        if values.get("block_us") is None:
            continue
        pipe = values["floor_pipe_us"]
        lines.append(
            (
                f"exit, `--wait block`, {placement}",
                _figure(values["block_us"], "µs"),
                f"{_times(values['block_us'], pipe)} times a bare C ping-pong over two pipes, "
                f"{_figure(pipe, 'µs')}",
            )
        )
        if placement == "CPUs split":
            percentiles = ", ".join(
                f"{name} {_figure(values[key]['adaptive'], 'µs')}"
                for name, key in (("p50", "p50_us"), ("p99", "p99_us"), ("p99.9", "p99_9_us"))
            )
            lines.append(
                (
                    f"exit, `--wait adaptive`, {placement}",
                    _figure(values["adaptive_us"], "µs"),
                    f"{percentiles}; {_figure(values['floor_spin_us'], 'µs')} two spins in C",
                )
            )
    return lines


def _vga(vga: Mapping[str, Any]) -> list[Line]:
    in_qemu = ", ".join(
        f"{_figure(cost, 'ns')} QEMU on {key.split('_')[0].upper()}, {key.split('_')[1]}"
        for key, cost in vga["qemu"].items()
    )
    lines = [
        (
            f"planar VGA write, end to end, {report.plural(ring['ring_pages'], 'page')}",
            _figure(ring["coalesced_ns_per_write"], "ns"),
        )
        for ring in vga["rings"]
    ]
    beside = [""] * len(lines)
    beside[-1] = f"{_figure(vga['direct_ns_per_write'], 'ns')} in one process without a ring"
    exits = f"{_figure(vga['exit_ns_per_write'], 'ns')} every write exits"
    beside[0] = f"{exits}, {beside[0]}" if beside[0] else exits
    return [
        *((what, measured, text) for (what, measured), text in zip(lines, beside, strict=True)),
        *([("the same write in QEMU", "", in_qemu)] if in_qemu else []),
    ]


def _model(model: Mapping[str, Any]) -> list[Line]:
    return [
        (
            f"the model's constants, `--wait {wait}`",
            f"{_figure(values['round_trip_ns'], 'ns')} + {_figure(values['append_ns'], 'ns')} "
            f"+ {_figure(values['dispatch_ns'], 'ns')}",
            "round trip, append, dispatch; greatest error of a prediction "
            f"{_figure(model['error_percent']['greatest'], '%')}",
        )
        for wait, values in model["constants"].items()
    ]


def _e1000(e1000: Mapping[str, Any]) -> list[Line]:
    what = f"frames of {e1000['frame_bytes']:,} bytes "
    names = {
        "transmit": "transmitted as in Linux's trace",
        "transmit_spinning": "the same",
        "transmit_burst": "transmitted, TDT for 32 frames",
        "receive": "received",
    }
    lines = []
    for key, name in names.items():
        kind = e1000["kinds"][key]
        low, high = kind["gain_interval"] or (None, None)
        lines.append(
            (
                f"{what}{name}, `--wait {kind['wait']}`",
                _figure(kind["coalesced"]["pps"], "frames/s"),
                f"{_figure(kind['exit']['pps'], 'frames/s')} when every write exits; gained: "
                f"{_figure(kind['gain_percent'], '%')} ({_figure(low, '%')} to "
                f"{_figure(high, '%')}, 95 % sure)",
            )
        )
        what = "frames, "
    return lines


_LINES = {"ring": _ring, "exit": _exit, "vga": _vga, "e1000": _e1000, "model": _model}

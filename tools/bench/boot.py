"""SeaBIOS's time to its prompt: in two processes, and in QEMU on TCG."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from coalesced.devices.diagnostics import FIRMWARE_DEBUG_PORT, DebugConsole
from coalesced.devices.vga import PciVga
from coalesced.hv import core
from coalesced.hv.cpu.guest import GUEST
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.process import GuestProcess
from coalesced.tools.bench import host, machine_code, qemu, report
from coalesced.tools.bench.measure import Spread, Step, Taken, interleaved, rounds
from coalesced.tools.bench.registry import Options, Plan
from coalesced.tools.runs import firmware
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.board import Board
from coalesced.vmm.devicespec import parse_spec
from coalesced.vmm.machine import Machine

BEGIN: Final = b"SeaBIOS (version"
END: Final = b"No bootable device"
COALESCED: Final = "two processes, coalesced"
EXITS: Final = "two processes, every write exits"
IN_QEMU: Final = "QEMU on TCG, one process"
_MEMORY: Final = 16  # MiB
# QEMU's machine has what this one has, and an IDE controller that the BIOS looks at.
_MACHINE: Final = (
    "-nodefaults -no-user-config -display none -accel tcg -boot reboot-timeout=60000 "
    "-machine pc,smm=off,hpet=off,usb=off,vmport=off -cpu qemu32,-apic"
)
_REPETITIONS: Final = 5
_QUICK_REPETITIONS: Final = 2
_SECONDS: Final = 1.0  # of a sample, about


@dataclass(frozen=True)
class BootFigures:
    """Milliseconds from SeaBIOS's first message on the debugging console to its prompt."""

    coalesced_ms: Spread
    exits_ms: Spread
    qemu_tcg_ms: Spread


class Console:
    """Takes messages, and the times of BEGIN and END in them."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._times: dict[bytes, int] = {}

    def add(self, data: bytes) -> bool:
        """Take the next of them; whether END has come."""
        self._text += data
        for text in (BEGIN, END):
            if text in self._text:
                self._times.setdefault(text, time.monotonic_ns())
        return END in self._times

    @property
    def milliseconds(self) -> float:
        """From BEGIN to END."""
        return (self._times[END] - self._times[BEGIN]) / 1e6


def here(bios: bytes, rom: bytes, coalesce: bool) -> float:
    """Milliseconds in two processes, with a VGA and its BIOS."""
    accel = ProcessAccelerator(GuestProcess(), 1, WaitPolicy.ADAPTIVE, host.placements()[0])
    with Machine(accel, coalesce=coalesce) as machine:
        board = Board(machine, _MEMORY << 20)
        console, debug = Console(), DebugConsole(FIRMWARE_DEBUG_PORT)
        vga = PciVga()
        vga.set_rom(rom)
        board.add(vga, parse_spec("VGA,addr=02.0"))
        board.add(debug, parse_spec("isa-debugcon"))
        board.complete()
        board.pic.on_intr = machine.take_interrupts(board.pic.acknowledge).set_pin
        board.isa_bridge.route_at_reset(None)
        board.pm.disable_smm()
        board.add_bios(bios)

        def sent(data: bytes) -> None:
            if console.add(data):
                machine.stop()

        debug.send = sent
        machine.run(GUEST)
        return console.milliseconds


def in_qemu(bios: Path, rom: Path) -> float:
    """Milliseconds in QEMU, which translates the same code in one process. Raises Unusable."""
    program = shutil.which(qemu.PROGRAM)
    if program is None:
        raise qemu.Unusable(f"no {qemu.PROGRAM} on the PATH")
    console, deadline = Console(), time.monotonic() + qemu.PATIENCE
    with subprocess.Popen(
        [
            program, *_MACHINE.split(), "-m", str(_MEMORY), "-bios", bios,
            "-device", f"VGA,addr=02.0,romfile={rom}",
            "-chardev", "stdio,id=c",
            "-device", f"isa-debugcon,iobase={FIRMWARE_DEBUG_PORT},chardev=c",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        process_group=0,  # only this process handles Ctrl-C
        preexec_fn=core.die_with_parent,  # noqa: PLW1509 - no threads here
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            while True:
                left = max(deadline - time.monotonic(), 0)
                ready, _, _ = select.select([process.stdout], [], [], left)
                data = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
                if not data:
                    raise qemu.Unusable("QEMU on TCG: SeaBIOS did not show its prompt")
                if console.add(data):
                    return console.milliseconds
        finally:
            process.kill()


def plan(options: Options) -> Plan:
    """The same firmware in both."""
    repetitions = _QUICK_REPETITIONS if options.quick else _REPETITIONS
    steps = 3 * rounds(repetitions)
    return Plan(steps, steps * _SECONDS, lambda step: measure(repetitions, step))


def measure(repetitions: int, step: Step) -> report.Section:
    """Measure in turns; what this machine lacks is named."""
    bios, rom = firmware.find(firmware.BIOS), firmware.find(firmware.ROMS["VGA"])
    if bios is None or rom is None:
        return section(Taken(), {"SeaBIOS": "apt install seabios"})
    subjects: dict[str, Callable[[], float]] = {}
    missing = {}
    if why := machine_code.why_not():
        missing["two processes"] = why
    else:
        for name, coalesce in ((COALESCED, True), (EXITS, False)):
            subjects[name] = partial(here, bios.read_bytes(), rom.read_bytes(), coalesce)
    try:
        in_qemu(bios, rom)
    except qemu.Unusable as error:
        missing[IN_QEMU] = str(error)
    else:
        subjects[IN_QEMU] = partial(in_qemu, bios, rom)
    return section(interleaved(subjects, repetitions, step), missing)


def section(taken: Taken, missing: Mapping[str, str]) -> report.Section:
    """Milliseconds from the first message to the prompt."""
    figures = BootFigures(taken[COALESCED], taken[EXITS], taken[IN_QEMU])
    rows = [report.Row(name, taken[name]) for name in (COALESCED, EXITS, IN_QEMU)]
    title = "SeaBIOS, from its first message to its prompt"
    return report.Section("boot", figures, title, "ms", rows, missing=missing)

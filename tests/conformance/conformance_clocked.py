"""Chips whose answers follow the clock, compared with a QEMU that is stopped to be looked at.

Record QEMU's replies anew, with QEMU 7.2 installed:

    PYTHONPATH=tests .venv/bin/python tests/conformance/conformance_clocked.py
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from conformance_script import Lines, seeded

from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.board import Board
from coalesced.vmm.devicespec import create, parse_spec
from coalesced.vmm.machine import Machine
from helpers.qtest_clock import SteppedQemu

FOLDER = Path(__file__).parent / "recorded"
ROUNDS = 60
HEAD_START = 0.5  # seconds, in which this program's board is built: time never goes back
ROUNDING = 20  # nanoseconds by which QEMU's time may be later than told
_SIZES = {"b": 1, "w": 2, "l": 4}

Stretch = tuple[int, list[tuple[str, str]]]
"""A time in nanoseconds, and commands at that time with QEMU's replies."""


@dataclass(frozen=True)
class Clocked:
    """Commands of a round, after those of `first`, and waits between rounds in seconds."""

    name: str
    devices: tuple[str, ...]
    waits: tuple[float, ...]
    first: tuple[str, ...]
    build: Callable[[Lines, Random], None]


class Ours:
    """A board of this program in this process, whose clock stands."""

    def __init__(self, devices: tuple[str, ...]) -> None:
        self._ports = (machine := Machine(DirectAccelerator())).ports
        self.board = Board(machine, 16 << 20)
        self.board.clock.step(0)
        for text in devices:
            spec = parse_spec(text)
            self.board.add(create(spec), spec)
        self.answer("outb 0xcf9 0x6")

    def go_to(self, time: int) -> None:
        """Let the time come."""
        self.board.clock.set(time)

    def answer(self, command: str) -> str:
        """The reply to a command about ports."""
        word, port, *value = command.split()
        size = _SIZES[word[-1]]
        if value:
            self._ports.write(int(port, 0), size, int(value[0], 0) & (1 << 8 * size) - 1)
            return "OK"
        return f"OK 0x{self._ports.read(int(port, 0), size):04x}"

    def is_unambiguous(self, time: int) -> bool:
        """Whether no count changes within what is unknown of the time."""
        counters = [counter.ticks for counter in self.board.pit.counters]
        counters.append(self.board.pm.acpi.ticks)
        return all(ticks(time - ROUNDING) == ticks(time + ROUNDING) for ticks in counters)


def run(script: Clocked, rounds: int = ROUNDS) -> list[Stretch]:
    """Ask QEMU; where a count is about to change it waits on."""
    rng = seeded(script.name)
    ours, found = Ours(script.devices), []
    with SteppedQemu(script.devices) as theirs:
        theirs.pass_time(HEAD_START)
        for number in range(rounds):
            for _ in range(20):
                time = theirs.pass_time(rng.choice(script.waits))
                ours.go_to(time)
                if ours.is_unambiguous(time):
                    break
            lines = Lines(() if number else script.first)
            script.build(lines, rng)
            found.append((time, list(zip(lines, theirs.peer.ask_all(lines), strict=True))))
            for line in lines:
                ours.answer(line)
    return found


def differences(script: Clocked, stretches: list[Stretch]) -> list[str]:
    """A line for each reply of this program that is not the one of `stretches`."""
    ours, found = Ours(script.devices), []
    for number, (time, commands) in enumerate(stretches):
        ours.go_to(time)
        for command, reply in commands:
            got = ours.answer(command)
            if got != reply:
                found.append(f"round {number}: {command}: {reply}, got {got}")
    return found


def read(script: Clocked) -> list[Stretch]:
    """The recorded stretches."""
    text = gzip.decompress((FOLDER / f"clocked-{script.name}.json.gz").read_bytes())
    return [(time, [(c, r) for c, r in commands]) for time, commands in json.loads(text)]


def _pit(lines: Lines, rng: Random) -> None:
    """Counters in all modes; counter 0 slow enough for QEMU to keep up with its interrupt."""
    for _ in range(rng.randrange(2, 20)):
        counter, do = rng.choice((0, 0, 1, 2)), rng.randrange(16)
        if do < 8:
            lines.in_(rng.choice((0x40, 0x41, 0x42, 0x61, 0x20)))
        elif do < 11:
            mode = rng.randrange(8)
            lines.out(0x43, counter << 6 | 0x30 | mode << 1)
            lines.out(0x40 + counter, rng.randrange(256))
            lines.out(0x40 + counter, rng.randrange(8, 256))
        elif do < 13:
            lines.out(0x61, rng.randrange(4))
        elif do < 15:
            lines.out(0x43, 0xC0 | rng.randrange(32) << 1 & 0x3E)
        else:
            lines.out(0x43, counter << 6)


def _pm(lines: Lines, rng: Random) -> None:
    """ACPI's timer, its event and its interrupt."""
    for _ in range(rng.randrange(2, 12)):
        do = rng.randrange(12)
        if do < 4:
            lines.in_(0x608, rng.choice((1, 2, 4)))
        elif do < 5:
            lines.in_(0x608 + rng.randrange(4), 2)
        elif do < 8:
            lines.in_(0x600, 2)
        elif do < 9:
            lines.out(0x600, 1, 2)
        elif do < 10:
            lines.out(0x602, rng.randrange(2), 2)
        else:
            lines.out(0xA0, 0x0C)
            lines.in_(0xA0)
            lines.out(0xA0, 0x20)


def _uart(lines: Lines, rng: Random) -> None:
    """FIFOs in a loop, below and above their trigger level."""
    for _ in range(rng.randrange(2, 20)):
        do = rng.randrange(12)
        if do < 5:
            lines.in_(0x3F8 + rng.choice((0, 0, 2, 2, 5)))
        elif do < 9:
            lines.out(0x3F8, rng.randrange(256))
        elif do < 10:
            lines.out(0x3F9, rng.randrange(8))
        elif do < 11:
            lines.out(0x3FA, rng.choice((1, 0x41, 0x81, 0xC1, 0xC3)))
        else:
            lines.out(0x20, 0x0C)
            lines.in_(0x20)
            lines.out(0x20, 0x20)


def _placed() -> tuple[str, ...]:
    lines = Lines()
    for register, value in ((0x40, 0x601), (0x80, 1)):
        lines.config_address(1, register, 3)
        lines.out(0xCFC, value, 4)
    for port, value in ((0xA0, 0x11), (0xA1, 8), (0xA1, 2), (0xA1, 1)):
        lines.out(port, value)
    return tuple(lines)


def _loaded() -> tuple[str, ...]:
    lines = Lines()
    for counter in range(3):
        lines.out(0x43, counter << 6 | 0x36)
        lines.out(0x40 + counter, 0)
        lines.out(0x40 + counter, 0x80)
    return tuple(lines)


SCRIPTS = (
    Clocked("pit", (), (0.0005, 0.003, 0.02, 0.06), _loaded(), _pit),
    Clocked("pm", (), (0.001, 0.05, 1.2), _placed(), _pm),
    Clocked(
        "uart", ("isa-serial",), (0.0005, 0.002, 0.01), ("outb 0x3fc 0x18", "outb 0x21 0x01"), _uart
    ),
)


def main() -> None:
    """Record all scripts."""
    for script in SCRIPTS:
        stretches = run(script)
        print("\n".join([f"{script.name}:", *differences(script, stretches)]))
        text = json.dumps(stretches).encode()
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"clocked-{script.name}.json.gz").write_bytes(gzip.compress(text, mtime=0))


if __name__ == "__main__":
    main()

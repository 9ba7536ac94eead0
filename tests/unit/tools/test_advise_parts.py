"""The report does not depend on the parts in which a recording is read and judged."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from coalesced.tools import traces
from coalesced.tools.advise.advice import Options, advise
from coalesced.tools.advise.members import members
from coalesced.tools.advise.recording import read
from coalesced.tools.advise.ring import Ring
from coalesced.tools.advise.spool import PART
from coalesced.tools.advise.spread import threads
from coalesced.tools.traces.source import ENDLESS
from helpers.kvm_trace import Tape
from helpers.tiers import every, some_heavy

RECORDED = Path(__file__).parents[2] / "data"
REGISTERS = [0xFEB00000 + 4 * n for n in range(12)]
WINDOW = 0xFD000000


def report(path: Path, *, text: int, part: int, jobs: int = 1, ring: Ring | None = None) -> str:
    """The JSON of the advice; `text`: bytes read at once, `part`: events judged at once."""
    with threads(jobs) as scanners:
        recording = read(path, scanners, replace(ENDLESS, block=text), part)
    advice = advise(recording, Options(ring=ring or Ring()))
    pictures = [(each.parts, each.wait_bins) for each in advice.ranges]
    shown = {**members(advice), "pictures": pictures, "by_part": advice.exits_advised_by_part}
    return json.dumps(shown, default=vars, indent=1)


def random_tape(seed: int, steps: int = 400) -> Tape:
    """A few vCPUs that write windows and registers, queued or not, wait, and read back."""
    choose = random.Random(seed)
    tape = Tape()
    for _ in range(steps):
        thread = choose.choice((7, 8, 9))
        value = choose.randrange(4) if choose.random() < 0.5 else choose.getrandbits(32)
        match choose.randrange(9):
            case 0:
                tape.load(choose.choice(REGISTERS), value, thread=thread)
            case 1:
                tape.store(choose.choice(REGISTERS), value, thread=thread)
            case 2:
                tape.out(0x70, value & 0xF)
                tape.in_(0x71, (value & 0xF) * 3)
            case 3:
                tape.out(0xCF8, 0x80000000 | value & 0xFC, 4)
                tape.out(0xCFC, value, 4)
            case 4:
                tape.out(0x1F0, value & 0xFF, 2, count=choose.choice((1, 9)))
            case 5:
                tape.idle(choose.randrange(5_000))
            case 6:
                tape.load(WINDOW + 4 * choose.randrange(99), value)
            case _:
                exits = choose.random() < 0.02
                for at in range(choose.randrange(120)):
                    tape.store(WINDOW + 4 * at, value + at, exits=exits, thread=thread)
    return tape


@pytest.mark.slow
@some_heavy(
    "seed, ring",
    every(range(3), [Ring(), Ring(mended=False)]),
    lambda seed, ring: seed == (0 if ring.mended else 1),
)
def test_random_recordings_give_the_same_report_in_parts(
    tmp_path: Path, seed: int, ring: Ring
) -> None:
    """Seeds 0 to 2; parts of 7 and 1,000 events, blocks of 300 bytes, two threads."""
    path = tmp_path / "t"
    path.write_text("\n".join(random_tape(seed).lines) + "\n")
    whole = report(path, text=1 << 24, part=1 << 24, ring=ring)
    assert report(path, text=1 << 16, part=1000, ring=ring) == whole
    assert report(path, text=300, part=7, jobs=2, ring=ring) == whole


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(RECORDED / "kvm-ipxe-e1000.perf.txt.xz", marks=pytest.mark.heavy),
        RECORDED / "kvm-ahci-smp2.ftrace.txt.xz",
        traces.find("boot"),
        traces.find("e1000"),
    ],
    ids=lambda path: path.name,
)
def test_real_recordings_give_the_same_report_in_parts(path: Path) -> None:
    whole = report(path, text=1 << 27, part=1 << 24)
    assert report(path, text=100_000, part=1000) == whole
    assert report(path, text=1 << 22, part=PART, jobs=2) == whole


def random_log(seed: int, lines: int = 3000) -> str:
    """Lines of QEMU's log of two vCPUs: accesses in pieces, and passed on to another region."""
    choose = random.Random(seed)
    found: list[str] = []

    def line(cpu: int, mr: int, kind: str, address: int, value: int, size: int) -> None:
        found.append(
            f"memory_region_ops_{kind} cpu {cpu} mr {mr:#x} addr {address:#x} "
            f"value {value:#x} size {size} name 'vga-lowmem'"
        )

    while len(found) < lines:
        cpu, kind = choose.choice((0, 1, -1)), choose.choice(("read", "write"))
        address, value = 0xB8000 + 2 * choose.randrange(300), choose.getrandbits(16)
        pieces = [(address, value & 0xFF), (address + 1, value >> 8)]
        match choose.randrange(4):
            case 0:
                line(cpu, 1, kind, *pieces[choose.randrange(2)], 1)
            case 1 if kind == "write":
                line(cpu, 2, kind, address, value, 2)
                for piece in pieces:
                    line(cpu, 1, kind, *piece, 1)
            case _:
                line(cpu, 1, kind, *pieces[0], 1)
                if choose.random() < 0.3:
                    line(1 - max(cpu, 0), 1, kind, 0xA0000 + value, value & 0xFF, 1)
                line(cpu, 1, kind, *pieces[1], 1)
    return "\n".join(found) + "\n"


@pytest.mark.slow
@some_heavy("seed", [[0], [1], [2]], lambda seed: seed == 0)
def test_calls_of_handlers_are_joined_to_the_same_accesses_in_parts(
    tmp_path: Path, seed: int
) -> None:
    """Seeds 0 to 2."""
    path = tmp_path / "t"
    path.write_text(random_log(seed))
    whole = report(path, text=1 << 24, part=1 << 24)
    events = json.loads(whole)["events_by_kind"]
    assert 0.3 < sum(events.values()) / 3000 < 0.6
    assert report(path, text=500, part=7) == whole
    assert report(path, text=20_000, part=1000, jobs=2) == whole

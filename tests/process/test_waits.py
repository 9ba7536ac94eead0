"""Waits of queued writes; and a coalesced doorbell is called slower."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from helpers.vmm_cli import json_of, run

BELL = '''
"""A device whose coalesced register raises its interrupt."""
from coalesced.devices.bus.pci import Bar, PciFunction
from coalesced.devices.bus.region import Region

BAR = 0xE0000000

class Bell(PciFunction):
    def __init__(self):
        self.rung = 0
        region = Region(
            "bell", 0x1000, lambda o, s: self.rung, self.ring, coalesced=((0x400, 4),)
        )
        super().__init__(
            name="bell", vendor_id=0x1234, device_id=1, class_code=0xFF0000,
            bars={0: Bar(region)}, interrupt_pin=1,
        )

    def ring(self, offset, size, value):
        self.rung += 1
        self.set_interrupt(offset == 0x400)

    def state(self):
        return {**super().state(), "rung": self.rung}

def main(vcpu):
    for register, value in ((0x10, BAR), (4, 2)):
        vcpu.out32(0xCF8, 0x80000000 | 5 << 11 | register)
        vcpu.out32(0xCFC, value)
    for number in range(2):
        vcpu.store32(BAR + 0x400, number)
        vcpu.wait_interrupt(timeout=0.25)
        vcpu.store32(BAR + 0x800, 0)

def busy(vcpu):
    for i in range(1000):
        vcpu.store8(0xA0000 + i, i)
'''
DEVICE = ("--device", "bell.py:Bell,addr=05.0")
WARNING = (
    "coalesced: warning: process, coalesced: the guest slept while writes to 0xe0000400+0x4 (bell) "
    "were queued: 2 of them, which waited up to "
)
SLEEP = 250  # milliseconds, or more on a busy machine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bell.py").write_text(BELL)
    return tmp_path


def test_a_coalesced_doorbell_is_named_and_called_slower(folder: Path) -> None:
    done = run("run", "bell.py:main", *DEVICE, cwd=folder)
    assert done.returncode == 0, done.stderr
    said = next(line for line in done.stdout.splitlines() if line.startswith("Coalescing"))
    assert "with it the guest was" in said
    waited = re.search(r" times slower: 0xe0000400 waited (\d+)", said)
    assert waited is not None
    assert int(waited[1]) >= SLEEP
    assert "times as long" not in said
    assert done.stderr.startswith(WARNING)
    assert int(re.match(r"\d+", done.stderr.removeprefix(WARNING))[0]) >= SLEEP  # type: ignore[index]


def test_it_is_named_in_a_ring_of_the_device_s_own_too(folder: Path) -> None:
    done = run("run", "bell.py:main", *DEVICE, "--rings", "device", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert " times slower: 0xe0000400 waited 2" in done.stdout
    assert done.stderr.startswith(WARNING)


def test_the_wait_of_each_write_is_counted_from_its_own_publication(folder: Path) -> None:
    result = json.loads(run("run", "bell.py:main", *DEVICE, "--json", cwd=folder).stdout)
    ours, plain, direct = result["runs"]
    # Half of the writes are those to 0xcf8, which an exit follows at once.
    assert ours["wait_us"]["p50"] < 250e3 <= ours["wait_us"]["p99"] <= ours["wait_us"]["max"]
    # Two sleeps of 250 ms; neither write waited through both.
    assert ours["wait_us"]["max"] < ours["seconds"] * 1e6 * 0.75
    assert ours["waited_longest"] == {"address": 0xE0000400, "kind": "mmio"}
    assert [(found["address"], found["writes"]) for found in ours["slept_on"]] == [(0xE0000400, 2)]
    nothing = {"p50": None, "p99": None, "max": None}
    assert plain["wait_us"] == direct["wait_us"] == nothing


def test_a_guest_that_never_sleeps_draws_no_warning(folder: Path) -> None:
    done = run("run", "bell.py:busy", cwd=folder)
    assert "slept" not in done.stderr
    result = json_of("run", "bell.py:busy", cwd=folder)
    ours = result["runs"][0]
    assert ours["slept_on"] == []
    assert 0 < ours["wait_us"]["p50"] <= ours["wait_us"]["max"] <= ours["seconds"] * 1e6

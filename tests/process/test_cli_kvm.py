"""`--accel kvm` on the command line: the same pictures, states, loads and counts."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from helpers.kvm_sides import needs_kvm, needs_several
from helpers.vmm_cli import Running, json_of, one_line, run, until

COUNTS = ("writes", "coalesced", "exits", "exits_by")


@needs_kvm
@pytest.mark.parametrize("guest", [pytest.param("vga", marks=pytest.mark.heavy), "cirrus"])
def test_demo_is_what_it_is_on_process(tmp_path: Path, guest: str) -> None:
    """The same picture and state; with the ring, and without it, the same counts."""
    process = json_of("demo", guest, "--png", "process.png", cwd=tmp_path)
    kvm = json_of("demo", guest, "--accel", "kvm", "--png", "kvm.png", cwd=tmp_path)
    assert kvm["accel"] == "kvm"
    assert [(run["accel"], run["coalescing"]) for run in kvm["runs"]] == [
        ("kvm", True),
        ("kvm", False),
        ("direct", False),
    ]
    assert kvm["identical"]
    assert kvm["runs"][0]["state"] == process["runs"][0]["state"]
    assert (tmp_path / "kvm.png").read_bytes() == (tmp_path / "process.png").read_bytes()
    for ours, theirs in zip(kvm["runs"], process["runs"], strict=True):
        assert {key: ours[key] for key in COUNTS} == {key: theirs[key] for key in COUNTS}
    for ours in kvm["runs"][:2]:
        assert ours["loads_checked"] == ours["loads_matching"]
        assert ours["load_mismatches"] == []
        assert ours["signals"] == ours["stale_drains"] == 0
    assert (kvm["runs"][0]["loads_checked"] > 4000) == (guest == "vga")  # the other loads nothing


@needs_kvm
@pytest.mark.parametrize(
    ("trace", "checked"),
    [("boot", 5_695), pytest.param("e1000", 46_000, marks=pytest.mark.heavy)],
)
def test_replay_is_what_it_is_on_process(tmp_path: Path, trace: str, checked: int) -> None:
    kvm, process = (
        json_of("replay", trace, "--text", "--accel", accel, cwd=tmp_path)
        for accel in ("kvm", "process")
    )
    assert kvm["accel"] == "kvm"
    assert kvm["reads_checked"] == kvm["reads_matching"] >= checked
    same = ("accesses", "writes", "coalesced", "exits", "exits_by", "unchecked", "masked",
            "reads_checked", "state", "text")  # fmt: skip
    assert {key: kvm[key] for key in same} == {key: process[key] for key in same}


GUEST = """\
import random

def picture(vcpu):
    vcpu.out8(0x3c4, 2)
    vcpu.fill(0xa0000, 1000, 7)
    vcpu.write_memory(0x1000, b"abc")
    assert vcpu.read_memory(0x1000, 3) == b"abc"

def never_the_same(vcpu):
    vcpu.store32(0x3000, random.getrandbits(32))

def time_dependent(vcpu):
    for _ in range(100):
        vcpu.in8(0x3da)

def long(vcpu, times=40):
    for _ in range(times):
        vcpu.fill(0xa0000, 0x10000, 7)

def waits(vcpu):
    vcpu.wait_interrupt()

def too_high(vcpu):
    vcpu.store8(1 << 33, 0)

def each(vcpu):
    if vcpu.index == 0:
        vcpu.out8(0x3c4, 2)
    vcpu.fill(0xa0000 + 0x1000 * vcpu.index, 0x1000, vcpu.index)
    vcpu.load32(0x1000 * vcpu.index)

def a_quarter(vcpu):
    long(vcpu, 10)
"""

ODD = """\
import random
from coalesced.devices.bus.pci import Bar, PciFunction
from coalesced.devices.bus.region import Region

class Odd(PciFunction):
    def __init__(self):
        number = random.getrandbits(32)
        registers = Region("odd", 0x1000, lambda offset, size: number, self.write)
        super().__init__(name="odd", vendor_id=1, device_id=1, class_code=0xFF0000,
                         bars={0: Bar(registers)})

    def write(self, offset, size, value):
        pass

def main(vcpu):
    for register, value in ((0x10, 0xE0000000), (0x04, 2)):
        vcpu.out32(0xCF8, 0x80000000 | 5 << 11 | register)
        vcpu.out32(0xCFC, value)
    vcpu.load32(0xE0000000)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "guest.py").write_text(GUEST)
    (tmp_path / "odd.py").write_text(ODD)
    return tmp_path


@needs_kvm
def test_a_guest_of_the_users_own(folder: Path) -> None:
    result = json_of("run", "guest.py:picture", "--accel", "kvm", cwd=folder)
    assert result["identical"]
    assert [run["exits"] for run in result["runs"]] == [1 + 5 + 1, 1 + 1000 + 1, 1]
    once = json_of("run", "guest.py:picture", "--accel", "kvm", "--no-coalesce", cwd=folder)
    assert [(run["accel"], run["exits"]) for run in once["runs"]] == [("kvm", 1002), ("direct", 1)]


@needs_kvm
def test_what_depends_on_time_is_not_checked(folder: Path) -> None:
    result = json_of("run", "guest.py:time_dependent", "--accel", "kvm", cwd=folder)
    assert result["runs"][0]["loads_checked"] == 0
    assert result["runs"][0]["exits"] == 101


@needs_kvm
def test_a_guest_that_is_never_the_same_is_recorded_once(folder: Path) -> None:
    """The runs on KVM do the same; the one on direct does something else."""
    done = run("run", "guest.py:never_the_same", "--accel", "kvm", "--json", cwd=folder)
    assert done.returncode == 1
    result = json.loads(done.stdout)
    first, second, direct = (run["state"] for run in result["runs"])
    assert first == second != direct
    assert not result["identical"]


@needs_kvm
def test_a_load_that_gives_something_else_fails(folder: Path) -> None:
    device = "odd.py:Odd,addr=05.0"
    done = run("run", "odd.py:main", "--device", device, "--accel", "kvm", cwd=folder)
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("kvm, coalesced: mmio read of 4 bytes at 0xe0000000: recorded 0x")
    assert second.startswith("kvm, every write exits: mmio read of 4 bytes at 0xe0000000: ")


@needs_kvm
@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("waits", "guest.py:21: GuestError: wait_interrupt: --accel kvm runs a recording of"),
        ("too_high", "store of 1 bytes at 0x200000000: expected an address below 4 GiB"),
    ],
)
def test_what_no_guest_can_do_there(folder: Path, function: str, message: str) -> None:
    done = run("run", f"guest.py:{function}", "--accel", "kvm", cwd=folder)
    assert message in one_line(done, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["demo", "vga", "--ring-pages", "2"],
            "--ring-pages 2: with --accel kvm the kernel's ring",
        ),
        (["demo", "vga", "--wait", "poll"], "--wait poll: --accel kvm has only one process"),
        (["replay", "boot", "--cpus", "same"], "--cpus same: --accel kvm has only"),
        (["qtest", "--socket", "nowhere"], "--accel kvm: it runs recorded guests"),
        (
            ["run", "g.py:f", "--netdev", "tap,id=n0"],
            "--netdev tap,id=n0: --accel kvm runs recorded guests, which have no network",
        ),
        (["demo", "e1000"], "--accel kvm: this guest waits for interrupts"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_options_without_meaning_on_kvm_are_refused(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    assert message in one_line(run(*arguments, "--accel", "kvm", cwd=tmp_path), 2)


@needs_several
def test_a_guest_on_several_vcpus_is_what_it_is_on_process(folder: Path) -> None:
    """Each its own part of the screen; with and without the ring."""
    process, kvm = (
        json_of("run", "guest.py:each", "--vcpus", 3, "--accel", accel, cwd=folder)
        for accel in ("process", "kvm")
    )
    assert [(run["accel"], run["coalescing"]) for run in kvm["runs"]] == [
        ("kvm", True),
        ("kvm", False),
    ]
    assert kvm["identical"]
    for ours, theirs in zip(kvm["runs"], process["runs"], strict=True):
        assert (ours["state"], ours["writes"]) == (theirs["state"], theirs["writes"])
        assert ours["exits_by"]["hlt"] == 3
        assert ours["loads_checked"] == ours["loads_matching"] == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize(
    "vcpus", [pytest.param(1, marks=needs_kvm), pytest.param(4, marks=needs_several)]
)
def test_nothing_is_left_of_a_program_that_ends_inside_kvm_run(
    folder: Path, vcpus: int, number: signal.Signals
) -> None:
    guest = "guest.py:long" if vcpus == 1 else "guest.py:a_quarter"
    arguments = ("run", guest, "--accel", "kvm", "--vcpus", vcpus)
    with Running(*arguments, cwd=folder) as program:
        until(lambda: slots_of(program.pid) >= RAM_SLOTS + vcpus, 30)
        time.sleep(0.1)  # into KVM_RUN
        program.look()
        assert program.guests == []
        os.kill(program.pid, number)
        status, out, err = program.end()
        if number is signal.SIGINT:
            assert (status, out) == (130, "")
            assert "Traceback" not in err
        else:
            assert (status, out, err) == (-signal.SIGKILL, "", "")
        program.nothing_left()


RAM_SLOTS = 2  # of the machine; one more for each vCPU's machine code, right before it is run


def slots_of(pid: int) -> int:
    """The number of memory slots that a process has mapped."""
    try:
        return Path(f"/proc/{pid}/maps").read_text().count("/dev/shm/coalesced-")
    except OSError:
        return 0

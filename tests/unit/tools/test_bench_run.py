"""The benchmarks themselves, as short as they get."""

from __future__ import annotations

import gc
import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray

from coalesced.devices.vga import Vga
from coalesced.hv.process import GuestProcess
from coalesced.hv.vcpu import Vcpu
from coalesced.tools.bench import exits, host, kvm, model, registry, ring, rows, saved, vga
from coalesced.tools.bench.bootsector import ORIGIN, image
from coalesced.tools.bench.channels import PEERS, RING
from coalesced.tools.bench.measure import Step
from coalesced.tools.bench.peers import Channel, Peer, Send, Unavailable
from coalesced.tools.bench.qemu import Qemu, Unusable
from coalesced.tools.bench.registry import Plan
from coalesced.tools.bench.report import Section
from coalesced.tools.guests import bench as guest
from coalesced.tools.guests.bench import scattered
from coalesced.vmm import pc
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.machine import Machine
from helpers.kvm_sides import needs_kvm
from helpers.shared_names import left_since, names
from helpers.tiers import every, some_heavy

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _guests_find_this_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))


class Steps:
    """Counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def alarm() -> Iterator[None]:
    """Fail after a minute, rather than hang."""

    def expired(_number: int, _frame: object) -> None:
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def medians(section: Section) -> dict[str, float]:
    return {row.what: row.figure.median for row in section.rows}


@pytest.mark.heavy
def test_ring() -> None:
    before = os.sched_getaffinity(0)
    step = Steps()
    sizes = ring.Sizes(1, 20_000, 5_000, 4_000, 5_000, 50, 10, 1)
    choice = ring.Choice(1, others=(), bursts=(64,), peers=PEERS[:1])
    section = ring.measure(choice, sizes, step)
    figures = section.figures
    assert isinstance(figures, ring.RingFigures)
    assert min(medians(section).values()) > 0
    assert set(figures.floors) == set(ring.FLOORS)
    for row in figures.rows.values():
        in_python = {RING.name, PEERS[0].name}
        assert set(row.channels) in (in_python, {name for name, _ in rows.IN_C.values()})
        assert min(channel.p50_us for channel in row.channels.values()) > 0
    assert figures.batch >= 1
    assert step.count == 2 * (len(choice.subjects()) + len(ring.FLOORS) + 4 + 2 * len(rows.IN_C))
    assert os.sched_getaffinity(0) == before


@pytest.mark.slow
def test_a_burst_ends_with_an_exit_and_loses_no_entry(alarm: None) -> None:
    """The load that ends a burst is answered: the guest would wait for it for good."""
    with closing(ring.QueueingGuest(2, host.placements()[0])) as measured:
        assert measured.measure(1_000, 64, burst=100) > 0
        assert measured.drained == 1_000
        assert measured.batches >= 10


@pytest.mark.slow
@some_heavy(
    "channel, batch",
    every([RING, *PEERS], [1, 64]),
    lambda channel, _: channel in (RING, PEERS[0]),
)
def test_a_peer_brings_every_entry_and_leaves_nothing(channel: type[Channel], batch: int) -> None:
    before = names()
    try:
        peer = Peer(channel(batch), host.cpus_of(host.placements()[0]))
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert peer.measure(20) > 0
    assert peer.measure(500) > 0
    assert (peer.latencies(20) > 0).all()
    peer.close()
    del peer
    gc.collect()  # multiprocessing's semaphores have names as long as the objects live
    assert left_since(before) == set()


class Broken(PEERS[0]):  # type: ignore[misc, valid-type]
    """A channel of which the other process cannot make anything."""

    @staticmethod
    def sender(passed: object, batch: int) -> Send:
        raise SystemExit(3)


@pytest.mark.heavy
def test_a_channel_that_the_other_process_cannot_use_is_left_out() -> None:
    with pytest.raises(Unavailable, match="other process ended"):
        Peer(Broken(), host.cpus_of(host.placements()[0]))


@pytest.mark.heavy
def test_exit() -> None:
    before = os.sched_getaffinity(0)
    step = Steps()
    sizes = exits.Sizes(repetitions=1, sleeping=50, spinning=50, single=40, seconds=1)
    section = exits.measure(host.placements(), sizes, step)
    names = [exits.key_of(p, n) for p in host.placements() for n in exits.NAMES]
    assert set(medians(section)) == set(names)
    assert min(medians(section).values()) > 0
    assert {name: len(times) for name, times in section.singles.items()} == (
        dict.fromkeys(names, 40)
    )
    assert step.count == 3 * len(names)
    assert os.sched_getaffinity(0) == before


VGA = vga.Choice((1,), "block", bursts=(64,), policies=(), qemu=())
VGA_SIZES = vga.Sizes(1, writes=5_000, shorter=1_000, exits=200, on_kvm=2_000, seconds=1)


@pytest.mark.heavy
def test_vga() -> None:
    step = Steps()
    section = vga.measure(VGA, VGA_SIZES, step)
    assert set(medians(section)) == {str(subject) for subject in VGA.subjects()}
    assert min(medians(section).values()) > 0
    assert step.count == 2 * len(VGA.subjects())


@pytest.mark.slow
def test_each_planar_load_exits() -> None:
    with Machine(ProcessAccelerator(GuestProcess())) as machine:
        pc.add_ram(machine)
        card = pc.add_vga(machine)
        card.memory.words[: 1 << 16] = scattered(1 << 16)
        machine.run(vga.GUEST, {"writes": 50, "pattern": vga.LOADS})
        loads = machine.counters.exits_at["load", False]
        last = int(scattered(50)[-1] >> 16)
        assert sum(loads.values()) == 50
        assert loads[0xA0000 + last] >= 1
        assert card.registers.latch == card.memory.words[last]


@pytest.mark.parametrize(
    "arguments", [{}, {"burst": 16}, {"pattern": vga.LOADS}], ids=["writes", "bursts", "loads"]
)
def test_a_planar_guest_makes_its_arrays_before_the_first_operation_that_is_timed(
    arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    def making(count: int) -> NDArray[np.uint32]:
        happened.append("array")
        return scattered(count)

    monkeypatch.setattr(guest, "scattered", making)
    bus = Mock(execute=lambda _ops: happened.append("access"))
    guest.vga(Vcpu(bus), 100, **arguments)
    assert happened[0] == "array"
    assert "array" not in happened[happened.index("access") :]


@pytest.mark.slow
@needs_kvm
def test_vga_on_kvm() -> None:
    step = Steps()
    figures = kvm.figures(kvm.measure(2_000, 200, 1, step))
    assert min(f.median for f in (figures.coalesced_ns_per_write, figures.exit_ns_per_write)) > 0
    assert step.count == kvm.steps(1)
    low, high = figures.floor_ratio_interval
    assert 0 < low <= figures.floor_ratio.median <= high


@pytest.mark.heavy
def test_model() -> None:
    step = Steps()
    choice = model.Choice(("adaptive",), (1, 4), (16, 64, 300), (1,), (16, 64, 300))
    section = model.measure(choice, model.Sizes(1, 4_000, 1), step)
    figures = section.figures
    assert isinstance(figures, model.ModelFigures)
    assert step.count == 2 * len(choice.points("adaptive"))
    (constants,) = figures.constants.values()
    assert math.isfinite(constants["round_trip_ns"])  # fitted: a busy machine may give any sign
    assert len(figures.predictions) == 3
    assert min(each.measured_ns_per_write.median for each in figures.predictions) > 0


def test_the_generator_is_what_the_boot_sector_does() -> None:
    number, numbers = 1, []
    for _ in range(1000):
        number = (number * 1664525 + 1013904223) & 0xFFFFFFFF
        numbers.append(number)
    assert scattered(1000).tolist() == numbers


def test_the_boot_sector_is_one() -> None:
    sector = image()
    assert len(sector) == 512
    assert sector[510:] == b"\x55\xaa"
    table = int.from_bytes(sector[17:19], "little") - ORIGIN
    assert sector[table : table + 4] == bytes.fromhex("c403020f")  # SR2: all planes


@pytest.mark.slow
def test_the_boot_sector_draws_what_the_guest_draws(tmp_path: Path) -> None:
    """QEMU's video memory after it, against the machine's after the guest."""
    monitor = tmp_path / "monitor"
    try:
        qemu = Qemu("tcg", "-monitor", f"unix:{monitor},server=on,wait=off")
    except Unusable as reason:
        pytest.skip(str(reason))
    try:
        for power, pattern in ((17, "filled"), (12, "scattered")):
            assert qemu.measure(power, pattern == "filled") > 0
        memory = _video_memory(qemu, monitor, tmp_path / "memory")
    finally:
        qemu.close()
    machine, card = _drawn("filled", 1 << 17)
    with machine:
        machine.run("coalesced.tools.guests.bench:vga", {"writes": 1 << 12})
        assert (np.frombuffer(memory, np.uint8) == card.memory.vram[: len(memory)]).all()


def _drawn(pattern: str, writes: int) -> tuple[Machine, Vga]:
    machine = Machine(DirectAccelerator())
    pc.add_ram(machine)
    card = pc.add_vga(machine)
    machine.run("coalesced.tools.guests.bench:vga", {"writes": writes, "pattern": pattern})
    return machine, card


def _video_memory(qemu: Qemu, monitor: Path, path: Path) -> bytes:
    """The 256 KiB behind the window, through the linear BAR that the BIOS placed."""
    with socket.socket(socket.AF_UNIX) as connection, host.awake(qemu.pid):
        connection.connect(str(monitor))
        listing = _ask(connection, "info pci")
        base = listing.split("BAR0: 32 bit prefetchable memory at ")[1].split()[0]
        _ask(connection, f'pmemsave {base} 0x40000 "{path}"')
    return path.read_bytes()


def _ask(connection: socket.socket, command: str) -> str:
    """QEMU's monitor: everything up to its next prompt."""
    connection.sendall(command.encode() + b"\n")
    said = b""
    while said.count(b"(qemu) ") < (2 if command == "info pci" else 1):
        assert select.select([connection], [], [], 20)[0]
        said += connection.recv(1 << 16)
    return said.decode()


def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.mark.slow
@some_heavy("which", every(["ring", "exit", "vga", "model"]), lambda which: which == "exit")
def test_ctrl_c_ends_it_quietly_and_leaves_nothing(which: str) -> None:
    running = _start("bench", which)
    try:
        assert _wait_until(lambda: len(_members(running.pid)) > 1, 60)
        os.killpg(running.pid, signal.SIGINT)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130
    assert "Traceback" not in said
    assert _left(running.pid) == []


@pytest.mark.heavy
def test_ctrl_c_gives_what_is_done_so_far(tmp_path: Path) -> None:
    placements = host.placements()
    sizes = exits.Sizes(repetitions=2, sleeping=50, spinning=50, single=40, seconds=1)
    left = len(placements) * len(exits.NAMES) + 2

    def run(step: Step) -> Section:
        def interrupting() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGINT)
            step()

        return exits.measure(placements, sizes, interrupting)

    report = registry.measure({"exit": Plan(1, 1, run)})
    assert isinstance(report.ended, KeyboardInterrupt)
    saved.save(tmp_path / "saved", report)
    whole = json.loads((tmp_path / "saved").read_text())
    assert whole["complete"] is False
    assert len([number for number in whole["exit"].values() if isinstance(number, float)]) in (1, 2)


def _start(*arguments: str) -> subprocess.Popen[str]:
    program = "from coalesced.tools.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _left(session: int) -> list[str]:
    """Processes of a session, after a moment for those that end by themselves."""
    left: list[str] = []

    def none() -> bool:
        left[:] = _members(session)
        return not left

    _wait_until(none, 60)
    return left


def _members(session: int) -> list[str]:
    return [path.name for path in Path("/proc").glob("[0-9]*") if _session(path) == session]


def _session(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[3])
    except OSError:
        return -1

"""The benchmarks themselves, as short as they get."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from coalesced.devices.vga import Vga
from coalesced.tools.bench import exits, host, kvm, model, ring, vga
from coalesced.tools.bench.bootsector import ORIGIN, image
from coalesced.tools.bench.channels import FLOOR, PEERS
from coalesced.tools.bench.peers import Channel, Peer, Send, Unavailable
from coalesced.tools.bench.qemu import Qemu, Unusable
from coalesced.tools.bench.report import Section
from coalesced.tools.guests.bench import scattered
from coalesced.vmm import pc
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.machine import Machine
from helpers.kvm_sides import needs_kvm

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


def medians(section: Section) -> dict[str, float]:
    return {what: figure.median for what, figure, _ in section.rows}


@pytest.mark.slow
def test_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "SIZES_OF_RING", (1, 2))
    monkeypatch.setattr(ring, "PEERS", PEERS[:1])
    before = os.sched_getaffinity(0)
    step = Steps()
    sizes = ring.Sizes(1, 20_000, 5_000, 4_000, 5_000, 50, 1)
    section = ring.measure(2, sizes, step)
    assert min(medians(section).values()) > 0
    assert set(section.values["floors"]) == set(ring.FLOORS)  # type: ignore[call-overload]
    assert isinstance(section.values["batch"], float)
    assert section.values["batch"] >= 1
    assert step.count == 2 * (len(ring.subjects_of(2)) + len(ring.FLOORS) + 1)
    assert os.sched_getaffinity(0) == before


def test_a_burst_ends_with_an_exit_and_loses_no_entry() -> None:
    measured = ring.Ring(2, host.placements()[0])
    try:
        assert measured.measure(1_000, 64, burst=100) > 0
        assert measured.drained == 1_000
        assert measured.batches >= 10
    finally:
        measured.close()


@pytest.mark.parametrize("channel", [FLOOR, *PEERS], ids=lambda channel: channel.name)
def test_a_peer_brings_every_entry_and_leaves_nothing(channel: type[Channel]) -> None:
    before = set(os.listdir("/dev/shm"))
    try:
        peer = Peer(channel(), host.cpus_of(host.placements()[0]))
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert peer.measure(20) > 0
    assert peer.measure(2_000) > 0
    peer.close()
    del peer
    gc.collect()  # multiprocessing's semaphores have names as long as the objects live
    assert set(os.listdir("/dev/shm")) <= before


class Broken(FLOOR):  # type: ignore[misc, valid-type]
    """A channel of which the other process cannot make anything."""

    @staticmethod
    def sender(passed: object) -> Send:
        raise SystemExit(3)


def test_a_channel_that_the_other_process_cannot_use_is_left_out() -> None:
    with pytest.raises(Unavailable, match="other process ended"):
        Peer(Broken(), host.cpus_of(host.placements()[0]))


@pytest.mark.slow
def test_exit() -> None:
    before = os.sched_getaffinity(0)
    step = Steps()
    sizes = exits.Sizes(repetitions=1, sleeping=50, spinning=50, single=40, seconds=1)
    section = exits.measure(host.placements(), sizes, step)
    names = [
        exits.key_of(p, n) for p in host.placements() for n in (*exits.POLICIES, *exits.FLOORS)
    ]
    assert set(medians(section)) == set(names)
    assert min(medians(section).values()) > 0
    assert {name: len(histogram) for name, histogram in section.histograms.items()} == (
        dict.fromkeys(names, 40)
    )
    assert step.count == 3 * len(names)
    assert os.sched_getaffinity(0) == before


@pytest.mark.slow
def test_vga(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vga, "ACCELERATORS", ())
    monkeypatch.setattr(vga, "BURSTS", (64,))
    step = Steps()
    sizes = vga.Sizes(repetitions=1, writes=5_000, shorter=1_000, exits=200, on_kvm=200, seconds=1)
    choice = vga.Choice((1,), "block")
    section = vga.measure(choice, sizes, step)
    assert set(medians(section)) == {str(subject) for subject in choice.subjects()}
    assert min(medians(section).values()) > 0
    assert step.count == 2 * len(choice.subjects())


@pytest.mark.slow
@needs_kvm
def test_vga_on_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vga, "ACCELERATORS", ())
    monkeypatch.setattr(vga, "BURSTS", (64,))
    step = Steps()
    sizes = vga.Sizes(1, writes=5_000, shorter=1_000, exits=200, on_kvm=2_000, seconds=1)
    choice = vga.Choice((1,), "block", on_kvm=True)
    section = vga.measure(choice, sizes, step)
    assert {name: medians(section)[name] > 0 for name in kvm.NAMES} == dict.fromkeys(
        kvm.NAMES, True
    )
    assert step.count == 2 * len(choice.subjects()) + kvm.steps(1)
    values = section.values["kvm"]
    assert isinstance(values, dict)
    low, high = values["floor_ratio_interval"]
    assert 0 < low <= values["floor_ratio"] <= high


def test_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "POLICIES", ("adaptive",))
    monkeypatch.setattr(model, "fitted_points", lambda w: [model.Point(w, 4, b) for b in (8, 400)])
    monkeypatch.setattr(model, "FITTED", (8, 400))
    monkeypatch.setattr(model, "tried_points", lambda wait: [model.Point(wait, 1)])
    step = Steps()
    points = {
        str(point): model.Measured(point, 4_000)
        for point in (*model.fitted_points("adaptive"), *model.tried_points("adaptive"))
    }
    cycles = {name: point.run() for name, point in points.items()}
    assert all(0 < point.drains[0] < cycles[name] for name, point in points.items())
    assert step.count == 0


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


@pytest.mark.parametrize("which", ["ring", "exit", "vga", "model"])
def test_ctrl_c_ends_it_quietly_and_leaves_nothing(which: str) -> None:
    running = _start("bench", which)
    try:
        time.sleep(1.5)
        os.killpg(running.pid, signal.SIGINT)
        _, said = running.communicate(timeout=20)
    finally:
        running.kill()
    assert running.returncode == 130
    assert "Traceback" not in said
    assert _left(running.pid) == []


_RUN_AND_INTERRUPT = """
import os, signal
from coalesced.tools.bench import exits, registry
real = exits.interleaved
def interrupted(subjects, repetitions, step):
    calls = 0
    def counted(run):
        def call():
            nonlocal calls
            calls += 1
            if calls == len(subjects) + 2:
                os.kill(os.getpid(), signal.SIGINT)
            return run()
        return call
    return real({name: counted(run) for name, run in subjects.items()}, repetitions, step)
exits.interleaved = interrupted
from coalesced.tools.main import main
main()
"""


@pytest.mark.slow
def test_ctrl_c_gives_what_is_done_so_far(tmp_path: Path) -> None:
    path = tmp_path / "saved"
    running = _start(
        "bench", "exit", "--quick", "--json", "--save", str(path), code=_RUN_AND_INTERRUPT
    )
    shown, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    told = json.loads(shown)
    assert told["complete"] is False
    first = [number for number in told["exit"].values() if isinstance(number, float)]
    assert len(first) == 1
    assert json.loads(path.read_text())["complete"] is False
    assert _left(running.pid) == []


def _start(*arguments: str, code: str = "") -> subprocess.Popen[str]:
    program = code or "from coalesced.tools.main import main; main()"
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
        left[:] = [path.name for path in Path("/proc").glob("[0-9]*") if _session(path) == session]
        return not left

    _wait_until(none, 5)
    return left


def _session(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[3])
    except OSError:
        return -1

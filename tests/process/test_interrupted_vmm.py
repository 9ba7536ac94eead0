"""An exception of the VMM's signal handler neither loses nor repeats an access."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from coalesced.devices.bus.region import Region
from coalesced.hv.abi import OP, OP_OUT
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.outcome import Outcome
from coalesced.hv.process import GuestProcess
from coalesced.vmm.accel.base import Accelerator
from coalesced.vmm.accel.kvm import KvmAccelerator
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.accel.recording import Recording
from coalesced.vmm.loop import Loop
from coalesced.vmm.machine import Machine
from helpers.kvm_sides import needs_kvm, needs_several

RAISED = 50
GUEST = """
def main(vcpu):
    n = 0
    while vcpu.in32(0x24):
        for n in range(n, n + WRITES):
            vcpu.out32(0x20, n)
        n += 1
"""
RECORDED = 50_000


class Given(KeyboardInterrupt):
    pass


class Handler:
    """Raises wherever this process is, once for each time that it is armed."""

    def __init__(self) -> None:
        self.armed = False
        self.raised = 0

    def __call__(self, *_: object) -> None:
        if self.armed:
            self.armed = False
            self.raised += 1
            raise Given

    @contextmanager
    def every(self, seconds: float) -> Iterator[None]:
        before = signal.signal(signal.SIGALRM, self)
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
        gc.disable()  # what a handler raises in a call of the collector's goes nowhere
        try:
            yield
        finally:
            gc.enable()
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def recorded(*_: object) -> list[Recording]:
    """The writes of GUEST for a vCPU that runs no Python, and cannot be told to end."""
    ops = np.zeros(RECORDED, OP)
    ops["kind"], ops["size"], ops["address"] = OP_OUT, 4, 0x20
    ops["value"] = np.arange(RECORDED)
    return [Recording([ops])]


ACCELERATORS = pytest.mark.parametrize(
    "make",
    [
        *(
            pytest.param(
                lambda policy=policy: ProcessAccelerator(GuestProcess(), policy=policy),
                id=policy.name.lower(),
            )
            for policy in WaitPolicy
        ),
        pytest.param(lambda: KvmAccelerator(recorded), marks=needs_kvm, id="kvm"),
        pytest.param(
            lambda: KvmAccelerator(lambda *_: [*recorded(), Recording()], vcpus=2),
            marks=needs_several,
            id="kvm, two vCPUs",
        ),
    ],
)


def machine(
    folder: Path,
    accel: Accelerator,
    write: Callable[[int, int, int], None],
    goes_on: Callable[[], bool] = lambda: True,
    queued: bool = False,
) -> Machine:
    (folder / "writes.py").write_text(GUEST.replace("WRITES", "9" if queued else "1"))
    made = Machine(accel, coalesce=queued)
    region = Region("port", 8, lambda _at, _size: goes_on(), write, coalesced=((0, 4),))
    made.ports.map(region, 0x20)
    accel.load_guest(f"{folder / 'writes.py'}:main", {})
    return made


@pytest.mark.parametrize("queued", [False, True])
@ACCELERATORS
def test_wherever_a_handler_raises_every_write_is_carried_out_once(
    tmp_path: Path, make: Callable[[], Accelerator], queued: bool
) -> None:
    seen: list[int] = []
    reads = 0
    handler = Handler()

    def goes_on() -> bool:
        nonlocal reads
        reads += 1
        return handler.raised < RAISED

    def write(_at: int, _size: int, value: int) -> None:
        seen.append(value)

    with machine(tmp_path, make(), write, goes_on, queued) as board:
        with handler.every(0.0002):
            while True:
                try:
                    handler.armed = True
                    board.resume()
                    handler.armed = False
                    break
                except Given:
                    continue
        assert handler.raised >= RAISED
        assert seen == list(range(len(seen)))
        assert board.counters.single_writes + board.counters.coalesced == len(seen)
        assert bool(board.counters.coalesced) == queued


@ACCELERATORS
def test_an_exit_whose_place_an_exception_took_is_told_again(
    tmp_path: Path, make: Callable[[], Accelerator], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    accel = make()
    run, told = accel.run, 0

    def lost(loop: Loop) -> Outcome:
        nonlocal told
        got = run(loop)
        told += isinstance(got, tuple)
        if told % 2 and isinstance(got, tuple):
            raise Given
        return got

    monkeypatch.setattr(accel, "run", lost)
    with machine(tmp_path, accel, lambda _at, _size, value: seen.append(value)) as board:
        board.hold_exits(lambda: None)  # else several are carried out in one call of `run`
        while len(seen) < 100:
            with pytest.raises(Given):
                board.resume()
        assert seen == list(range(len(seen)))

"""A guest that fills the ring with starts of the slowest blits: the VMM serves others meanwhile."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from coalesced.hv.process import GuestProcess
from coalesced.tools.runs import boards as devices
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.machine import Machine

# Copies of 64 MiB with a raster operation, to the next pixel but one: 0.1 s and more each.
STORM = """
BLITTER = 0xB8000
COPY = ((0x08, 4, 0x1FFF | 0x1FFF << 16), (0x0C, 4, 0x00010001), (0x10, 4, 0x080001),
        (0x14, 4, 0x080003), (0x18, 1, 0x09), (0x1A, 1, 0xDA), (0x1B, 1, 0x00))


def main(vcpu):
    vcpu.out16(0x3C4, 0x1206)
    vcpu.out16(0x3C4, 0x0107)
    vcpu.out16(0x3C4, 0x0417)
    for offset, size, value in COPY:
        (vcpu.store8 if size == 1 else vcpu.store32)(BLITTER + offset, value)
    vcpu.load8(BLITTER)
    while True:
        vcpu.store8(BLITTER + 0x40, 2)
"""
PERIOD = 0.05
CALLS = 4  # of the timer, before Ctrl-C


def test_timers_are_served_and_ctrl_c_is_heard_amid_a_ring_full_of_blits(tmp_path: Path) -> None:
    path = tmp_path / "guest.py"
    path.write_text(STORM)
    # In CPU time of this process: when other programs are busy, it is served late.
    pressed: list[float] = []
    calls: list[float] = []

    def press() -> None:
        pressed.append(time.process_time())
        os.kill(os.getpid(), signal.SIGINT)

    def call() -> None:
        calls.append(time.process_time())
        if len(calls) == CALLS:
            threading.Thread(target=press).start()

    with Machine(ProcessAccelerator(GuestProcess())) as machine:
        board = devices.board(machine, ["cirrus-vga,addr=02.0"], 16 << 20)
        machine.loop.call_every(PERIOD, call)
        ctrl_c = threading.Timer(60, press)
        ctrl_c.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                machine.run(f"{path}:main")
            heard = time.process_time()
        finally:
            ctrl_c.cancel()
        assert board.displays[0].state()["blit_ended_once"]
    assert heard - pressed[0] < 1
    gaps = [later - earlier for earlier, later in zip(calls, [*calls[1:], heard], strict=True)]
    assert len(calls) >= CALLS
    assert max(gaps) < 1, gaps

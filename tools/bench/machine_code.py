"""The boot sector of `bench vga` as this program's guest: machine code in the guest process."""

from __future__ import annotations

import time

from coalesced.devices.uart import Uart
from coalesced.hv.cpu.guest import GUEST, library
from coalesced.hv.errors import HostError
from coalesced.tools.bench.bootsector import BEGIN, END, FILLED, ORIGIN, READY, image
from coalesced.vmm.accel.base import Accelerator
from coalesced.vmm.board import Board
from coalesced.vmm.devicespec import create, parse_spec
from coalesced.vmm.machine import Machine

MEMORY = 2 << 20
POWER = 20  # of two: writes
_START = (b"\xea\x00\x7c\x00\x00" + bytes(11)).rjust(0x10000, b"\0")  # jmp 0:ORIGIN at reset


def why_not() -> str:
    """The reason why machine code cannot run here; empty if it can."""
    try:
        library()
    except HostError as error:
        return str(error)
    return ""


def measure(accel: Accelerator, power: int = POWER) -> float:
    """Nanoseconds per write of 1 << `power` by `rep stosb`, from BEGIN to END on the serial line.

    The guest's last load drains the ring before END.
    """
    with Machine(accel) as machine:
        board = Board(machine, MEMORY)
        uart = Uart()
        for device, text in ((None, "VGA,addr=02.0"), (uart, "isa-serial")):
            spec = parse_spec(text)
            board.add(device or create(spec, board.addresses), spec)
        board.complete()
        board.pic.on_intr = machine.take_interrupts(board.pic.acknowledge).set_pin
        board.add_bios(_START)
        machine.dma.write(ORIGIN, image())
        times: dict[bytes, int] = {}

        def sent(data: bytes) -> None:
            times[data] = time.monotonic_ns()
            if data == READY:
                uart.receive(bytes((power | FILLED,)))
            elif data == END:
                machine.stop()

        uart.send = sent
        machine.run(GUEST)
        return (times[END] - times[BEGIN]) / (1 << power)

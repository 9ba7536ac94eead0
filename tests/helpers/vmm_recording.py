"""A machine with a recording device in memory and one at ports, and writes for both."""

from __future__ import annotations

from coalesced.vmm.machine import Machine
from helpers.vmm_fake import (
    FakeAccelerator,
    Queued,
    Recorder,
    Seen,
    Step,
)

MEM, PORT = 0xA0000, 0x100


class Board:
    """A machine with a memory device at MEM and a port device at PORT, one log for both."""

    def __init__(self, *script: Step, accel: FakeAccelerator | None = None) -> None:
        self.accel = accel or FakeAccelerator(script)
        self.machine = Machine(self.accel)
        self.log: list[tuple[str, Seen]] = []
        self.mem = Recorder("mem", 0x100, coalesced=((0, 0x80),), log=self.log)
        self.port = Recorder("port", 0x10, coalesced=((0, 8),), log=self.log)
        for device in (self.mem, self.port):
            self.machine.add_device(device)
        self.machine.memory.map(self.mem.region, MEM)
        self.machine.ports.map(self.port.region, PORT)

    def run(self) -> list[tuple[str, Seen]]:
        self.machine.run("guest")
        return self.log


QUEUED = [Queued(MEM + 1, 1, 0x11), Queued(PORT + 1, 1, 0x22, True), Queued(MEM + 2, 2, 0x3333)]
ARRIVED = [
    ("mem", ("write", 1, 1, 0x11)),
    ("port", ("write", 1, 1, 0x22)),
    ("mem", ("write", 2, 2, 0x3333)),
]

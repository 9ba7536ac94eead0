"""The qtest commands that the guest does not carry out: interrupts and the clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from coalesced.tools.qtest.protocol import OK, Control, Refused
from coalesced.vmm.board import Board
from coalesced.vmm.machine import Machine

# The inputs of QEMU's I/O APIC are the ISA interrupts; a test names it by either path.
_IOAPIC: Final = ("ioapic", "/machine/i440fx/ioapic")


class Controls:
    """Carries them out. Lines about interrupts go to `tell`, as QEMU sends them."""

    def __init__(self, board: Board, tell: Callable[[bytes], None]) -> None:
        self._board = board
        self._tell = tell
        self._device: str | None = None  # whose interrupts are intercepted
        self._levels: dict[int, bool] = {}

    @property
    def intercepting(self) -> bool:
        """Whether interrupts are reported."""
        return self._device is not None

    def reply(self, control: Control) -> bytes:
        """Carry a command out; all before it are done. Raises Refused."""
        if control.name.startswith("irq_intercept"):
            return self._intercept(control.words[0], outputs=control.name.endswith("out"))
        machine, clock = self._board.machine, self._board.clock
        # The guest's writes before the step take effect before it.
        machine.flush()
        given = int(control.words[0]) if control.words else None
        if control.name == "clock_set":
            return b"OK %d" % clock.set(given or 0)
        return b"OK %d" % clock.step(given)

    def _intercept(self, name: str, outputs: bool) -> bytes:
        """One device's inputs or outputs can be intercepted, for good.

        In: the I/O APIC, whose inputs are the ISA interrupts. Out: a device of the board, whose
        only output, 0, is its INTx; QEMU's PCI devices show none.
        """
        device = "ioapic" if name in _IOAPIC else name
        names = [found.name for found in self._board.machine.devices]
        if device not in ("ioapic", *names):
            raise Refused(b"FAIL Unknown device")
        if self._device is not None:
            if self._device != device:
                raise Refused(b"FAIL IRQ intercept already enabled")
            return OK
        self._device = device
        if device == "ioapic" and not outputs:
            self._board.on_irq = self._changed
        elif outputs:
            self._board.on_pin = self._pin_changed
        return OK

    def _pin_changed(self, name: str, level: bool) -> None:
        if name == self._device:
            self._changed(0, level)

    def _changed(self, number: int, level: bool) -> None:
        if self._levels.get(number, False) != level:
            self._levels[number] = level
            self._tell(b"IRQ %s %d" % (b"raise" if level else b"lower", number))


class Events:
    """Lines that arose while the guest had a batch, each with its time.

    The time is the number of accesses of the batch's commands before it. A queued write takes
    effect when the ring is drained, so that its line may follow a later reply, but never
    precedes its own.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._before = 0
        self._lines: list[tuple[int, bytes]] = []

    def start(self) -> None:
        """Start a batch; the guest is stopped."""
        self._before = self._accesses()

    def add(self, line: bytes) -> None:
        """Add a line that arose now."""
        self._lines.append((self._accesses() - self._before, line))

    def take(self) -> list[tuple[int, bytes]]:
        """The lines so far, each with the number of accesses at its time."""
        lines, self._lines = self._lines, []
        return lines

    def _accesses(self) -> int:
        counters = self._machine.counters
        waiting = sum(queue.ring.pending() for queue in self._machine.queues)
        # Not `exits`, which sorts them first.
        return counters.coalesced + counters.exits - counters.halts + waiting

"""PCI bus 0: finds functions by slot and number, and joins their interrupt pins as QEMU's `pc`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.devices.bus.device import Clock, Dma, InterruptLine
from coalesced.devices.bus.pci import BAR_PRIORITY, PciFunction
from coalesced.devices.bus.region import Region

SLOTS: Final = 32
PIRQS: Final = 4
PIRQ_IRQS: Final = (10, 10, 11, 11)
"""ISA interrupts of PIRQA to PIRQD, as SeaBIOS sets them up."""
ISA_IRQS: Final = 16


class PciBus:
    """Bus 0: finds functions by slot and joins their interrupt pins."""

    def __init__(
        self,
        memory: AddressSpace,
        ports: AddressSpace,
        set_irq: Callable[[int, bool], None],
        dma: Dma,
        clock: Clock,
    ) -> None:
        """`set_irq(irq, level)` is called on each change of an ISA interrupt.

        Slot and pin are swizzled to PIRQA to PIRQD as on QEMU's `pc`, which are led to PIRQ_IRQS
        until `route` says otherwise.
        The functions access memory through `dma` and read the time from `clock`.
        """
        self.memory = memory
        self.ports = ports
        self.dma = dma
        self.clock = clock
        self._functions: dict[tuple[int, int], PciFunction] = {}
        self._slots: dict[PciFunction, int] = {}
        self._raised: tuple[set[PciFunction], ...] = tuple(set() for _ in range(PIRQS))
        self._routes: tuple[int, ...] = PIRQ_IRQS
        self._lines = [InterruptLine(irq, set_irq) for irq in range(ISA_IRQS)]

    def add(self, function: PciFunction, slot: int, number: int = 0) -> None:
        """Plug a function into a slot, 0 to 31, and map its legacy regions.

        `number`: 0 to 7, of the function. Raises ValueError if the slot does not exist, or is taken
        by a function of that number.
        """
        if not 0 <= slot < SLOTS:
            raise ValueError(f"{function.name}: expected a PCI slot of 0 to 31, got {slot}")
        taken = self._functions.get((slot, number))
        if taken is not None:
            raise ValueError(f"{function.name}: PCI slot {slot:02x} already holds {taken.name!r}")
        self._functions[slot, number] = function
        self._slots[function] = slot
        function.bus = self
        for base, region, priority in function.legacy_memory:
            self.memory.map(region, base, priority)
        for base, region, priority in function.legacy_ports:
            self.ports.map(region, base, priority)

    def show_rom(self, address: int, contents: bytes) -> Callable[[], None]:
        """Map an expansion ROM; the answer takes it away again."""

        def read(offset: int, size: int) -> int:
            return int.from_bytes(contents[offset : offset + size], "little")

        region = Region("rom", len(contents), read, lambda _offset, _size, _value: None)
        mapping = self.memory.map(region, address, BAR_PRIORITY)
        return lambda: self.memory.unmap(mapping)

    def functions(self) -> Mapping[tuple[int, int], PciFunction]:
        """The functions by slot and number."""
        return MappingProxyType(self._functions)

    def config_read(self, slot: int, function: int, offset: int, size: int) -> int:
        """Read configuration space; all ones where there is no such function."""
        found = self._functions.get((slot, function))
        if found is None:
            return (1 << (8 * size)) - 1
        return found.config_read(offset, size)

    def config_write(self, slot: int, function: int, offset: int, size: int, value: int) -> None:
        """Write configuration space; nothing happens where there is no such function."""
        found = self._functions.get((slot, function))
        if found is not None:
            found.config_write(offset, size, value)

    def set_pin(self, function: PciFunction, pin: int, level: bool) -> None:
        """Drive INTA to INTD (1 to 4) of a function on this bus; lines are shared by OR."""
        pirq = (self._slots[function] - 1 + pin - 1) & 3
        raised = self._raised[pirq]
        if level:
            raised.add(function)
        else:
            raised.discard(function)
        self._drive(self._routes[pirq])

    def route(self, irqs: Sequence[int]) -> None:
        """Route PIRQA to PIRQD to these ISA interrupts; 16 and above mean none."""
        before, self._routes = self._routes, tuple(irqs)
        if before != self._routes:
            for irq in sorted({*before, *self._routes}):
                self._drive(irq)

    def _drive(self, irq: int) -> None:
        if irq < ISA_IRQS:
            led = (
                raised for raised, to in zip(self._raised, self._routes, strict=True) if to == irq
            )
            self._lines[irq].set(any(led))

"""The ISA bridge of a PC, function 0 of Intel's PIIX3: it routes PCI interrupts to ISA ones.

Register names: Intel 82371SB data sheet. What sticks and what a reset changes follows QEMU 7.2's
`PIIX3`. The chips behind the bridge, and the reset control register, are devices of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from coalesced.devices.bus.pci import STATUS, PciFunction
from coalesced.devices.bus.pci_bus import PIRQS

PIRQ_ROUTE: Final = 0x60
"""A byte for each of PIRQA to PIRQD: the ISA interrupt; 16 and above stand for none."""
PIRQ_DISABLED: Final = 0x80
STATUS_MEDIUM_DECODE: Final = 0x0200

# (first register, values), other device-specific bytes survive a reset.
_AT_RESET: Final = (
    (0x4C, b"\x4d"),  # XBCS and what is named after it
    (0x4E, b"\x03\x00"),
    (0x69, b"\x02"),  # TOM
    (0x70, b"\x80"),  # MBIRQ
    (0x76, b"\x0c\x0c\x02\x00"),  # MBDMA, PCSC
    (0x80, b"\x00"),
    (0x82, b"\x00"),
    (0xA0, b"\x08"),  # SMI control
    (0xA2, bytes(6)),
    (0xA8, b"\x0f"),
    (0xAA, bytes(3)),
    (0xAE, b"\x00"),
)


class Piix3(PciFunction):
    """8086:7000, for a slot with more functions."""

    def __init__(self, routes: Sequence[int] | None = None) -> None:
        """`routes`: interrupts of PIRQA to PIRQD after a reset, as firmware would have set them up.

        None: they are led nowhere before the guest does so, as on a PC.
        """
        super().__init__(
            name="PIIX3", vendor_id=0x8086, device_id=0x7000, class_code=0x060100, revision=0x00
        )
        self._put(STATUS, 2, STATUS_MEDIUM_DECODE)
        self.mark_multifunction()
        self.route_at_reset(routes)

    def route_at_reset(self, routes: Sequence[int] | None) -> None:
        """Change the routes after a reset, and make them the present ones."""
        self._routes = bytes([PIRQ_DISABLED] * PIRQS if routes is None else routes)
        self._set_registers()

    def config_write(self, offset: int, size: int, value: int) -> None:
        super().config_write(offset, size, value)
        self.lead()

    def reset(self) -> None:
        super().reset()
        self._set_registers()

    def _set_registers(self) -> None:
        for first, values in (*_AT_RESET, (PIRQ_ROUTE, self._routes)):
            self.config[first : first + len(values)] = values
        self.lead()

    def lead(self) -> None:
        """Let the bus raise the interrupts that the registers say."""
        if self.bus is not None:
            self.bus.route(self.config[PIRQ_ROUTE : PIRQ_ROUTE + PIRQS])

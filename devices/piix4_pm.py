"""Power management of a PC, function 3 of Intel's PIIX4, with the SMI command port.

Register names: Intel 82371AB data sheet. What sticks follows QEMU 7.2's `PIIX4_PM`. The SMBus and
the general-purpose events are absent, and nothing answers an SMI.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from coalesced.devices.acpi_pm import AcpiPm
from coalesced.devices.bus.address_space import Mapping as RegionMapping
from coalesced.devices.bus.device import Clock, StateValue
from coalesced.devices.bus.narrow_registers import byte_registers
from coalesced.devices.bus.pci import STATUS, PciFunction

SMI_PORT: Final = 0xB2
"""The SMI command, and a byte for it behind."""
COMMAND_ACPI_ENABLE: Final = 0xF1
COMMAND_ACPI_DISABLE: Final = 0xF0
SCI: Final = 9
"""The ISA interrupt of ACPI."""

PMBA: Final = 0x40
"""Where the registers answer: 64 ports from a multiple of 64 on."""
PMREGMISC: Final = 0x80
PMREGMISC_ENABLE: Final = 0x01
_STATUS: Final = 0x0280

_AT_POWER_ON: Final = ((0x5F, b"\x10"), (0x63, b"\x60"), (0x90, b"\x01\xb1"), (0xD2, b"\x09"))
_AT_RESET: Final = ((PMBA, b"\x01"), (0x58, bytes(4)), (PMREGMISC, b"\x00"))
DEVACTB: Final = 0x58
DEVACTB_APMC_ENABLE: Final = 1 << 25
"""Writes of the SMI command port raise SMIs."""


class Piix4Pm(PciFunction):
    """8086:7113, to be added to a bus as function 3."""

    def __init__(
        self,
        clock: Clock,
        set_sci: Callable[[bool], None],
        sleep: Callable[[int], None] = lambda _type: None,
    ) -> None:
        """`set_sci` drives ISA interrupt SCI; `sleep` is called with the type of a sleep."""
        super().__init__(
            name="PIIX4_PM",
            vendor_id=0x8086,
            device_id=0x7113,
            class_code=0x068000,
            revision=0x03,
            interrupt_pin=1,
        )
        self.acpi = AcpiPm(clock, set_sci, sleep)
        self._put(STATUS, 2, _STATUS)
        for first, values in (*_AT_POWER_ON, *_AT_RESET):
            self.config[first : first + len(values)] = values
        self._smm = True
        self._base: int | None = None
        self._answering: list[RegionMapping] = []
        self._smi = bytearray(2)
        self.legacy_ports = [
            (SMI_PORT, byte_registers("apm-io", 2, self._smi.__getitem__, self._write_smi), 0)
        ]

    def disable_smm(self) -> None:
        """The processor has no system management mode: tell firmware not to wait for one.

        QEMU does so by a DEVACTB whose SMIs are set up already.
        """
        self._smm = False
        self._put(DEVACTB, 4, DEVACTB_APMC_ENABLE)

    def config_write(self, offset: int, size: int, value: int) -> None:
        super().config_write(offset, size, value)
        self._place()

    def reset(self) -> None:
        super().reset()
        for first, values in _AT_RESET:
            self.config[first : first + len(values)] = values
        if not self._smm:
            self.disable_smm()
        self.acpi.reset()
        self._place()

    def state(self) -> Mapping[str, StateValue]:
        """Configuration space, the ports of the SMI, and ACPI's registers but for its timer."""
        return {**super().state(), "smi": bytes(self._smi), "acpi": self.acpi.state()}

    def _place(self) -> None:
        """Let the registers answer where the configuration space says."""
        base = self._get(PMBA, 2) & 0xFFC0
        wanted = base if self.config[PMREGMISC] & PMREGMISC_ENABLE else None
        if self.bus is None or wanted == self._base:
            return
        ports, acpi = self.bus.ports, self.acpi
        while self._answering:
            ports.unmap(self._answering.pop())
        self._base = wanted
        if wanted is not None:
            for region, at in ((acpi.events, 0), (acpi.control, 4), (acpi.timer, 8)):
                self._answering.append(ports.map(region, wanted + at))

    def _write_smi(self, offset: int, value: int) -> None:
        self._smi[offset] = value
        if offset == 0 and value in {COMMAND_ACPI_ENABLE, COMMAND_ACPI_DISABLE}:
            self.acpi.enable(value == COMMAND_ACPI_ENABLE)

"""A PC built from device SPECs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.bus.device import Card, Device, Wire
from coalesced.devices.bus.device import Clock as DeviceClock
from coalesced.devices.bus.pci import PciFunction
from coalesced.devices.bus.pci_bus import PIRQ_IRQS, SLOTS, PciBus
from coalesced.devices.bus.region import Region
from coalesced.devices.bus.timed_line import TimedLine
from coalesced.devices.diagnostics import PostCodes
from coalesced.devices.fw_cfg import FwCfg
from coalesced.devices.i440fx import AREAS, VIDEO_WINDOW, Area, I440fx
from coalesced.devices.i8042 import I8042
from coalesced.devices.i8237 import I8237
from coalesced.devices.pic import I8259Pair
from coalesced.devices.piix3 import Piix3
from coalesced.devices.piix4_pm import SCI, Piix4Pm
from coalesced.devices.pit import I8254
from coalesced.devices.rtc import SECOND, Mc146818
from coalesced.vmm import pc
from coalesced.vmm.accel.base import Processor
from coalesced.vmm.clock import Clock
from coalesced.vmm.devicespec import ISA_BUS, PCI_BUS, Spec, SpecError
from coalesced.vmm.machine import Machine
from coalesced.vmm.macs import MacAddresses
from coalesced.vmm.rom import Rom
from coalesced.vmm.shadow import ShadowRam

BIOS_END: Final = 1 << 32
BIOS_UNIT: Final = 1 << 16
BIOS_LARGEST: Final = 16 << 20
BIOS_LOW_SIZE: Final = 0x20000
ISA: Final = "isa"
PCI: Final = "pci"
TIMER_IRQ: Final = 0
CLOCK_IRQ: Final = 8
ISA_BRIDGE_SLOT: Final = 1
FIRST_FREE_SLOT: Final = 2


IrqListener = Callable[[int, bool], None]


class FixedDevice(Device, Protocol):
    """A device at addresses of its own: (base, region, priority)."""

    legacy_memory: list[tuple[int, Region, int]]
    legacy_ports: list[tuple[int, Region, int]]


FixedT = TypeVar("FixedT", bound=FixedDevice)


class IsaDevice(Device, Protocol):
    """A device that raises ISA interrupts."""

    def attach(self, clock: DeviceClock, set_irq: IrqListener) -> None:
        """Join it to the clock and to the interrupts; called once."""


class Display(Device, Protocol):
    """A device with a picture."""

    def render(self, frame: int = 0) -> NDArray[np.uint8]:
        """The picture on the monitor, RGB, of shape (height, width, 3)."""

    def text(self) -> list[str] | None:
        """The rows of a text screen; None in graphics modes."""


class NetworkCard(Device, Card, Protocol):
    """A device that takes a network back end."""

    def connect(self, wire: Wire) -> None:
        """Plug in the wire that it sends to."""


class Board:
    """An i440FX PC: RAM, host bridge, RTC, DMA controllers, PCI bus 0, and the added devices.

    `vmm.absent` lists the devices that QEMU has at fixed ports and this PC has not.

    `on_irq` is called on each change of an ISA interrupt, as is the guest's processor; `on_pin` on
    each change of a device's own INTx, by its name; `on_a20` when the guest sets the A20 gate;
    `on_sleep` when it asks ACPI for a type of sleep (0 turns the machine off).
    """

    def __init__(self, machine: Machine, ram_size: int = pc.DEFAULT_MEMORY) -> None:
        """`ram_size` in bytes: whole pages, more than 1 MiB (ValueError)."""
        self.machine = machine
        self.clock = Clock(machine.loop, machine.timer_failed)
        self.on_irq: IrqListener = lambda _irq, _level: None
        self.on_pin: Callable[[str, bool], None] = lambda _name, _level: None
        self.on_sleep: Callable[[int], None] = lambda _type: None
        self.on_a20: Callable[[bool], None] = lambda _level: None
        self.addresses = MacAddresses()
        self._ids: set[str] = set()
        self._raised = {ISA: 0, PCI: 0}  # interrupts by who raises them, a bit each
        self.displays: list[Display] = []
        self.functions: list[PciFunction] = []
        pc.add_ram(machine, ram_size)
        self.bus = _Bus(self)
        self._always_ram: set[Area] = set()
        self._shadows = {area: ShadowRam(machine, area.start, area.size) for area in AREAS}
        self.host = I440fx(ram_size=ram_size, reset_machine=self.reset, show_ram=self._show_ram)
        self._plug(self.host, 0)
        self.rtc = self._make_clock(ram_size)
        self._fix(I8237())
        self.pic = self._fix(I8259Pair())
        self.pit = self._fix(I8254(self.clock, lambda level: self.set_irq(TIMER_IRQ, level, ISA)))
        self.pic.before_access(self.pit.follow)
        self.fw_cfg = self._fix(FwCfg(machine.dma, ram_size))
        self.i8042 = self._fix(I8042(self._set_isa_irq, self._set_a20, self.reset))
        self.post_codes = self._fix(PostCodes())
        self.isa_bridge = Piix3(PIRQ_IRQS)
        self._plug(self.isa_bridge, ISA_BRIDGE_SLOT)
        self.pm = Piix4Pm(self.clock, lambda level: self.set_irq(SCI, level, ISA), self._sleep)
        self._plug(self.pm, ISA_BRIDGE_SLOT, 3)

    def _make_clock(self, ram_size: int) -> Mc146818:
        started = int(time.time()) * SECOND  # as QEMU's, it begins with a whole second
        line = TimedLine(
            lambda level: self.set_irq(CLOCK_IRQ, level, ISA),
            lambda due, call: self.clock.call_at(due - started, call),
        )
        rtc = Mc146818(lambda: started + self.clock.now(), _cmos(ram_size), line)
        self.machine.add_device(rtc)
        for base, region, priority in rtc.legacy_ports:
            self.machine.ports.map(region, base, priority)
        return rtc

    def add(self, device: Device, spec: Spec) -> None:
        """Plug a device in where its SPEC says. Raises SpecError."""
        try:
            self._check_place(device, spec)
            if spec.netdev is not None:
                self._connect(device, spec.name, spec.netdev)
            if hasattr(device, "attach"):
                cast(IsaDevice, device).attach(self.clock, self._set_isa_irq)
            if isinstance(device, PciFunction):
                self._plug(device, self._free_slot() if spec.slot is None else spec.slot)
            elif spec.slot is not None:
                raise ValueError(f"{spec.name} is no PCI device and takes no addr")
            else:
                self._fix(cast(FixedDevice, device))
        except ValueError as error:
            raise SpecError(f"device {spec.text!r}: {error}") from error
        if hasattr(device, "render"):
            self.displays.append(cast(Display, device))

    def _check_place(self, device: Device, spec: Spec) -> None:
        """Raises ValueError for an id that is taken, and for a bus that is none for the device."""
        if spec.bus is not None:
            expected = PCI_BUS if isinstance(device, PciFunction) else ISA_BUS
            if spec.bus != expected:
                raise ValueError(f"bus: expected {expected} for {spec.name}, got {spec.bus!r}")
        if spec.id is not None:
            if spec.id in self._ids:
                raise ValueError(f"id: another device already has the id {spec.id!r}")
            self._ids.add(spec.id)

    def reset(self) -> None:
        """Reset every device, and the processor of machine code, to the state after power-on.

        RAM stays.
        """
        for device in self.machine.devices:
            device.reset()
        if self.machine.executes_code:
            processor = cast(Processor, self.machine.accel)
            processor.pause()  # it runs on where the write of the reset port was queued
            processor.reset()

    def set_irq(self, irq: int, level: bool, bus: str = PCI) -> None:
        """Raise or lower an ISA interrupt, which is raised while a device of either bus does."""
        before = self._raised[ISA] | self._raised[PCI]
        self._raised[bus] = self._raised[bus] & ~(1 << irq) | level << irq
        now = self._raised[ISA] | self._raised[PCI]
        level = bool(now >> irq & 1)
        self.pic.set_irq(irq, level)
        if now != before:
            self.machine.accel.set_irq(irq, level)
            self.on_irq(irq, level)

    def _set_isa_irq(self, irq: int, level: bool) -> None:
        self.set_irq(irq, level, ISA)

    def _set_a20(self, level: bool) -> None:
        self.on_a20(level)

    def _sleep(self, kind: int) -> None:
        self.on_sleep(kind)

    def complete(self) -> None:
        """No more devices are added: the video window is RAM where no device took it, as in QEMU.

        Raises HostError where there is none for it.
        """
        found = self.machine.memory.find(VIDEO_WINDOW.start)
        end = VIDEO_WINDOW.start + VIDEO_WINDOW.size
        if found.mapping is None and found.end >= end:
            self._always_ram.add(VIDEO_WINDOW)
            self._shadows[VIDEO_WINDOW].show(True)

    def add_bios(self, contents: bytes) -> None:
        """A BIOS below 4 GiB; its last 128 KiB also below 1 MiB, behind the shadow RAM.

        Whole multiples of 64 KiB (ValueError). The guest is machine code.
        """
        if not contents or len(contents) % BIOS_UNIT or len(contents) > BIOS_LARGEST:
            raise ValueError(
                f"BIOS: expected 64 KiB to 16 MiB in multiples of 64 KiB, got {len(contents)} bytes"
            )
        Rom(self.machine, BIOS_END - len(contents), contents)
        low = contents[-BIOS_LOW_SIZE:]
        first = pc.HIGH_MEMORY - len(low)
        for area, shadow in self._shadows.items():
            if area.start >= first:
                piece = low[area.start - first :][: area.size]
                shadow.rom = Rom(self.machine, area.start, piece)

    def _show_ram(self, area: Area, shown: bool) -> None:
        self._shadows[area].show(shown or area in self._always_ram)

    def _connect(self, device: Device, name: str, netdev: str) -> None:
        if not hasattr(device, "connect"):
            raise ValueError(f"{name} is no network card and takes no netdev")
        card = cast(NetworkCard, device)
        wire = self.machine.network.take(netdev, name)
        card.connect(wire)
        wire.connect(card)

    def _plug(self, function: PciFunction, slot: int, number: int = 0) -> None:
        self.machine.claim(function)
        self.bus.add(function, slot, number)
        self.functions.append(function)
        self.machine.add_device(function)

    def _free_slot(self) -> int:
        taken = {slot for slot, _ in self.bus.functions()}
        for slot in range(FIRST_FREE_SLOT, SLOTS):
            if slot not in taken:
                return slot
        raise ValueError("no PCI slot is free")

    def _fix(self, device: FixedT) -> FixedT:
        """Map a device at its own addresses, and return it."""
        self.machine.add_device(device)
        for base, region, priority in device.legacy_memory:
            self.machine.memory.map(region, base, priority)
        for base, region, priority in device.legacy_ports:
            self.machine.ports.map(region, base, priority)
        return device


def _cmos(ram_size: int) -> dict[int, int]:
    """The CMOS contents that QEMU's `pc` sets up for its firmware."""
    extended = min((ram_size >> 10) - 1024, 0xFFFF)  # KiB above 1 MiB
    above_16m = min(max(ram_size - (16 << 20), 0) >> 16, 0xFFFF)  # 64 KiB each
    return {
        0x14: 0x06,  # equipment: an FPU and a PS/2 mouse
        0x15: pc.CONVENTIONAL >> 10 & 0xFF,
        0x16: pc.CONVENTIONAL >> 18,
        0x17: extended & 0xFF,
        0x18: extended >> 8,
        0x30: extended & 0xFF,
        0x31: extended >> 8,
        0x34: above_16m & 0xFF,
        0x35: above_16m >> 8,
        0x38: 0x30,  # boot order: the third of three here, the first two below
        0x3D: 0x12,
    }


class _Bus(PciBus):
    """Bus 0 that also reports which function's pin changed."""

    def __init__(self, board: Board) -> None:
        machine = board.machine
        super().__init__(machine.memory, machine.ports, board.set_irq, machine.dma, board.clock)
        self._board = board
        self._machine = machine
        self._roms: dict[int, Rom] = {}  # by the contents, which its function keeps
        self._pins: dict[PciFunction, bool] = {}

    def show_rom(self, address: int, contents: bytes) -> Callable[[], None]:
        # Memory of its own, if the guest is machine code, which may copy or execute it.
        if self._machine.executes_code:
            known = self._roms.get(id(contents))
            if known is None:
                known = self._roms[id(contents)] = Rom(self._machine, address, contents)
            else:
                known.move(address)
            return known.remove
        return super().show_rom(address, contents)

    def set_pin(self, function: PciFunction, pin: int, level: bool) -> None:
        super().set_pin(function, pin, level)
        if self._pins.get(function, False) != level:
            self._pins[function] = level
            self._board.on_pin(function.name, level)

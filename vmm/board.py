"""A PC built from device SPECs: `NAME,property=value,...`, as QEMU's -device takes them."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from devices.bus.device import Device
from devices.bus.network import Card, Wire
from devices.bus.pci import SLOTS, PciBus, PciFunction
from devices.bus.region import Region
from devices.i440fx import AREAS, Area, I440fx
from devices.rtc import SECOND, Mc146818
from vmm import macs, pc
from vmm.clock import Clock
from vmm.machine import Machine
from vmm.macs import MacAddresses
from vmm.shadow import ShadowRam

FIRST_FREE_SLOT: Final = 2  # 0 is the host bridge, 1 QEMU's ISA bridge


class SpecError(ValueError):
    """A device SPEC cannot be used; the text is one line that says what and why."""


class FixedDevice(Device, Protocol):
    """A device at addresses of its own: (base, region, priority)."""

    legacy_memory: list[tuple[int, Region, int]]
    legacy_ports: list[tuple[int, Region, int]]


class Display(Device, Protocol):
    """A device with a picture."""

    def render(self, frame: int = 0) -> NDArray[np.uint8]:
        """What the monitor shows, RGB, of shape (height, width, 3)."""

    def text(self) -> list[str] | None:
        """The rows of a text screen; None in graphics modes."""


class NetworkCard(Device, Card, Protocol):
    """A device that takes a network back end."""

    def connect(self, wire: Wire) -> None:
        """Plug in what it sends to."""


def _integer(text: str) -> int:
    """QEMU's integers: decimal, or hexadecimal after 0x."""
    return int(text, 0)


def _mebibytes(text: str) -> int:
    number = int(text, 0)
    if not 1 <= number <= 256 or number & number - 1:
        raise ValueError(text)
    return number << 20


class Property(NamedTuple):
    """What a SPEC's property is to the class."""

    parameter: str
    convert: Callable[[str], object]  # raises ValueError
    expected: str = "a number"


@dataclass(frozen=True)
class Model:
    """A device that a SPEC may name: where its class is, and which properties it takes."""

    module: str
    class_name: str
    properties: Mapping[str, Property] = field(default_factory=dict)

    def load(self) -> type[Device]:
        """The class; imported when it is asked for, since a command needs one or two of them."""
        found: type[Device] = getattr(importlib.import_module(self.module), self.class_name)
        return found


_VGA_MEMORY: Final = {
    "vgamem_mb": Property("vram_size", _mebibytes, "a power of two from 1 to 256")
}
_MAC: Final = Property("mac", macs.parse, "six bytes like 52:54:00:12:34:56")

MODELS: Final[dict[str, Model]] = {
    "VGA": Model("devices.vga", "PciVga", _VGA_MEMORY),
    "isa-vga": Model("devices.vga", "IsaVga", _VGA_MEMORY),
    "vga_mm": Model(
        "devices.vga",
        "VgaMm",
        {
            "ctrl_base": Property("ctrl_base", _integer),
            "vram_base": Property("vram_base", _integer),
            "it_shift": Property("it_shift", _integer),
            **_VGA_MEMORY,
        },
    ),
    "cirrus-vga": Model("devices.cirrus", "CirrusVga"),
    "isa-cirrus-vga": Model("devices.cirrus", "IsaCirrusVga"),
    "e1000": Model("devices.e1000", "E1000", {"mac": _MAC}),
}


@dataclass(frozen=True)
class Spec:
    """A device SPEC, taken apart. `slot` is None where the SPEC leaves it open.

    `netdev`: the id of the back end that the device is to be plugged into.
    """

    text: str
    name: str
    slot: int | None
    properties: Mapping[str, str]
    netdev: str | None = None


def parse_spec(text: str) -> Spec:
    """Take a SPEC apart. Raises SpecError; whether the device exists is seen when it is built."""
    name, *words = text.split(",")
    if not name:
        raise SpecError(f"device {text!r}: expected NAME,property=value,...")
    properties: dict[str, str] = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not key or not separator:
            raise SpecError(f"device {text!r}: expected property=value, got {word!r}")
        if key in properties:
            raise SpecError(f"device {text!r}: property {key!r} stands there twice")
        properties[key] = value
    slot = None
    if "addr" in properties:
        slot = _slot(text, properties.pop("addr"))
    netdev = properties.pop("netdev", None)
    return Spec(text, name, slot, properties, netdev)


def _slot(text: str, address: str) -> int:
    """QEMU's SLOT or SLOT.FUNCTION, hexadecimal."""
    slot, _, function = address.partition(".")
    try:
        number, of_slot = int(slot, 16), int(function or "0", 16)
    except ValueError:
        number = of_slot = -1
    if not 0 <= number < SLOTS or not 0 <= of_slot < 8 or address.startswith(("+", "-")):
        raise SpecError(f"device {text!r}: expected addr=SLOT.0, 00.0 to 1f.0, got {address!r}")
    if of_slot:
        raise SpecError(f"device {text!r}: function {of_slot}: every device here is a function 0")
    return number


def create(spec: Spec, addresses: MacAddresses | None = None) -> Device:
    """Build the device of a SPEC that names one of MODELS. Raises SpecError.

    `addresses`: those of the machine's other network cards.
    """
    model = MODELS.get(spec.name)
    if model is None:
        known = ", ".join(MODELS)
        raise SpecError(f"device {spec.text!r}: unknown device {spec.name!r}; known: {known}")
    arguments: dict[str, object] = {}
    for key, value in spec.properties.items():
        if key not in model.properties:
            known = ", ".join(["addr", "netdev", *model.properties])
            raise SpecError(f"device {spec.text!r}: unknown property {key!r}; known: {known}")
        parameter, convert, expected = model.properties[key]
        try:
            arguments[parameter] = convert(value)
        except ValueError:
            raise SpecError(
                f"device {spec.text!r}: {key}: expected {expected}, got {value!r}"
            ) from None
    try:
        if _MAC in model.properties.values():
            mac = cast("bytes | None", arguments.get(_MAC.parameter))
            arguments[_MAC.parameter] = (addresses or MacAddresses()).claim(mac)
        return model.load()(**arguments)
    except (ValueError, TypeError) as error:
        raise SpecError(f"device {spec.text!r}: {error}") from error


IrqListener = Callable[[int, bool], None]


class Board:
    """An i440FX PC: RAM, host bridge, RTC, PCI bus 0, and the devices that were added.

    `on_irq` is told of each change of an ISA interrupt, beside the guest's processor; `on_pin` of
    each change of a device's own INTx, by its name.
    """

    def __init__(self, machine: Machine, ram_size: int = pc.DEFAULT_MEMORY) -> None:
        """`ram_size` in bytes: whole pages, more than 1 MiB (ValueError)."""
        self.machine = machine
        self.clock = Clock(machine.loop)
        self.on_irq: IrqListener = lambda _irq, _level: None
        self.on_pin: Callable[[str, bool], None] = lambda _name, _level: None
        self.addresses = MacAddresses()
        self.displays: list[Display] = []
        self.functions: list[PciFunction] = []
        pc.add_ram(machine, ram_size)
        self.bus = _Bus(self)
        self._shadows = {area: ShadowRam(machine, area.start, area.size) for area in AREAS}
        self.host = I440fx(ram_size=ram_size, reset_machine=self.reset, show_ram=self._show_ram)
        self._plug(self.host, 0)
        started = int(time.time()) * SECOND  # as QEMU's, it begins with a whole second
        self.rtc = Mc146818(lambda: started + self.clock.now(), _cmos(ram_size))
        for base, region, priority in self.rtc.legacy_ports:
            machine.ports.map(region, base, priority)
        machine.add_device(self.rtc)

    def add(self, device: Device, spec: Spec) -> None:
        """Plug a device in where its SPEC says. Raises SpecError."""
        try:
            if spec.netdev is not None:
                self._connect(device, spec.name, spec.netdev)
            if isinstance(device, PciFunction):
                self._plug(device, self._free_slot() if spec.slot is None else spec.slot)
            elif spec.slot is not None:
                raise ValueError(f"{spec.name} is no PCI device and takes no addr")
            else:
                self._map_fixed(cast(FixedDevice, device))
        except ValueError as error:
            raise SpecError(f"device {spec.text!r}: {error}") from error
        if hasattr(device, "render"):
            self.displays.append(cast(Display, device))

    def reset(self) -> None:
        """As port 0xcf9 does it: every device into its state after power-on; RAM stays."""
        for device in self.machine.devices:
            device.reset()

    def set_irq(self, irq: int, level: bool) -> None:
        """Raise or lower an ISA interrupt."""
        self.machine.accel.set_irq(irq, level)
        self.on_irq(irq, level)

    def _show_ram(self, area: Area, shown: bool) -> None:
        self._shadows[area].show(shown)

    def _connect(self, device: Device, name: str, netdev: str) -> None:
        if not hasattr(device, "connect"):
            raise ValueError(f"{name} is no network card and takes no netdev")
        card = cast(NetworkCard, device)
        wire = self.machine.network.take(netdev, name)
        card.connect(wire)
        wire.connect(card)

    def _plug(self, function: PciFunction, slot: int) -> None:
        self.bus.add(function, slot)
        self.functions.append(function)
        self.machine.add_device(function)

    def _free_slot(self) -> int:
        taken = self.bus.functions()
        for slot in range(FIRST_FREE_SLOT, SLOTS):
            if slot not in taken:
                return slot
        raise ValueError("no PCI slot is free")

    def _map_fixed(self, device: FixedDevice) -> None:
        for base, region, priority in device.legacy_memory:
            self.machine.memory.map(region, base, priority)
        for base, region, priority in device.legacy_ports:
            self.machine.ports.map(region, base, priority)
        self.machine.add_device(device)


def _cmos(ram_size: int) -> dict[int, int]:
    """What QEMU's `pc` leaves in CMOS for its firmware."""
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
    """Bus 0 that also tells which function's pin changed."""

    def __init__(self, board: Board) -> None:
        machine = board.machine
        super().__init__(machine.memory, machine.ports, board.set_irq, machine.dma, board.clock)
        self._board = board
        self._pins: dict[PciFunction, bool] = {}

    def set_pin(self, function: PciFunction, pin: int, level: bool) -> None:
        super().set_pin(function, pin, level)
        if self._pins.get(function, False) != level:
            self._pins[function] = level
            self._board.on_pin(function.name, level)

"""Device SPECs, `NAME,property=value,...` as QEMU's -device takes them, and their devices."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from coalesced.devices.bus.device import Device
from coalesced.devices.bus.pci import ROM_LEAST, ROM_MOST, PciFunction
from coalesced.devices.bus.pci_bus import SLOTS
from coalesced.vmm import macs
from coalesced.vmm.macs import MacAddresses
from coalesced.vmm.properties import parse_properties


class SpecError(ValueError):
    """A device SPEC cannot be used; the text is one line that says what and why."""


def _integer(text: str) -> int:
    """QEMU's integers: decimal, or hexadecimal after 0x."""
    return int(text, 0)


def _mebibytes(text: str) -> int:
    number = int(text, 0)
    if not 1 <= number <= 256 or number & number - 1:
        raise ValueError(text)
    return number << 20


def _cirrus_mebibytes(text: str) -> int:
    number = int(text, 0)
    if number not in {4, 8, 16}:
        raise ValueError(text)
    return number << 20


def _boolean(text: str) -> bool:
    if text not in _BOOLEANS:
        raise ValueError(text)
    return _BOOLEANS[text]


_BOOLEANS: Final = {
    **dict.fromkeys(("on", "yes", "true", "y"), True),
    **dict.fromkeys(("off", "no", "false", "n"), False),
}


def _rom_size(text: str) -> int:
    number = int(text, 0)
    if number & number - 1 or not ROM_LEAST <= number <= ROM_MOST:
        raise ValueError(text)
    return number


def _is_posted(text: str) -> bool:
    if text not in {"exit", "posted"}:
        raise ValueError(text)
    return text == "posted"


class Property(NamedTuple):
    """The class's parameter for a SPEC's property; None: no guest could see a difference."""

    parameter: str | None
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


def _only(value: object, convert: Callable[[str], object], shown: str) -> Property:
    """A property that accepts only the value that the device is built with."""

    def checked(text: str) -> None:
        if convert(text) != value:
            raise ValueError(text)

    return Property(None, checked, f"{shown}, the only value that this device has")


_ON: Final = _only(True, _boolean, "on")
_ZERO: Final = _only(0, _integer, "0")
_ANY_BOOLEAN: Final = Property(None, _boolean, "on or off")
_ANY_NUMBER: Final = Property(None, _integer)

# Of every PCI function. The first four change its configuration space.
_ROM_FILE, _ROM_BAR, _ROM_SIZE, _MULTIFUNCTION = "romfile", "rombar", "romsize", "multifunction"
PCI_PROPERTIES: Final = {
    _ROM_FILE: Property(None, str, "a file's name, or nothing for no ROM"),
    _ROM_BAR: Property(None, _integer),
    _ROM_SIZE: Property(None, _rom_size, f"a power of two from {ROM_LEAST} to {ROM_MOST}"),
    _MULTIFUNCTION: _ANY_BOOLEAN,
    "acpi-index": _ANY_NUMBER,
    "x-pcie-extcap-init": _ANY_BOOLEAN,
    "x-pcie-lnksta-dllla": _ANY_BOOLEAN,
}
_PCI_DISPLAY: Final = {"global-vmstate": _ANY_BOOLEAN}
_CIRRUS: Final = {
    "blitter": _ON,
    "vgamem_mb": Property("vram_size", _cirrus_mebibytes, "4, 8 or 16"),
}

_VGA_MEMORY: Final = {
    "vgamem_mb": Property("vram_size", _mebibytes, "a power of two from 1 to 256")
}
_MAC: Final = Property("mac", macs.parse, "six bytes like 52:54:00:12:34:56")

MODELS: Final[dict[str, Model]] = {
    "VGA": Model(
        "coalesced.devices.vga",
        "PciVga",
        {
            **_VGA_MEMORY,
            **_PCI_DISPLAY,
            **dict.fromkeys(("edid", "mmio", "qemu-extended-regs"), _ON),
            **dict.fromkeys(("xres", "yres", "xmax", "ymax", "refresh_rate"), _ZERO),
            "big-endian-framebuffer": _only(False, _boolean, "off"),
        },
    ),
    "isa-vga": Model("coalesced.devices.vga", "IsaVga", _VGA_MEMORY),
    "vga_mm": Model(
        "coalesced.devices.vga",
        "VgaMm",
        {
            "ctrl_base": Property("ctrl_base", _integer),
            "vram_base": Property("vram_base", _integer),
            "it_shift": Property("it_shift", _integer),
            **_VGA_MEMORY,
        },
    ),
    "cirrus-vga": Model("coalesced.devices.cirrus", "CirrusVga", {**_CIRRUS, **_PCI_DISPLAY}),
    "isa-cirrus-vga": Model("coalesced.devices.cirrus", "IsaCirrusVga", _CIRRUS),
    "isa-serial": Model(
        "coalesced.devices.uart",
        "Uart",
        {
            "iobase": Property("base", _integer),
            "irq": Property("irq", _integer),
            "index": Property("index", _integer),
            "baudbase": _only(115200, _integer, "115200"),
            "wakeup": _ANY_BOOLEAN,
        },
    ),
    "isa-debugcon": Model(
        "coalesced.devices.diagnostics",
        "DebugConsole",
        {"iobase": Property("base", _integer), "readback": Property("readback", _integer)},
    ),
    "e1000": Model(
        "coalesced.devices.e1000",
        "E1000",
        {
            "mac": _MAC,
            "tdt": Property("tdt_posted", _is_posted, "exit or posted"),
            "bootindex": _ANY_NUMBER,
            "migrate_tso_props": _ANY_BOOLEAN,
            **dict.fromkeys(
                ("autonegotiation", "extra_mac_registers", "init-vet", "mitigation"), _ON
            ),
        },
    ),
}


PCI_BUS: Final = "pci.0"
ISA_BUS: Final = "isa.0"
BUSES: Final = (PCI_BUS, ISA_BUS)
_ID: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Spec:
    """A parsed device SPEC. `slot` is None where the SPEC leaves it open.

    `netdev`: the id of the back end that the device is to be plugged into. `id`: the device's own.
    """

    text: str
    name: str
    slot: int | None
    properties: Mapping[str, str]
    netdev: str | None = None
    id: str | None = None
    bus: str | None = None


def parse_spec(text: str) -> Spec:
    """Parse a SPEC. Raises SpecError; `create` checks whether the device exists."""
    name, *words = text.split(",")
    if not name:
        raise SpecError(f"device {text!r}: expected NAME,property=value,...")
    try:
        properties = parse_properties(words)
    except ValueError as error:
        raise SpecError(f"device {text!r}: {error}") from error
    slot = None
    if "addr" in properties:
        slot = _slot(text, properties.pop("addr"))
    netdev, own_id, bus = (properties.pop(key, None) for key in ("netdev", "id", "bus"))
    if own_id is not None and not _ID.fullmatch(own_id):
        raise SpecError(
            f"device {text!r}: id: expected a letter, then letters, digits, '-', '.' or '_', "
            f"got {own_id!r}"
        )
    if bus not in (None, *BUSES):
        raise SpecError(f"device {text!r}: bus: expected {' or '.join(BUSES)}, got {bus!r}")
    return Spec(text, name, slot, properties, netdev, own_id, bus)


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
    wanted = model.load()
    is_pci = issubclass(wanted, PciFunction)
    properties = {**model.properties, **(PCI_PROPERTIES if is_pci else {})}
    values = _converted(spec, properties)
    try:
        if _MAC in properties.values():
            values["mac"] = (addresses or MacAddresses()).claim(values.get("mac"))
        device = wanted(
            **{
                parameter: values[key]
                for key, (parameter, _, _) in properties.items()
                if parameter is not None and key in values
            }
        )
    except (ValueError, TypeError) as error:
        raise SpecError(f"device {spec.text!r}: {error}") from error
    if isinstance(device, PciFunction):
        _configure(device, values)
    return device


def _converted(spec: Spec, properties: Mapping[str, Property]) -> dict[str, Any]:
    """The values by the property's name. Raises SpecError."""
    values: dict[str, Any] = {}
    for key, text in spec.properties.items():
        if key not in properties:
            known = ", ".join(["addr", "bus", "id", "netdev", *properties])
            raise SpecError(f"device {spec.text!r}: unknown property {key!r}; known: {known}")
        _, convert, expected = properties[key]
        try:
            values[key] = convert(text)
        except ValueError:
            raise SpecError(
                f"device {spec.text!r}: {key}: expected {expected}, got {text!r}"
            ) from None
    return values


def _configure(function: PciFunction, values: Mapping[str, Any]) -> None:
    """Changes to a configuration space by properties that every PCI function has."""
    if values.get(_MULTIFUNCTION):
        function.mark_multifunction()
    if values.get(_ROM_BAR, 1) == 0 or values.get(_ROM_FILE) == "":
        function.resize_rom(0)
    elif _ROM_SIZE in values:
        function.resize_rom(values[_ROM_SIZE])

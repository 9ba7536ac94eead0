"""Builds a PC from device SPECs; a SPEC may name a user's own class, `FILE.py:CLASS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coalesced.devices.bus.pci import PciFunction
from coalesced.hv import guest
from coalesced.tools.errors import BadInput, warn
from coalesced.tools.runs.options import NetworkOptions
from coalesced.vmm import devicespec
from coalesced.vmm.board import Board
from coalesced.vmm.devicespec import Spec, SpecError
from coalesced.vmm.machine import Machine
from coalesced.vmm.netdev.spec import NetdevError

DEFAULT_DEVICE = "VGA,addr=02.0"
DEFAULT_MACHINE = [DEFAULT_DEVICE, "e1000,addr=03.0"]  # of a replay


def board(
    machine: Machine,
    specs: list[str],
    ram_size: int,
    network: NetworkOptions | None = None,
    rom_of: Callable[[Spec], bytes] = lambda _spec: b"",
) -> Board:
    """A PC with these devices and their network. Raises BadInput.

    `rom_of`: the contents of a PCI device's expansion ROM, empty for none.
    """
    try:
        built = Board(machine, ram_size)
        if network is not None:
            _add_network(machine, network)
        for text in specs:
            spec = devicespec.parse_spec(text)
            own = ".py:" in spec.name
            device = _own(spec) if own else devicespec.create(spec, built.addresses)
            if isinstance(device, PciFunction) and (rom := rom_of(spec)):
                device.set_rom(rom)
            built.add(device, spec)
        built.complete()
    except (SpecError, NetdevError) as error:
        raise BadInput(str(error)) from error
    for name in machine.network.unused():
        warn(f"warning: netdev {name} has no peer")
    return built


def _add_network(machine: Machine, network: NetworkOptions) -> None:
    if network.pcap is not None:
        machine.network.record(network.pcap)
    for text in network.netdevs:
        machine.network.add(text)


def memory_size(text: str) -> int:
    """`--memory 16M`: bytes, in whole MiB, from 2 MiB up. Raises BadInput."""
    scale = {"M": 1 << 20, "G": 1 << 30}.get(text[-1:].upper(), 0)
    digits = text[:-1]
    size = int(digits) * scale if digits.isdecimal() and len(digits) < 6 else 0
    if not 2 << 20 <= size <= 3 << 30:
        raise BadInput(f"--memory {text}: expected 2M to 3G")
    return size


# --- a user's own class ---


def _own(spec: Spec) -> PciFunction:
    """A checked instance of a user's class. Raises SpecError."""
    where, _, name = spec.name.rpartition(":")
    path = Path(where)
    wanted = _class(spec, path, name)
    arguments = {key: _value(text) for key, text in spec.properties.items()}
    made = _guarded(spec, path, f"{name}()", lambda: wanted(**arguments))
    if not isinstance(made, PciFunction):
        raise _wrong(spec, f"{name} is not derived from coalesced.devices.bus.pci.PciFunction")
    _check(spec, path, made)
    return made


def _class(spec: Spec, path: Path, name: str) -> Callable[..., object]:
    if not path.is_file():
        raise _wrong(spec, f"there is no file {path}")

    def load() -> object:
        return guest.load_file(str(path.absolute()), "device")

    found = getattr(_guarded(spec, path, f"import of {path}", load), name, None)
    if found is None:
        raise _wrong(spec, f"{path} has no class {name!r}")
    if not isinstance(found, type):
        raise _wrong(spec, f"{name!r} in {path} is not a class")
    return found


def _check(spec: Spec, path: Path, device: PciFunction) -> None:
    """Find errors that would otherwise show in the middle of a run. Raises SpecError."""
    name = type(device).__name__
    missing = [
        key for key in ("config", "legacy_memory", "legacy_ports") if not hasattr(device, key)
    ]
    if missing:
        raise _wrong(spec, f"{name}.__init__ does not call super().__init__()")
    for bar in device.bars.values():
        region = bar.region
        for handler in (region.read, region.write):
            if not callable(handler):
                raise _wrong(spec, f"region {region.name!r}: expected a function, got {handler!r}")
    state: object = _guarded(spec, path, f"{name}.state()", device.state)
    if not isinstance(state, dict):
        raise _wrong(spec, f"{name}.state() gives {type(state).__name__}, expected a dict")
    for key, value in state.items():
        if not isinstance(key, str):
            raise _wrong(spec, f"{name}.state(): expected names as keys, got {key!r}")
        if not isinstance(value, int | bytes | memoryview):
            raise _wrong(
                spec,
                f"{name}.state(): {key!r} is {type(value).__name__}, "
                f"expected int, bytes or memoryview",
            )
    _guarded(spec, path, f"{name}.reset()", device.reset)


def _guarded(spec: Spec, path: Path, what: str, call: Callable[[], object]) -> object:
    """Call a user's code. Raises SpecError, one line, for whatever it raises."""
    try:
        return call()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _wrong(spec, f"{what}: {guest.describe(error, str(path.absolute()))}") from error


def _value(text: str) -> int | str:
    try:
        return int(text, 0)
    except ValueError:
        return text


def _wrong(spec: Spec, text: str) -> SpecError:
    return SpecError(f"device {spec.name!r}: {text}")

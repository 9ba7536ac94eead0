"""Coalesced I/O as Linux KVM and QEMU do it: the public Python API.

Each name is imported from its module when it is first used; `import coalesced` loads nothing else.
"""

TYPE_CHECKING = False  # what typing has, without the 5 ms of its import

if TYPE_CHECKING:
    from coalesced.devices.bus.pci import Bar as Bar
    from coalesced.devices.bus.pci import PciFunction as PciFunction
    from coalesced.devices.bus.region import Region as Region
    from coalesced.hv.errors import CoalescedError as CoalescedError
    from coalesced.hv.errors import DeviceError as DeviceError
    from coalesced.hv.errors import GeometryError as GeometryError
    from coalesced.hv.errors import GuestError as GuestError
    from coalesced.hv.errors import HostError as HostError
    from coalesced.hv.errors import PeerDied as PeerDied
    from coalesced.hv.errors import ProtocolError as ProtocolError
    from coalesced.hv.errors import RequestError as RequestError
    from coalesced.hv.errors import RingBusy as RingBusy
    from coalesced.hv.errors import RingClosed as RingClosed
    from coalesced.hv.errors import RingFull as RingFull
    from coalesced.hv.errors import SegmentError as SegmentError
    from coalesced.hv.process import GuestProcess as GuestProcess
    from coalesced.hv.ring import Consumer as Consumer
    from coalesced.hv.ring import Producer as Producer
    from coalesced.hv.ring import usable as ring_entries
    from coalesced.hv.ring_ends import RingConsumer as RingConsumer
    from coalesced.hv.ring_ends import RingProducer as RingProducer
    from coalesced.hv.shared_ring import Ring as Ring
    from coalesced.hv.shm import Segment as Segment
    from coalesced.hv.shm import create as create_segment
    from coalesced.hv.shm import mapped as map_segments
    from coalesced.hv.vcpu import Vcpu as Vcpu
    from coalesced.tools.litmus.explore import Event as Event
    from coalesced.tools.litmus.explore import Verdict as Verdict
    from coalesced.tools.litmus.explore import explore as explore
    from coalesced.tools.traces.trace import Trace as Trace
    from coalesced.tools.traces.trace import read as load_trace
    from coalesced.vmm.accel.direct import DirectAccelerator as DirectAccelerator
    from coalesced.vmm.accel.process import ProcessAccelerator as ProcessAccelerator
    from coalesced.vmm.board import Board as Board
    from coalesced.vmm.machine import Machine as Machine

# Public name: its module, and its name there where that is another.
_HOMES = {
    "Bar": "devices.bus.pci",
    "Board": "vmm.board",
    "CoalescedError": "hv.errors",
    "Consumer": "hv.ring",
    "DeviceError": "hv.errors",
    "DirectAccelerator": "vmm.accel.direct",
    "Event": "tools.litmus.explore",
    "GeometryError": "hv.errors",
    "GuestError": "hv.errors",
    "GuestProcess": "hv.process",
    "HostError": "hv.errors",
    "Machine": "vmm.machine",
    "PciFunction": "devices.bus.pci",
    "PeerDied": "hv.errors",
    "ProcessAccelerator": "vmm.accel.process",
    "Producer": "hv.ring",
    "ProtocolError": "hv.errors",
    "Region": "devices.bus.region",
    "RequestError": "hv.errors",
    "Ring": "hv.shared_ring",
    "RingBusy": "hv.errors",
    "RingClosed": "hv.errors",
    "RingConsumer": "hv.ring_ends",
    "RingFull": "hv.errors",
    "RingProducer": "hv.ring_ends",
    "Segment": "hv.shm",
    "SegmentError": "hv.errors",
    "Trace": "tools.traces.trace",
    "Vcpu": "hv.vcpu",
    "Verdict": "tools.litmus.explore",
    "create_segment": "hv.shm:create",
    "explore": "tools.litmus.explore",
    "load_trace": "tools.traces.trace:read",
    "map_segments": "hv.shm:mapped",
    "ring_entries": "hv.ring:usable",
}


def get_include() -> str:
    """The folder of `ring.h` and `exit.h`, for the compiler's -I, with -std=gnu11 -D_GNU_SOURCE."""
    return f"{__path__[0]}/hv/core"


if not TYPE_CHECKING:  # where a type checker saw it, every name would exist

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'coalesced' has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415 - so that `import coalesced` loads nothing

        module, _, original = home.partition(":")
        value: object = getattr(import_module(f"coalesced.{module}"), original or name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*_HOMES, *globals()})

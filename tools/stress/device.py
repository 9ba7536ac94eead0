"""The devices that a stressed guest writes to, one a vCPU: they check every entry."""

from __future__ import annotations

from collections.abc import Callable

from coalesced.devices.bus.address_space import Mapping
from coalesced.devices.bus.region import U32, U64, Region
from coalesced.hv.abi import PAGE_SIZE
from coalesced.tools.stress import guest, pattern
from coalesced.tools.stress.checker import Checker
from coalesced.vmm.machine import Machine

_OTHER = 1 << 45


class Group:
    """A device that the regions of one or more vCPUs belong to, and their ring: number 0 uses the
    VM's, others have one of their own."""

    def __init__(self, number: int) -> None:
        self.name = f"group {number}"
        self.ring = "own" if number else "vm"
        self.legacy_memory: list[tuple[int, Region, int]] = []

    def reset(self) -> None:
        """Nothing to reset."""

    def state(self) -> dict[str, int]:
        """Nothing is kept."""
        return {}


class Sink:
    """Regions of all kinds in front of the checker of a vCPU."""

    def __init__(
        self,
        vcpu: int,
        checker: Checker,
        set_irq: Callable[[int, bool], None],
        proved: Callable[[int, int], None],
        group: Group,
        posted: bool,
    ) -> None:
        """`proved`: takes the vCPU, and the number of a proof that its guest has ended. `posted`:
        whether a write to the bell is posted, or only queued."""
        self._group = group
        self._posted = posted
        self._vcpu = vcpu
        self._checker = checker
        self._set_irq = set_irq
        self._proved = proved
        self._other: Mapping | None = None
        self.remaps = False  # just now

    def map(self, machine: Machine) -> None:
        """Map the regions where the stream expects them."""
        window = pattern.WINDOW
        queued, ring = ((0, window),), self._group.ring
        queue, ports = self._own(pattern.QUEUE), self._own(pattern.QUEUE_PORTS)
        direct = self._own(pattern.DIRECT)
        common = [(guest.COMMON_PROOF, self._make_proof("vm"))] if ring == "own" else []
        memory = (
            *common,
            (pattern.QUEUE, self._writes(False, queue, window, True)),
            (pattern.DIRECT, self._writes(False, direct, window, False)),
            (pattern.PROBE, Region("probe", window, self._probe, _ignore)),
            (pattern.BELL, self._make_bell(queued)),
            (guest.SILENCE, Region("silence", PAGE_SIZE, _zero, self._silence)),
            (guest.PROOF, self._make_proof(ring)),
            (guest.PROVED, Region("proved", PAGE_SIZE, _zero, self._prove)),
        )
        size = pattern.PROBE_PORTS + 4
        io = (
            (pattern.QUEUE_PORTS, self._writes(True, ports, pattern.PORTS, True)),
            (pattern.PROBE_PORT, Region("probe-ports", size, self._probe_port, _ignore)),
        )
        self._group.legacy_memory += [(0, region, 0) for _, region in (*memory, *io)]
        machine.claim(self._group)
        machine.memory.map_all((region, self._own(first)) for first, region in memory)
        machine.ports.map_all((region, self._own(first)) for first, region in io)

    @staticmethod
    def _make_proof(ring: str) -> Region:
        zone = ((0, pattern.WINDOW),)
        return Region(
            "proof", pattern.WINDOW, _zero, _ignore, take_run=len, coalesced=zone, ring=ring
        )

    def _make_bell(self, zone: tuple[tuple[int, int], ...]) -> Region:
        queued, posted = ((), zone) if self._posted else (zone, ())
        return Region(
            "bell",
            pattern.WINDOW,
            _zero,
            self._bell,
            coalesced=queued,
            posted=posted,
            ring=self._group.ring,
        )

    def _own(self, first: int) -> int:
        return pattern.own(first, self._vcpu)

    def remap(self, machine: Machine) -> None:
        """Map a region that nobody uses, or take it away: the queue must be flushed for it."""
        self.remaps = True
        if self._other is not None:
            machine.memory.unmap(self._other)
            self._other = None
        else:
            region = Region("other", PAGE_SIZE, _zero, _ignore, coalesced=((0, PAGE_SIZE),))
            self._other = machine.memory.map(region, _OTHER)
        self.remaps = False

    def _writes(self, pio: bool, base: int, size: int, coalesced: bool) -> Region:
        """A region whose writes are entries of the stream."""
        checker = self._checker

        def write(offset: int, length: int, value: int) -> None:
            checker.one(pio, base + offset, length, value)

        def write_run(offsets: U64, lengths: U32, values: U64) -> int:
            checker.run(pio, offsets + base, lengths, values)
            return len(offsets)

        queued = ((0, size),) if coalesced else ()
        ring = self._group.ring
        return Region("entries", size, _zero, write, write_run, coalesced=queued, ring=ring)

    def _probe(self, offset: int, _size: int) -> int:
        self._checker.position(offset // PAGE_SIZE, pattern.MEMORY_MODULUS)
        return self._checker.answer()

    def _probe_port(self, offset: int, _size: int) -> int:
        self._checker.position(offset, pattern.PROBE_PORTS)
        return self._checker.answer()

    def _bell(self, offset: int, _size: int, _value: int) -> None:
        self._checker.position(offset // PAGE_SIZE, pattern.MEMORY_MODULUS)
        self._set_irq(guest.LINE + self._vcpu, True)

    def _prove(self, _offset: int, _size: int, value: int) -> None:
        self._proved(self._vcpu, value)

    def _silence(self, _offset: int, _size: int, _value: int) -> None:
        self._set_irq(guest.LINE + self._vcpu, False)


def _zero(_offset: int, _size: int) -> int:
    return 0


def _ignore(_offset: int, _size: int, _value: int) -> None:
    """Ignore a write to a read-only region, which only a third party can cause."""

"""Registered ioeventfds, by KVM's rules: writes that signal a descriptor."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from coalesced.hv import abi
from coalesced.hv.errors import RequestError
from coalesced.hv.zones import Zones, next_number

LENGTHS = (0, 1, 2, 4, 8)


class Ioeventfd(NamedTuple):
    """Writes of `length` bytes (0: of any length) to `address`, of `value` alone if it is given."""

    address: int
    length: int
    value: int | None = None
    pio: bool = False

    def check(self) -> None:
        """Raises RequestError with EINVAL for one that KVM refuses."""
        if self.length not in LENGTHS:
            raise RequestError(errno.EINVAL, f"{self}: expected a length of 0, 1, 2, 4 or 8")
        if self.address + self.length >= 1 << 64:
            raise RequestError(errno.EINVAL, f"{self}: its end wraps")
        if self.length == 0 and self.value is not None:
            raise RequestError(errno.EINVAL, f"{self}: a value needs a length")

    def __str__(self) -> str:
        kind = "port" if self.pio else "address"
        value = "" if self.value is None else f", value {self.value:#x}"
        return f"ioeventfd at {kind} {self.address:#x}+{self.length}{value}"

    def pack(self, fd: int, assign: bool) -> bytes:
        """struct kvm_ioeventfd."""
        flags = abi.KVM_IOEVENTFD_FLAG_PIO if self.pio else 0
        flags |= 0 if self.value is None else abi.KVM_IOEVENTFD_FLAG_DATAMATCH
        flags |= 0 if assign else abi.KVM_IOEVENTFD_FLAG_DEASSIGN
        mask = (1 << 8 * self.length) - 1
        value = (self.value or 0) & mask
        return abi.KVM_IOEVENTFD_ARGUMENT.pack(value, self.address, self.length, fd, flags)

    @classmethod
    def unpack(cls, argument: bytes) -> tuple[Ioeventfd, bool]:
        """Undo `pack`: the event, and whether it is to be added. Raises RequestError (EINVAL)."""
        if len(argument) != abi.KVM_IOEVENTFD_ARGUMENT.size:
            raise RequestError(errno.EINVAL, f"ioeventfd: {len(argument)} bytes, expected 64")
        value, address, length, _, flags = abi.KVM_IOEVENTFD_ARGUMENT.unpack(argument)
        if flags & ~7:
            raise RequestError(errno.EINVAL, f"ioeventfd: unknown flags {flags:#x}")
        matched = value if flags & abi.KVM_IOEVENTFD_FLAG_DATAMATCH else None
        event = cls(address, length, matched, bool(flags & abi.KVM_IOEVENTFD_FLAG_PIO))
        return event, not flags & abi.KVM_IOEVENTFD_FLAG_DEASSIGN

    def collides(self, other: Ioeventfd) -> bool:
        """Whether some write would match both."""
        values = (self.value, other.value)
        lengths = (self.length, other.length)
        return (
            (self.address, self.pio) == (other.address, other.pio)
            and (0 in lengths or lengths[0] == lengths[1])
            and (None in values or values[0] == values[1])
        )


class _Registered(NamedTuple):
    fd: int
    number: int


class Ioeventfds:
    """Those of one VM. Their descriptors are this object's to close."""

    def __init__(self, zones: tuple[Zones, Zones]) -> None:
        """`zones`: of memory and of ports, which the ioeventfds share their limit with."""
        self._zones = zones
        self._events: dict[Ioeventfd, _Registered] = {}

    def add(self, event: Ioeventfd, fd: int) -> None:
        """Register one; `fd`, a non-blocking eventfd, is duplicated.

        Raises RequestError: EEXIST where a write would match another one, too; ENOSPC.
        """
        event.check()
        if any(event.collides(other) for other in self._events):
            raise RequestError(errno.EEXIST, f"{event}: another ioeventfd takes the same write")
        zones = self._zones[event.pio]
        if len(zones) + sum(e.pio == event.pio for e in self._events) >= abi.NR_IOBUS_DEVS:
            raise RequestError(errno.ENOSPC, f"{event}: no more than {abi.NR_IOBUS_DEVS}")
        if os.get_blocking(fd):
            raise RequestError(errno.EINVAL, f"{event}: expected a descriptor that does not block")
        self._events[event] = _Registered(os.dup(fd), next_number())

    def remove(self, event: Ioeventfd) -> int:
        """Take one away; its descriptor, for the caller to close.

        Raises RequestError with ENOENT where there is none like it.
        """
        registered = self._events.pop(event, None)
        if registered is None:
            raise RequestError(errno.ENOENT, f"{event}: it is not registered")
        return registered.fd

    def packed(self, pio: bool) -> bytes:
        """Those of a kind as `abi.HV_EVENT`."""
        zones = self._zones[pio]
        return b"".join(
            abi.HV_EVENT.pack(
                event.address,
                event.value or 0,
                event.length,
                registered.fd,
                event.value is not None,
                not zones.precede(event.address, event.length or 1, registered.number),
            )
            for event, registered in self._events.items()
            if event.pio == pio
        )

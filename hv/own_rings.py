"""Rings of devices' own, on the kernel's side."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from coalesced.hv import abi, core, ring, shm
from coalesced.hv.errors import RequestError


class _Buffer(NamedTuple):
    ring: core.VmRing
    fd: int


class OwnRings:
    """The buffers of one VM that zones may name, by number. Their descriptors are this object's.

    A buffer is a segment: a page with words of ours (hv/core/own_ring.h), then the ring.
    """

    def __init__(self) -> None:
        self._buffers: dict[int, _Buffer] = {}
        self._shared = False

    def create(self, pages: int, wake_at: int, fd: int) -> tuple[int, int]:
        """A ring of `pages` pages whose descriptor is `fd`, duplicated; (number, segment).

        `fd` is written when `wake_at` or more entries wait. Raises RequestError, HostError.
        """
        free = set(range(1, abi.BUFFERS_MAX + 1)) - self._buffers.keys()
        if not free:
            raise RequestError(errno.ENOSPC, f"no more than {abi.BUFFERS_MAX} buffers")
        if not 1 <= pages <= abi.RING_PAGES_MAX or not 1 <= wake_at <= ring.usable(pages):
            raise RequestError(
                errno.EINVAL,
                f"no buffer of {pages} pages that wakes the VMM at {wake_at} entries",
            )
        if os.get_blocking(fd):
            raise RequestError(errno.EINVAL, "buffer: expected a descriptor that does not block")
        size = ring.size_of(pages)
        segment = shm.create("coalesced buffer", abi.PAGE_SIZE + size)
        try:
            made = core.VmRing(shm.mapped(segment), abi.PAGE_SIZE, size)
            kept = os.dup(fd)
        except BaseException:
            segment.close()
            raise
        made.own(kept, wake_at)
        if self._shared:
            made.share()
        number = min(free)
        self._buffers[number] = _Buffer(made, kept)
        return number, segment.fd

    def check(self, number: int) -> None:
        """Raises RequestError with EBADF unless there is a buffer of that number."""
        if number not in self._buffers:
            raise RequestError(errno.EBADF, f"there is no coalesced buffer {number}")

    def give_up(self, number: int) -> int:
        """Give a buffer back, which no zone names; its descriptor, for the caller to close.

        Raises RequestError with EBADF.
        """
        self.check(number)
        return self._buffers.pop(number).fd

    def share(self) -> None:
        """From now on several vCPUs append."""
        self._shared = True
        for buffer in self._buffers.values():
            buffer.ring.share()

    def rings(self) -> tuple[tuple[core.VmRing, ...], dict[int, int]]:
        """The rings as `Vcpu.set_rings` takes them, and the place of each number from 1 on."""
        rings = tuple(buffer.ring for buffer in self._buffers.values())
        return rings, {number: place for place, number in enumerate(self._buffers, 1)}

    def close(self) -> None:
        """Give all back."""
        while self._buffers:
            os.close(self._buffers.popitem()[1].fd)

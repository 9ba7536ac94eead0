"""A VMM's handle of a ring of a device's own."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from coalesced.hv import abi, core, ring, shm
from coalesced.hv.errors import ProtocolError, RequestError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from coalesced.hv.client import Vm


class OwnRing:
    """A ring beside the VM's, for the zones that name it.

    `ring` consumes it. `fd` becomes readable when `wake_at` or more entries wait in it, and stays
    so until the ring is looked into.
    """

    def __init__(self, number: int, pages: int, wake_at: int, segment: int, fd: int) -> None:
        """`number`: the kernel's; both descriptors are this object's, the segment's to close now.

        Raises SegmentError, HostError.
        """
        self.number = number
        self.pages = pages
        self.wake_at = wake_at
        size = ring.size_of(pages)
        received = shm.received("coalesced buffer", segment, abi.PAGE_SIZE + size)
        try:
            self.mapping: core.Mapping = shm.mapped(received)
        finally:
            received.close()
        self.ring = ring.Consumer(self.mapping, abi.PAGE_SIZE, size)
        self.ring.core.follow()
        self.ring.core.own(fd)
        self.fd = fd

    def look(self) -> NDArray[np.void]:
        """The published entries as `ring.peek` gives them. The descriptor stays readable if it is:
        who looks does not take a signal from who drains. Raises ProtocolError."""
        self.ring.core.own(-1)
        try:
            return self.ring.peek()
        finally:
            self.ring.core.own(self.fd)

    def release(self) -> None:
        """Give the descriptor back; may be called twice. What is in the ring can still be read."""
        if self.fd >= 0:
            self.ring.core.own(-1)
            os.close(self.fd)
            self.fd = -1


def create(vm: Vm, pages: int, wake_at: int) -> OwnRing:
    """Have the kernel make one. Raises RequestError, ProtocolError; ValueError for its size."""
    ring.check_pages(pages)
    try:
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    except OSError as error:
        reason = error.errno or errno.EMFILE
        raise RequestError(reason, f"coalesced buffer: {error.strerror}") from error
    try:
        number, _, fds = vm.request(
            abi.KVM_CREATE_COALESCED_MMIO_BUFFER,
            abi.HV_BUFFER.pack(pages, wake_at),
            (fd,),
            descriptors=1,
        )
        taken = {each.number for each in vm.own_rings}
        if not 1 <= number <= abi.BUFFERS_MAX or number in taken:
            os.close(fds[0])
            raise ProtocolError(f"control socket: expected a new buffer's number, got {number}")
        return OwnRing(number, pages, wake_at, fds[0], fd)
    except BaseException:
        os.close(fd)
        raise

"""Errors between a VMM and its kernel, classified by who caused them."""

from typing import Self

from coalesced.hv.printable import printable


class CoalescedError(Exception):
    """Base of all errors of this program; the text is one line, fit for a user."""

    frames = ""  # the traceback of the guest's code, where it is known

    def with_frames(self, frames: str) -> Self:
        """The same error, with the traceback of the guest's code."""
        self.frames = frames
        return self


class GuestError(CoalescedError):
    """The guest asked for what no processor can carry out, or its code raised."""


class HostError(CoalescedError):
    """The host lacks or refuses a resource: memory, a descriptor, a right."""


class KvmUnusable(HostError):
    """This machine's /dev/kvm is missing, forbidden, or lacks a capability."""


class DeviceError(CoalescedError):
    """A device's model raised where its answer is needed to continue."""

    def __init__(self, device: str, what: str, error: str) -> None:
        super().__init__(f"device {device}: {what}: {error}")


class PeerDied(CoalescedError):
    """The other process has ended."""


class ProtocolError(CoalescedError):
    """The other process broke the layout's rules; the text names the place and the value."""


class GeometryError(ProtocolError):
    """Memory that is no shared ring, or one of another size or version."""


class RingFull(CoalescedError):
    """The ring had no room for an entry before the timeout; `appended` went in before it."""

    def __init__(self, appended: int) -> None:
        super().__init__(f"the ring is full: {appended} entries went in before the timeout")
        self.appended = appended


class RingClosed(CoalescedError):
    """An end of the ring is closed, and no entry is left in it."""


class RingBusy(CoalescedError):
    """The end of the ring belongs to another process that is alive, or to another object."""


class SegmentError(ProtocolError):
    """A shared-memory segment was truncated by another process, or lacks a page that was not
    reserved."""


class RequestError(CoalescedError):
    """The kernel refused a request, as an ioctl fails; `errno` says why."""

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(message)
        self.errno = errno


def one_line(error: BaseException) -> str:
    """Type and text of an exception out of a user's code, whatever its text is."""
    try:
        text = " ".join(str(error).split())
    except Exception as failed:
        text = f"its text cannot be read: {type(failed).__name__}"
    text = printable(text)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

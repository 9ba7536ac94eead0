"""Requests on the control socket: what an ioctl is between a VMM and its kernel.

The socket keeps message boundaries. A request is a number and its argument, a reply a result or
-errno and a payload or the error's text; either may carry descriptors.
"""

from __future__ import annotations

import array
import os
import socket
import struct

from coalesced.hv.abi import HV_MESSAGE_MAX, HV_REPLY, HV_REQUEST
from coalesced.hv.errors import PeerDied, ProtocolError

_MAX_DESCRIPTORS = 8


def send(peer: socket.socket, head: bytes, payload: bytes, fds: tuple[int, ...] = ()) -> None:
    """Send one message. Raises PeerDied when nobody reads, ValueError when it is too long."""
    if len(head) + len(payload) > HV_MESSAGE_MAX:
        raise ValueError(
            f"expected a message of at most {HV_MESSAGE_MAX} bytes, got {len(head) + len(payload)}"
        )
    try:
        socket.send_fds(peer, [head, payload], list(fds))
    except (BrokenPipeError, ConnectionResetError) as error:
        raise PeerDied("the other process closed the control socket") from error


def receive(
    peer: socket.socket, head: struct.Struct, flags: int = 0
) -> tuple[int, bytes, tuple[int, ...]] | None:
    """One message: its number, payload and descriptors; None when flags forbid waiting for it.

    Raises PeerDied at the end of the stream, ProtocolError for a message that is cut off or
    shorter than its head; no descriptor of such a message stays open.
    """
    fds = array.array("i")
    try:
        # Not socket.recv_fds: in Python 3.11 it does not pass its flags on.
        data, ancillary, got, _ = peer.recvmsg(
            HV_MESSAGE_MAX,
            socket.CMSG_SPACE(_MAX_DESCRIPTORS * fds.itemsize),
            flags | socket.MSG_CMSG_CLOEXEC,
        )
    except BlockingIOError:
        return None
    except ConnectionResetError:
        data, ancillary, got = b"", [], 0
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    if not data and not fds:
        raise PeerDied("the other process closed the control socket")
    if got & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(data) < head.size:
        for fd in fds:
            os.close(fd)
        if got & socket.MSG_CTRUNC:
            raise ProtocolError(
                f"control socket: descriptors did not arrive: more than {_MAX_DESCRIPTORS}, or "
                "this process's limit on open files is reached (ulimit -n)"
            )
        raise ProtocolError(
            f"control socket: expected a whole message of {head.size} to {HV_MESSAGE_MAX} bytes, "
            f"got {len(data)}{' cut off' if got & socket.MSG_TRUNC else ''}"
        )
    return head.unpack_from(data)[0], data[head.size :], tuple(fds)


def send_request(
    peer: socket.socket, number: int, argument: bytes, fds: tuple[int, ...] = ()
) -> None:
    """Send a request."""
    send(peer, HV_REQUEST.pack(number), argument, fds)


def send_reply(
    peer: socket.socket, result: int, payload: bytes = b"", fds: tuple[int, ...] = ()
) -> None:
    """Send a reply; a result below 0 is -errno, and the payload its text."""
    send(peer, HV_REPLY.pack(result), payload[: HV_MESSAGE_MAX - HV_REPLY.size], fds)

"""Back end `dgram`: a frame is a datagram, of UDP or of a UNIX socket, as QEMU's is."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from coalesced.vmm.netdev import address
from coalesced.vmm.netdev.address import Address, BoundPath
from coalesced.vmm.netdev.backend import BATCH, FRAME_MAX, Backend, NetdevReport
from coalesced.vmm.netdev.host import Host
from coalesced.vmm.netdev.spec import Spec

if TYPE_CHECKING:
    from coalesced.vmm.netdev.network import Network

_BUFFER: Final = 4 << 20  # bytes that a socket may hold, as far as the system allows
_SO_SNDBUFFORCE: Final = 32  # <asm-generic/socket.h>: past what it allows others
_SO_RCVBUFFORCE: Final = 33
_UDP_SEGMENT: Final = 103  # <linux/udp.h>
_UDP_GRO: Final = 104
_UDP_MAX: Final = 65507  # bytes of a datagram over IPv4
_SEGMENTS: Final = 64  # UDP_MAX_SEGMENTS of the oldest kernels
_SEGMENT_SIZE: Final = struct.Struct("=H")
_SO_MEMINFO: Final = 55  # SK_MEMINFO_DROPS is the ninth of nine words
_MEMINFO: Final = struct.Struct("=9I")
# A device below does not compute checksums, or takes no frames of that length: one by one then.
_CANNOT_SEGMENT: Final = (errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.EOPNOTSUPP)
_RETRY: Final = 0.001  # seconds


def create(spec: Spec, host: Host, _network: Network) -> Dgram:
    """Make the back end of a `dgram` SPEC. Raises NetdevError."""
    remote = address.named(spec, "remote", passive=False)
    local = address.named(spec, "local", passive=True)
    spec.finish()
    return between(spec, host, local, remote)


def between(spec: Spec, host: Host, local: Address | None, remote: Address | None) -> Dgram:
    """Datagrams from one address to another. Raises NetdevError."""
    if remote is None:
        raise spec.wrong("expected remote=HOST:PORT, or remote.type=unix,remote.path=PATH")
    if remote.is_multicast:
        return Dgram(spec, host, _multicast(spec, remote, local), remote)
    if local is None:
        raise spec.wrong("expected local=HOST:PORT, or local.type=unix,local.path=PATH")
    if local.family != remote.family:
        raise spec.wrong("expected local and remote of the same kind")
    sock = socket.socket(local.family, socket.SOCK_DGRAM)
    try:
        path = address.bind(spec, sock, local)
    except BaseException:
        sock.close()
        raise
    return Dgram(spec, host, sock, remote, path)


def _multicast(spec: Spec, group: Address, local: Address | None) -> socket.socket:
    """A socket of the group, which also hears what it sends itself, as in QEMU."""
    if group.family != socket.AF_INET:
        raise spec.wrong(f"expected a group of IPv4, got {group}")
    if local is not None and local.family != socket.AF_INET:
        raise spec.wrong("expected local and remote of the same kind")
    interface = socket.inet_aton(str(local.where[0]) if local else "0.0.0.0")
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ip = socket.IPPROTO_IP
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        spec.attempt(f"cannot bind to {group}", lambda: sock.bind(group.where))
        member = socket.inet_aton(str(group.where[0])) + interface
        spec.attempt(
            f"cannot join {group}", lambda: sock.setsockopt(ip, socket.IP_ADD_MEMBERSHIP, member)
        )
        sock.setsockopt(ip, socket.IP_MULTICAST_LOOP, 1)
        if local is not None:
            sock.setsockopt(ip, socket.IP_MULTICAST_IF, interface)
    except BaseException:
        sock.close()
        raise
    return sock


class Dgram(Backend):
    """A frame per datagram. Datagrams from any sender are taken, as in QEMU.

    Frames of one length that are sent together go to the kernel as one, which cuts them
    (UDP_SEGMENT), and come from it that way (UDP_GRO); on the wire they are datagrams as ever.
    """

    def __init__(
        self,
        spec: Spec,
        host: Host,
        sock: socket.socket,
        remote: Address,
        path: BoundPath | None = None,
    ) -> None:
        """`path`: the socket's, removed at the end."""
        super().__init__(host, spec)
        self._socket = sock
        self._remote = remote.where
        self._path = path
        self._segments = self._groups = remote.family != socket.AF_UNIX
        self._full = False
        self._awaited = -1  # the descriptor that is watched for room
        self._probe: socket.socket | None = None
        self._buffer = bytearray(FRAME_MAX)
        sock.setblocking(False)
        for option, forced in (
            (socket.SO_SNDBUF, _SO_SNDBUFFORCE),
            (socket.SO_RCVBUF, _SO_RCVBUFFORCE),
        ):
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
            with suppress(PermissionError):
                sock.setsockopt(socket.SOL_SOCKET, forced, _BUFFER)
        if self._groups:
            try:
                sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
            except OSError:  # Linux before 5.0
                self._groups = False

    # --- to the wire ---

    def _transmit(self, frames: Sequence[bytes]) -> int:
        done = 0
        if self._full:
            return 0
        while done < len(frames):
            count = self._run(frames, done) if self._segments else 1
            try:
                if count > 1:
                    self._send_segments(frames[done : done + count])
                else:
                    self._socket.sendto(frames[done], self._remote)
                self.sent(frames[done : done + count])
            except BlockingIOError:
                self._wait_for_room()
                break
            except OSError as error:
                if count > 1 and error.errno in _CANNOT_SEGMENT:
                    self._segments = False
                    continue
                self.statistics.dropped(_reason(error), count)
            done += count
        return done

    @staticmethod
    def _run(frames: Sequence[bytes], start: int) -> int:
        """The number of frames from `start` on that have one length, at most one call's worth."""
        size = len(frames[start])
        stop = min(len(frames), start + min(_SEGMENTS, _UDP_MAX // max(size, 1)))
        at = start + 1
        while at < stop and len(frames[at]) == size:
            at += 1
        return at - start if size else 1

    def _send_segments(self, frames: Sequence[bytes]) -> None:
        size = _SEGMENT_SIZE.pack(len(frames[0]))
        self._socket.sendmsg(
            [b"".join(frames)], [(socket.IPPROTO_UDP, _UDP_SEGMENT, size)], 0, self._remote
        )

    def _wait_for_room(self) -> None:
        self._full = True
        loop = self.host.loop
        if self._path is not None:
            # The peer's queue is full, which only a socket that is connected to it can see. A peer
            # that is itself connected to this socket refuses others, and has no such limit.
            probe = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                probe.connect(self._remote)
            except PermissionError:
                probe.close()
            except OSError:  # it has gone
                probe.close()
                loop.call_at(time.monotonic() + _RETRY, self._room)
                return
            else:
                self._probe = probe
        self._awaited = (self._probe or self._socket).fileno()
        loop.add_writer(self._awaited, self._writable)

    def _writable(self) -> None:
        self._stop_waiting()
        self._room()

    def _stop_waiting(self) -> None:
        if self._awaited >= 0:
            self.host.loop.remove_writer(self._awaited)
            self._awaited = -1
        if self._probe is not None:
            self._probe.close()
            self._probe = None

    def _room(self) -> None:
        if self._socket.fileno() >= 0:
            self._full = False
            self.resume()

    # --- from the wire ---

    def _read(self) -> list[bytes]:
        frames: list[bytes] = []
        with suppress(OSError):  # also an error of an earlier send; it is reported once
            while len(frames) < BATCH:
                frames += self._receive_group() if self._groups else [self._socket.recv(FRAME_MAX)]
        if not all(frames):
            found = [frame for frame in frames if frame]
            self.statistics.dropped("empty", len(frames) - len(found))
            frames = found
        return frames

    def _receive_group(self) -> list[bytes]:
        got, ancillary, _, _ = self._socket.recvmsg_into([self._buffer], 64)
        whole = bytes(self._buffer[:got])
        if not ancillary:
            return [whole]
        size = int.from_bytes(ancillary[0][2][:4], "little")
        return [whole[at : at + size] for at in range(0, got, size)]

    def _watch(self, wanted: bool) -> None:
        if wanted:
            self.host.loop.add_reader(self._socket.fileno(), self.readable)
        else:
            self.host.loop.remove_reader(self._socket.fileno())

    # --- the end ---

    def report(self) -> NetdevReport:
        if self._socket.fileno() >= 0:
            words = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
            lost = _MEMINFO.unpack(words)[-1] if len(words) == _MEMINFO.size else 0
            if lost:
                self.statistics.dropped_by["no room in the socket"] = lost
        return super().report()

    def close(self) -> None:
        super().close()
        if self._socket.fileno() < 0:
            return
        self._stop_waiting()
        self._socket.close()
        if self._path is not None:
            self._path.remove()


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
        return "no peer"
    if error.errno == errno.EMSGSIZE:
        return "too long"
    return os.strerror(error.errno or 0)

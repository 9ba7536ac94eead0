"""Back ends `stream` and `socket`: frames over TCP or a UNIX stream socket, as QEMU's."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from coalesced.vmm.netdev import address, dgram
from coalesced.vmm.netdev.address import Address, BoundPath
from coalesced.vmm.netdev.backend import Backend
from coalesced.vmm.netdev.dgram import Dgram
from coalesced.vmm.netdev.framing import LENGTH, Framer
from coalesced.vmm.netdev.host import Host
from coalesced.vmm.netdev.spec import Spec

if TYPE_CHECKING:
    from coalesced.vmm.netdev.network import Network

_READ_AT_ONCE: Final = 256 << 10  # bytes
_WRITE_AT_ONCE: Final = 512 << 10  # bytes of frames that are given away at once, about
_CONNECT_SECONDS: Final = 10


def create(spec: Spec, host: Host, _network: Network) -> Backend:
    """Make the back end of a `stream` or `socket` SPEC. Raises NetdevError."""
    return _socket(spec, host) if spec.kind == "socket" else _stream(spec, host)


def _stream(spec: Spec, host: Host) -> Stream:
    server = spec.choice("server", "off", "on") == "on"
    where = address.named(spec, "addr", passive=server)
    reconnect = spec.number("reconnect", 0, 3600) or 0
    if where is None:
        raise spec.wrong("expected addr.type=inet,addr.host=HOST,addr.port=PORT, or of type unix")
    if server and reconnect:
        raise spec.wrong("reconnect: expected with server=off only")
    spec.finish()
    return _listening(spec, host, where) if server else _connected(spec, host, where, reconnect)


def _socket(spec: Spec, host: Host) -> Stream | Dgram:
    """QEMU's older kind: TCP by listen= or connect=, UDP by udp= or mcast=."""
    given = {key: spec.take(key) for key in ("listen", "connect", "udp", "mcast")}
    ways = [(key, text) for key, text in given.items() if text is not None]
    if len(ways) != 1:
        raise spec.wrong(f"expected one of {', '.join(given)}, got {len(ways)}")
    ((way, text),) = ways
    where = address.host_and_port(spec, way, text, passive=way == "listen")
    local = None
    if way == "udp":
        local = address.host_and_port(spec, "localaddr", spec.need("localaddr"), passive=True)
    elif way == "mcast" and (interface := spec.take("localaddr")) is not None:
        local = address.host_and_port(spec, "localaddr", f"{interface}:0", passive=True)
    spec.finish()
    if way == "listen":
        return _listening(spec, host, where)
    if way == "connect":
        return _connected(spec, host, where, 0)
    if (way == "mcast") != where.is_multicast:
        raise spec.wrong(f"{way}: expected {'a' if way == 'mcast' else 'no'} multicast address")
    return dgram.between(spec, host, local, where)


def _listening(spec: Spec, host: Host, where: Address) -> Stream:
    listener = socket.socket(where.family, socket.SOCK_STREAM)
    try:
        if where.family != socket.AF_UNIX:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        path = address.bind(spec, listener, where)
        listener.listen(1)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return Stream(spec, host, where, listener, path=path)


def _connected(spec: Spec, host: Host, where: Address, reconnect: int) -> Stream:
    made = Stream(spec, host, where, None, reconnect)
    if not reconnect:
        try:
            spec.attempt(f"cannot connect to {where}", made.connect_now)
        except BaseException:
            made.close()
            raise
    else:
        made.reconnect()
    return made


class Stream(Backend):
    """One peer at a time. Without one, frames of the card are lost, and counted.

    As in QEMU the card's link stays up when the peer goes; a listener then accepts the next one.
    """

    def __init__(
        self,
        spec: Spec,
        host: Host,
        where: Address,
        listener: socket.socket | None,
        reconnect: int = 0,
        path: BoundPath | None = None,
    ) -> None:
        """`reconnect`: seconds after which one that connects tries again; 0: never. `path`: the
        listener's, removed at the end."""
        super().__init__(host, spec)
        self._where = where
        self._listener = listener
        self._path = path
        self._reconnect_after = reconnect
        self._peer: socket.socket | None = None
        self._connecting: socket.socket | None = None
        self._framer = Framer()
        self._out = memoryview(b"")  # what the peer's socket had no room for,
        self._out_frames: Sequence[bytes] = ()  # and the frames that are not sent before that
        self._full = False
        self._closed = False
        if listener is not None:
            host.loop.add_reader(listener.fileno(), self._accept)

    # --- the peer ---

    def connect_now(self) -> None:
        """Connect, waiting for it. Raises OSError."""
        sock = socket.socket(self._where.family, socket.SOCK_STREAM)
        try:
            sock.settimeout(_CONNECT_SECONDS)
            sock.connect(self._where.where)
        except TimeoutError as error:
            sock.close()
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from error
        except BaseException:
            sock.close()
            raise
        self._begin(sock)

    def reconnect(self) -> None:
        """Connect in the background, again and again until it works."""
        if self._closed:
            return
        sock = socket.socket(self._where.family, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(self._where.where)
        except BlockingIOError:
            pass
        except OSError:
            sock.close()
            self._try_later()
            return
        self._connecting = sock
        self.host.loop.add_writer(sock.fileno(), self._has_connected)

    def _has_connected(self) -> None:
        sock, self._connecting = self._connecting, None
        assert sock is not None
        self.host.loop.remove_writer(sock.fileno())
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            sock.close()
            self._try_later()
        else:
            self._begin(sock)

    def _try_later(self) -> None:
        self.host.loop.call_at(time.monotonic() + self._reconnect_after, self.reconnect)

    def _accept(self) -> None:
        assert self._listener is not None
        with suppress(OSError):  # gone before it was taken
            sock, _ = self._listener.accept()
            # The next one waits until this one has gone.
            self.host.loop.remove_reader(self._listener.fileno())
            self._begin(sock)

    def _begin(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if self._where.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peer = sock
        self._framer = Framer()
        if self.reading:
            self.host.loop.add_reader(sock.fileno(), self.readable)

    def _lost(self) -> None:
        """The peer has closed the connection."""
        peer, self._peer = self._peer, None
        assert peer is not None
        loop = self.host.loop
        if self.reading:
            loop.remove_reader(peer.fileno())
        was_full, self._full = self._full, False
        if was_full:
            loop.remove_writer(peer.fileno())
        self.statistics.dropped("not connected", len(self._out_frames))
        self._out, self._out_frames = memoryview(b""), ()
        peer.close()
        if self._closed:
            return
        if self._listener is not None:
            loop.add_reader(self._listener.fileno(), self._accept)
        elif self._reconnect_after:
            self._try_later()
        if was_full:
            self.resume()

    # --- to the wire ---

    def _transmit(self, frames: Sequence[bytes]) -> int:
        done = 0
        while done < len(frames) and not self._out:
            if self._peer is None:
                self.statistics.dropped("not connected", len(frames) - done)
                return len(frames)
            done += self._begin_writing(frames[done:])
            self._write()
            if self._out and self._peer is not None:
                self._full = True
                self.host.loop.add_writer(self._peer.fileno(), self._writable)
        return done

    def _begin_writing(self, frames: Sequence[bytes]) -> int:
        """Choose the first frames as the data to write; their number."""
        parts: list[bytes] = []
        size = count = 0
        for frame in frames:
            parts += (LENGTH.pack(len(frame)), frame)
            size += LENGTH.size + len(frame)
            count += 1
            if size >= _WRITE_AT_ONCE:
                break
        self._out, self._out_frames = memoryview(b"".join(parts)), frames[:count]
        return count

    def _write(self) -> None:
        """Write the chosen data, as far as there is room."""
        assert self._peer is not None
        try:
            done = self._peer.send(self._out, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError:
            self._lost()
            return
        self._out = self._out[done:]
        unsent, size = 0, len(self._out)
        while size > 0:
            unsent += 1
            size -= LENGTH.size + len(self._out_frames[-unsent])
        whole = len(self._out_frames) - unsent
        self.sent(self._out_frames[:whole])
        self._out_frames = self._out_frames[whole:]

    def _writable(self) -> None:
        self._write()
        if self._full and not self._out:
            assert self._peer is not None
            self._full = False
            self.host.loop.remove_writer(self._peer.fileno())
            self.resume()

    # --- from the wire ---

    def _read(self) -> list[bytes]:
        if self._peer is None:
            return []
        try:
            data = self._peer.recv(_READ_AT_ONCE)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        found = self._framer.feed(data)
        frames = [frame for frame in found if frame]
        self.statistics.dropped("empty", len(found) - len(frames))
        if self._framer.error is not None:
            self.host.warn(f"netdev {self.name}: {self._framer.error}: connection closed")
        if self._framer.error is not None or not data:
            self._lost()
        return frames

    def _watch(self, wanted: bool) -> None:
        if self._peer is None:
            return
        if wanted:
            self.host.loop.add_reader(self._peer.fileno(), self.readable)
        else:
            self.host.loop.remove_reader(self._peer.fileno())

    # --- the end ---

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        super().close()
        if self._peer is not None:
            self._lost()
        elif self._listener is not None:
            self.host.loop.remove_reader(self._listener.fileno())
        if self._connecting is not None:
            self.host.loop.remove_writer(self._connecting.fileno())
            self._connecting.close()
            self._connecting = None
        if self._listener is not None:
            self._listener.close()
        if self._path is not None:
            self._path.remove()

"""Socket addresses in network SPECs, in all the forms that QEMU takes and a short one of ours."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

from coalesced.hv.signals import ENDING
from coalesced.vmm.netdev.spec import Spec


@dataclass(frozen=True)
class Address:
    """An IP address and port as `bind` and `connect` take them, or a path."""

    family: int
    where: tuple[str, int] | tuple[str, int, int, int] | str

    @property
    def is_multicast(self) -> bool:
        """Whether it is a multicast address."""
        return not isinstance(self.where, str) and ip_address(self.where[0]).is_multicast

    def __str__(self) -> str:
        if isinstance(self.where, str):
            return self.where
        host = f"[{self.where[0]}]" if ":" in self.where[0] else self.where[0]
        return f"{host}:{self.where[1]}"


def named(spec: Spec, key: str, passive: bool) -> Address | None:
    """The address in `KEY=HOST:PORT` or `KEY.type=inet|unix,KEY.host=...`; None without either.

    `passive`: one to listen or bind at, where no host stands for all of this machine. Raises
    NetdevError.
    """
    text = spec.take(key)
    if text is not None:
        return host_and_port(spec, key, text, passive)
    if not spec.starting(f"{key}."):
        spec.take(f"{key}.type")
        return None
    if spec.choice(f"{key}.type", "inet", "unix") == "unix":
        return path(spec, f"{key}.path")
    host = spec.take(f"{key}.host")
    port = spec.need(f"{key}.port")
    for switch in ("ipv4", "ipv6"):
        spec.choice(f"{key}.{switch}", "on", "off")
    return _resolved(spec, key, host or "", port, passive)


def host_and_port(spec: Spec, key: str, text: str, passive: bool) -> Address:
    """`HOST:PORT`, the host of IPv6 in brackets. Raises NetdevError."""
    host, separator, port = text.rpartition(":")
    if not separator:
        raise spec.wrong(f"{key}: expected HOST:PORT, got {text!r}")
    return _resolved(spec, key, host.removeprefix("[").removesuffix("]"), port, passive)


def path(spec: Spec, key: str) -> Address:
    """A socket of the file system. Raises NetdevError."""
    where = spec.need(key)
    if len(os.fsencode(where)) > 107:
        raise spec.wrong(f"{key}: expected a path of at most 107 bytes")
    return Address(socket.AF_UNIX, where)


def _resolved(spec: Spec, key: str, host: str, port: str, passive: bool) -> Address:
    if not port.isdecimal() or len(port) > 10 or int(port) >= 1 << 16:
        raise spec.wrong(f"{key}: expected a port of 0 to 65535, got {port!r}")
    if not host and not passive:
        raise spec.wrong(f"{key}: expected a host")
    try:
        found = socket.getaddrinfo(
            host or "0.0.0.0",
            int(port),
            type=socket.SOCK_DGRAM,
            flags=socket.AI_PASSIVE if passive else 0,
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise spec.wrong(f"{key}: {host!r}: {reason}") from error
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)  # as QEMU, which asks for IPv4 alone
    family, _, _, _, where = found[0]
    return Address(family, where)  # type: ignore[arg-type]


def bind(spec: Spec, sock: socket.socket, where: Address) -> BoundPath | None:
    """Bind a socket; the path that it then has, None for one that has none.

    The socket of a process that has ended is replaced. Raises NetdevError, also when another
    process has a socket at that path.
    """
    path = where.where if isinstance(where.where, str) else None
    if path is not None and _is_socket(path):
        if not _is_dead(path):
            raise spec.wrong(f"cannot bind to {where}: another process has a socket there")
        with suppress(OSError):
            os.unlink(path)
    # Between the bind and its note nothing may end this process without the note being read.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        spec.attempt(f"cannot bind to {where}", lambda: sock.bind(where.where))
        return None if path is None else BoundPath(path)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class BoundPath:
    """The path of a socket of this process; removed at the latest when the process exits."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._identity = _identity(path)
        atexit.register(self.remove)

    def remove(self) -> None:
        """Remove it, unless something else has taken its place. May be called twice."""
        atexit.unregister(self.remove)
        with suppress(OSError):
            if _identity(self._path) == self._identity:
                os.unlink(self._path)


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


def _is_dead(path: str) -> bool:
    """Whether no process has the socket at that path any more.

    A datagram socket tests it: a listening stream socket refuses it by its type, and neither that
    nor a datagram socket notices the attempt.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False

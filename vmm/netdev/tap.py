"""Back end `tap`: an Ethernet interface of this machine, through /dev/net/tun."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from coalesced.vmm.netdev.backend import BATCH, FRAME_MAX, Backend, NetdevReport
from coalesced.vmm.netdev.host import Host
from coalesced.vmm.netdev.spec import NetdevError, Spec

if TYPE_CHECKING:
    from coalesced.vmm.netdev.network import Network

_DEVICE: Final = "/dev/net/tun"
_TUNSETIFF: Final = 0x400454CA  # <linux/if_tun.h>
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFREQ: Final = struct.Struct("=16sH22x")
_NAME_MAX: Final = 15  # IFNAMSIZ - 1


def create(spec: Spec, host: Host, _network: Network) -> Tap:
    """Make the back end of a `tap` SPEC. Raises NetdevError.

    Without ifname= the kernel finds a name. Scripts are not run: the interface must be brought
    up by a user with the right to.
    """
    name = spec.take("ifname") or ""
    for script in ("script", "downscript"):
        spec.choice(script, "no")
    spec.finish()
    if len(os.fsencode(name)) > _NAME_MAX or "/" in name or "%" in name:
        raise spec.wrong(
            f"ifname: expected a name of at most {_NAME_MAX} bytes without / and %, got {name!r}"
        )
    fd = spec.attempt(f"cannot open {_DEVICE}", lambda: os.open(_DEVICE, _FLAGS))
    try:
        asked = _IFREQ.pack(os.fsencode(name), _IFF_TAP | _IFF_NO_PI)
        given = fcntl.ioctl(fd, _TUNSETIFF, asked)
    except OSError as error:
        os.close(fd)
        raise _refused(spec, name, error) from error
    except BaseException:
        os.close(fd)
        raise
    return Tap(spec, host, fd, os.fsdecode(_IFREQ.unpack(given)[0].rstrip(b"\0")))


_FLAGS: Final = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC


def _refused(spec: Spec, name: str, error: OSError) -> NetdevError:
    reason = os.strerror(error.errno or 0)
    if error.errno == errno.EPERM:
        reason += (
            ": expected CAP_NET_ADMIN, or an interface made for this user before: "
            f"ip tuntap add dev {name or 'tap0'} mode tap user {os.getuid()}"
        )
    elif error.errno == errno.EBUSY:
        reason += ": another program has it"
    elif error.errno == errno.EINVAL:
        reason += ": there is an interface of that name that is no tap"
    return spec.wrong(f"cannot attach to {name or 'a new interface'}: {reason}")


@dataclass(frozen=True)
class TapReport(NetdevReport):
    """The counters of a tap, and the name of its interface."""

    ifname: str


class Tap(Backend):
    """A frame per read and per write."""

    def __init__(self, spec: Spec, host: Host, fd: int, interface: str) -> None:
        super().__init__(host, spec)
        self.interface = interface
        self._fd = fd
        self._full = False
        self._gone = False  # the interface was deleted

    def report(self) -> TapReport:
        return TapReport(**vars(super().report()), ifname=self.interface)

    def _transmit(self, frames: Sequence[bytes]) -> int:
        if self._full:
            return 0
        for done, frame in enumerate(frames):
            try:
                os.write(self._fd, frame)
            except BlockingIOError:
                self._full = True
                self.host.loop.add_writer(self._fd, self._writable)
                return done
            except OSError as error:
                self.statistics.dropped(_reason(error))
                self._check(error)
            else:
                self.sent((frame,))
        return len(frames)

    def _writable(self) -> None:
        self._full = False
        self.host.loop.remove_writer(self._fd)
        self.resume()

    def _read(self) -> list[bytes]:
        frames: list[bytes] = []
        try:
            while len(frames) < BATCH:
                frames.append(os.read(self._fd, FRAME_MAX))
        except BlockingIOError:
            pass
        except OSError as error:
            self._check(error)
        return frames

    def _check(self, error: OSError) -> None:
        """Stop watching a descriptor whose interface was removed: it is always ready."""
        if error.errno != errno.EBADFD or self._gone:
            return
        self._gone = True
        self.host.warn(f"netdev {self.name}: {self.interface} was deleted")
        if self.reading:
            self.host.loop.remove_reader(self._fd)

    def _watch(self, wanted: bool) -> None:
        if self._gone:
            return
        if wanted:
            self.host.loop.add_reader(self._fd, self.readable)
        else:
            self.host.loop.remove_reader(self._fd)

    def close(self) -> None:
        super().close()
        if self._fd >= 0:
            if self._full:
                self.host.loop.remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1


def _reason(error: OSError) -> str:
    if error.errno == errno.EIO:
        return "the interface is down"
    return "too short" if error.errno == errno.EINVAL else os.strerror(error.errno or 0)

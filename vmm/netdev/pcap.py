"""Frames in a file of libpcap's format, as tcpdump and Wireshark read it."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

# pcap-savefile(5): magic number of nanosecond timestamps, version 2.4, no zone, no accuracy,
# the longest frame, LINKTYPE_ETHERNET.
_HEADER: Final = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)
_RECORD: Final = struct.Struct("<IIII")  # seconds and nanoseconds since 1970, bytes here, in all
_NS: Final = 1_000_000_000


class Pcap:
    """A file that is whole after every call, also when this process is killed then."""

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        """Start the file anew. `warn` hears of it when it takes no more. Raises OSError."""
        self._path = path
        self._warn = warn
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o666)
        self._write(_HEADER)

    def record(self, frames: Sequence[bytes]) -> None:
        """Write frames down, as passing by now."""
        if self._fd < 0:
            return
        seconds, nanoseconds = divmod(time.time_ns(), _NS)
        parts: list[bytes] = []
        for frame in frames:
            size = len(frame)
            parts += (_RECORD.pack(seconds, nanoseconds, size, size), frame)
        self._write(b"".join(parts))

    def close(self) -> None:
        """Give the file back; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            self._warn(f"--pcap {self._path}: {error.strerror}; no more frames are written")
            self.close()

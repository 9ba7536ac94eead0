"""Frames in a file of libpcap's format, as tcpdump and Wireshark read it."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from coalesced.vmm.output import Output

# pcap-savefile(5): magic number of nanosecond timestamps, version 2.4, no zone, no accuracy,
# the longest frame, LINKTYPE_ETHERNET.
_HEADER: Final = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)
_RECORD: Final = struct.Struct("<IIII")  # seconds and nanoseconds since 1970, bytes here, in all
_NS: Final = 1_000_000_000


class Pcap:
    """A file of frames. Each record is whole after the call that wrote it, also when this process
    is killed then; the file has its name after `close`, see `vmm.output`."""

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        """The first frame starts the file anew. `warn` is called when no more can be written."""
        self._out: Output | None = Output(path)
        self._warn = warn

    def record(self, frames: Sequence[bytes]) -> None:
        """Write frames down, as passing by now."""
        out = self._out
        if out is None:
            return
        seconds, nanoseconds = divmod(time.time_ns(), _NS)
        parts = [] if out.size else [_HEADER]
        for frame in frames:
            size = len(frame)
            parts += (_RECORD.pack(seconds, nanoseconds, size, size), frame)
        self._write(out, b"".join(parts))

    def close(self, complete: bool = True) -> None:
        """Give the file its name; one without frames only if the run is `complete`.

        May be called twice.
        """
        out = self._out
        if out is None:
            return
        if complete and not out.size:
            self._write(out, _HEADER)
        if self._out is not None:
            self._end(out)

    def _write(self, out: Output, data: bytes) -> None:
        try:
            out.write(data)
        except OSError as error:
            self._fail(out, error)
            self._end(out)

    def _end(self, out: Output) -> None:
        self._out = None
        try:
            if out.size:
                out.keep()
        except OSError as error:
            self._fail(out, error)
        finally:
            out.discard()

    def _fail(self, out: Output, error: OSError) -> None:
        self._warn(f"--pcap {out.path}: {error.strerror}; no more frames are written")

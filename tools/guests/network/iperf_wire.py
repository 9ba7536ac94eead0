"""The UDP test of iperf 2 on the wire: datagram headers, and the report that ends a test.

As iperf 2.1 has it, big endian. A datagram starts with its number (the low 32 bits), the time of
sending in seconds and microseconds, and the number's high 32 bits. The last datagram carries its
number negated; the receiver answers it with a datagram of its own that holds a report, and the
sender repeats it until that comes. Receivers before 2.1 wrote the report 4 bytes earlier.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coalesced.tools.guests.network.blocks import Block, Frames
from coalesced.tools.guests.network.packets import PAYLOAD_AT

PORT: Final = 5001
DATAGRAM: Final = 1470  # bytes, iperf's default

HEADER: Final = struct.Struct("!iIIi")  # number, seconds, microseconds, number's high half
_REPORT: Final = struct.Struct("!I9i")
REPORT_SIZE: Final = 128  # bytes of the answer that iperf 2.1 sends
_HAS_REPORT: Final = 0x8000_0000  # HEADER_VERSION1 of the report's flags
_ECHO: Final = 0xFFFF_FFFF  # no flags: the high half of the negated number, as it was sent
_FIELDS: Final = np.dtype(
    [("low", ">u4"), ("seconds", ">u4"), ("microseconds", ">u4"), ("high", ">i4")]
)


class Report(NamedTuple):
    """A receiver's report of a test. Bytes of payload; seconds since the first datagram."""

    octets: int
    seconds: float
    lost: int
    out_of_order: int
    datagrams: int
    jitter: float  # seconds

    def summary(self) -> Summary:
        """For people and scripts, with what follows from the figures."""
        rate = self.octets * 8 / self.seconds if self.seconds else None
        return Summary(
            datagrams=self.datagrams,
            lost=self.lost,
            out_of_order=self.out_of_order,
            bytes=self.octets,
            seconds=self.seconds,
            bits_per_second=rate,
            jitter_ms=self.jitter * 1e3,
        )


@dataclass(frozen=True)
class Summary:
    """A receiver's report in the units that are printed; its fields are keys of JSON objects."""

    datagrams: int
    lost: int
    out_of_order: int
    bytes: int
    seconds: float
    bits_per_second: float | None  # None: the test took no time
    jitter_ms: float


class Headers(NamedTuple):
    """The headers of many datagrams; `final` where a number was negated."""

    numbers: NDArray[np.int64]
    sent: NDArray[np.float64]  # seconds
    final: NDArray[np.bool_]


def put_headers(block: Block, numbers: NDArray[np.int64], now: float) -> None:
    """Write the headers of datagrams into a block, all sent at `now` (seconds since 1970)."""
    fields = np.empty(len(numbers), _FIELDS)
    fields["low"] = numbers & 0xFFFF_FFFF
    fields["high"] = numbers >> 32
    fields["seconds"] = int(now)
    fields["microseconds"] = int(now % 1 * 1e6)
    block[:, PAYLOAD_AT : PAYLOAD_AT + HEADER.size] = fields.view(np.uint8).reshape(-1, HEADER.size)


def get_headers(frames: Frames) -> Headers:
    """The headers of datagrams of at least HEADER.size bytes."""
    raw = np.ascontiguousarray(frames.block[:, PAYLOAD_AT : PAYLOAD_AT + HEADER.size])
    fields = raw.reshape(-1).view(_FIELDS)
    high = fields["high"].astype(np.int64)
    low = fields["low"].astype(np.int64)
    numbers = high << 32 | low
    # Senders with numbers of 32 bits have something else there; none gets as far as 2**31.
    short = (low >> 31 == 1) & (high >= 0)
    numbers = np.where(short, low - (1 << 32), numbers)
    sent = fields["seconds"] + fields["microseconds"] * 1e-6
    return Headers(np.abs(numbers), sent, numbers < 0)


def pack_report(header: bytes, report: Report) -> bytes:
    """The payload of an answer to the last datagram, whose header it starts with."""
    numbers = _REPORT.pack(
        _HAS_REPORT,
        report.octets >> 32,
        _signed(report.octets),
        _signed(int(report.seconds)),
        int(report.seconds % 1 * 1e6),
        _signed(report.lost),
        _signed(report.out_of_order),
        _signed(report.datagrams),
        int(report.jitter),
        int(report.jitter % 1 * 1e6),
    )
    return (header[: HEADER.size] + numbers).ljust(REPORT_SIZE, b"\0")


def parse_report(payload: bytes) -> Report | None:
    """The report in an answer; None when there is none in it."""
    for at in (HEADER.size, HEADER.size - 4):
        if len(payload) < at + _REPORT.size:
            continue
        flags, high, low, seconds, micro, lost, out, datagrams, jitter, jitter_micro = (
            _REPORT.unpack_from(payload, at)
        )
        if flags & _HAS_REPORT and flags != _ECHO:
            return Report(
                high << 32 | low & 0xFFFF_FFFF,
                seconds + micro * 1e-6,
                lost,
                out,
                datagrams,
                jitter + jitter_micro * 1e-6,
            )
    return None


def _signed(number: int) -> int:
    low = number & 0xFFFF_FFFF
    return low - (1 << 32) if low >> 31 else low

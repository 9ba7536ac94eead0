"""The UDP sender and receiver of iperf 2."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coalesced.tools.guests.network import blocks
from coalesced.tools.guests.network.blocks import Frames, Host, UdpFlow, payload_lengths
from coalesced.tools.guests.network.iperf_wire import (
    DATAGRAM,
    HEADER,
    PORT,
    Report,
    get_headers,
    pack_report,
    parse_report,
    put_headers,
)
from coalesced.tools.guests.network.packets import PAYLOAD_AT
from coalesced.tools.guests.network.stack import Stack

LOCAL_PORT: Final = 50_002
BURST: Final = 32  # datagrams made at once
FINAL_TRIES: Final = 10  # as iperf
FINAL_SECONDS: Final = 0.25


Numbers = NDArray[np.int64]


class Sender:
    """Sends datagrams to a host's iperf server at a rate, and asks it for its report."""

    def __init__(
        self,
        stack: Stack,
        host: bytes,
        port: int,
        length: int = DATAGRAM,
        each: int | None = None,
        final_tries: int = FINAL_TRIES,
        final_seconds: float = FINAL_SECONDS,
    ) -> None:
        """`length` in bytes of payload; `each`: frames per move of the tail. Raises Unreachable.

        Until the report comes the last datagram is sent `final_tries` times, `final_seconds` apart.
        """
        self._final_tries = final_tries
        self._final_seconds = final_seconds
        self._stack = stack
        self._length = length
        self._each = each
        theirs = Host(stack.resolve(host), host, port)
        self._flow = UdpFlow(stack.host(LOCAL_PORT), theirs)
        self._block = blocks.empty(BURST)
        # The bytes with which iperf fills its datagrams.
        filling = np.arange(length - HEADER.size) % 10 + ord("0")
        self._block[:, PAYLOAD_AT + HEADER.size : PAYLOAD_AT + length] = filling
        self._report: Report | None = None
        self.sent = 0  # datagrams
        self.seconds = 0.0

    def run(self, rate: float, seconds: float, count: int = 0) -> Report | None:
        """Send for `seconds` at `rate` bits of payload per second, 0: as fast as it goes.

        `count` above 0 ends it after as many datagrams. Gives the server's report, None when it
        sent none.
        """
        stack = self._stack
        stack.bind(LOCAL_PORT, self._take)
        per_second = rate / (8 * self._length)
        started = time.monotonic()
        end = started + seconds
        while (now := time.monotonic()) < end:
            due = BURST if not rate else int((now - started) * per_second) + 1 - self.sent
            if count:
                due = min(due, count - self.sent)
                if self.sent >= count:
                    break
            if due > 0:
                self._send(np.arange(self.sent + 1, self.sent + 1 + min(due, BURST)))
                wait = now
            else:
                wait = min(end, started + self.sent / per_second)
            stack.poll(wait)
        self.seconds = time.monotonic() - started
        return self._finish()

    def _send(self, numbers: Numbers) -> None:
        block = self._block[: len(numbers)]
        put_headers(block, numbers, time.time())
        lengths = self._flow.pack(block, np.full(len(numbers), self._length))
        self._stack.transmit(Frames(block, lengths), self._each)
        self.sent += len(numbers)

    def _finish(self) -> Report | None:
        last = self.sent + 1
        for _ in range(self._final_tries):
            self._send(np.array([-last]))
            deadline = time.monotonic() + self._final_seconds
            while self._report is None and time.monotonic() < deadline:
                self._stack.poll(deadline)
            if self._report is not None:
                break
        self.sent = last
        return self._report

    def _take(self, frames: Frames) -> None:
        lengths = payload_lengths(frames)
        for row, length in zip(frames.rows(), lengths.tolist(), strict=True):
            self._report = parse_report(row[PAYLOAD_AT : PAYLOAD_AT + length]) or self._report


class Receiver:
    """An iperf server: counts the datagrams to its port, and reports to their sender.

    One test at a time; the first datagram after a test's end begins the next.
    """

    def __init__(self, stack: Stack, done: Callable[[Report], None], port: int = PORT) -> None:
        """`done` is called with the report of each finished test."""
        self._stack = stack
        self._port = port
        self._done = done
        self._answered: tuple[bytes, Report] | None = None
        self._begin()
        stack.bind(port, self.take)

    def _begin(self) -> None:
        self._started = 0.0
        self._octets = self._received = self._highest = self._late = 0
        self._jitter = 0.0
        self._transit: float | None = None

    def take(self, frames: Frames) -> None:
        """Count datagrams; answer a last one."""
        lengths = payload_lengths(frames)
        enough = lengths >= HEADER.size
        if not enough.all():
            frames, lengths = frames.where(enough), lengths[enough]
        headers = get_headers(frames)
        begin = 0
        for end in [*np.flatnonzero(headers.final).tolist(), None]:
            stop = len(lengths) if end is None else end + 1
            if end == begin and self._repeated(frames, end):
                self._answer(frames, end)
            elif stop > begin:
                self._count(
                    headers.numbers[begin:stop],
                    int(lengths[begin:stop].sum()),
                    headers.sent[begin:stop],
                )
                if end is not None:
                    self._end(frames, end)
            begin = stop

    def _count(self, numbers: Numbers, octets: int, sent: NDArray[np.float64]) -> None:
        now = time.time()
        if not self._received:
            self._started = now
            self._answered = None
        self._received += len(numbers)
        self._octets += octets
        before = np.maximum.accumulate(np.concatenate(([self._highest], numbers)))
        self._late += int((numbers < before[:-1]).sum())
        self._highest = int(before[-1])
        # RFC 3550, 6.4.1, over one arrival time per batch.
        transit = now - sent
        first = transit[0] if self._transit is None else self._transit
        for change in np.abs(np.diff(transit, prepend=first)).tolist():
            self._jitter += (change - self._jitter) / 16
        self._transit = float(transit[-1])

    def _repeated(self, frames: Frames, at: int) -> bool:
        """True for the repeated last datagram of a finished test."""
        answered = self._answered
        return not self._received and answered is not None and answered[0] == _flow_of(frames, at)

    def _end(self, frames: Frames, at: int) -> None:
        report = Report(
            self._octets,
            time.time() - self._started,
            self._highest - self._received,
            self._late,
            self._highest,
            self._jitter,
        )
        self._answered = (_flow_of(frames, at), report)
        self._done(report)
        self._begin()
        self._answer(frames, at)

    def _answer(self, frames: Frames, at: int) -> None:
        assert self._answered is not None
        row = frames.block[at].tobytes()
        theirs = Host(row[6:12], row[26:30], int.from_bytes(row[34:36], "big"))
        answer = pack_report(row[PAYLOAD_AT:], self._answered[1])
        block = blocks.empty(1)
        block[0, PAYLOAD_AT : PAYLOAD_AT + len(answer)] = np.frombuffer(answer, np.uint8)
        flow = UdpFlow(self._stack.host(self._port), theirs)
        self._stack.transmit(Frames(block, flow.pack(block, np.array([len(answer)]))))


def _flow_of(frames: Frames, at: int) -> bytes:
    """Source address and port of a datagram."""
    return frames.block[at, 26:30].tobytes() + frames.block[at, 34:36].tobytes()

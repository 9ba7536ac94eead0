"""The ring beside other channels between two processes, like beside like.

A row compares channels that are called in the same way: one entry per call, or a batch per call,
from Python or from C. Ratios are of one row only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coalesced.tools.bench import floors, report
from coalesced.tools.bench.channels import RING
from coalesced.tools.bench.measure import Spread, Taken, percentile
from coalesced.tools.bench.peers import Channel, Peer, Unavailable

BATCH: Final = 64  # entries per call


class Way(NamedTuple):
    """The way that the channels of a row are called."""

    key: str
    label: str
    batch: int
    in_c: bool = False

    def name(self, channel: str) -> str:
        """The name of a subject."""
        return f"{self.label}: {channel}"

    def channels(self, peers: Sequence[type[Channel]]) -> dict[str, str]:
        """The form of a call with several entries, by channel; the ring is the first."""
        if self.in_c:
            return dict(IN_C.values())
        return {channel.name: channel.batches for channel in (RING, *peers)}


WAYS: Final = (
    Way("per_call", "per call", 1),
    Way("per_batch", f"{BATCH} per call", BATCH),
    Way("from_c", "from C", 1, in_c=True),
    Way("from_c_batch", f"from C, {BATCH} per call", BATCH, in_c=True),
)
IN_C: Final = {
    "ring": ("ring.h", "published at once"),
    "eventfd": ("ring.h and an eventfd", "published at once"),
    "pipe": ("pipe", "one write"),
    "socketpair": ("socketpair", "one write"),
    "queue": ("mq_send", "no call for several: packed in a message"),
}
C_CALLS: Final = 10  # from C for one from Python


@dataclass(frozen=True)
class ChannelFigures:
    """A channel in a row: the latency is of one call, from its start to the end of receiving."""

    ns_per_entry: Spread
    p50_us: float
    p99_us: float
    p99_9_us: float
    batches: str  # how a call carries the batch


@dataclass(frozen=True)
class RowFigures:
    """The channels of a row by name; `best_peer_ratio`: of the fastest peer to the ring."""

    batch: int
    best_peer_ratio: float | None
    channels: Mapping[str, ChannelFigures]
    missing: Mapping[str, str]  # why a channel was not measured


class InC(NamedTuple):
    """A channel whose both sides are C; as `Peer`."""

    kind: str
    batch: int
    cpus: tuple[int, int]

    def measure(self, calls: int) -> float:
        """Nanoseconds per entry, sent and received."""
        return floors.channel(self.kind, calls * C_CALLS, self.batch, *self.cpus)

    def latencies(self, calls: int) -> NDArray[np.int64]:
        """Nanoseconds of single calls, from the start of sending to the end of receiving."""
        each = np.zeros(calls, np.uint64)
        floors.channel(self.kind, calls, self.batch, *self.cpus, each)
        return each.astype(np.int64)


class Rows:
    """The channels of a run, called in each way, with the processes that they need."""

    def __init__(
        self, peers: Sequence[type[Channel]], cpus: tuple[int, int], stack: ExitStack
    ) -> None:
        """`stack` ends the processes."""
        self._channels = (RING, *peers)
        self._cpus = cpus
        self._stack = stack
        self._times: dict[str, list[NDArray[np.int64]]] = {}
        self.missing: dict[str, dict[str, str]] = {way.key: {} for way in WAYS}

    def subjects(self, calls: int, singles: int) -> Iterator[tuple[str, Callable[[], float]]]:
        """Each subject by name; `calls` and, for latency, `singles` per sample."""
        for way in WAYS:
            for name, peer in self._callers(way):
                measured = self._measured(way.name(name), peer, calls, singles)
                yield way.name(name), measured

    def _callers(self, way: Way) -> Iterator[tuple[str, Peer | InC]]:
        if way.in_c:
            for kind, (name, _) in IN_C.items():
                yield name, InC(kind, way.batch, self._cpus)
            return
        for channel in self._channels:
            try:
                peer = Peer(channel(way.batch), self._cpus)
            except Unavailable as error:
                self.missing[way.key][channel.name] = str(error)
                continue
            self._stack.callback(peer.close)
            yield channel.name, peer

    def _measured(
        self, name: str, peer: Peer | InC, calls: int, singles: int
    ) -> Callable[[], float]:
        times = self._times.setdefault(name, [])

        def measure() -> float:
            ns = peer.measure(calls)
            times.append(peer.latencies(singles))
            return ns

        return measure

    def singles(self) -> dict[str, NDArray[np.int64]]:
        """Nanoseconds of single calls by subject, without the round that warms up."""
        return {name: np.concatenate(t[1:]) for name, t in self._times.items() if len(t) > 1}


def figures(
    taken: Taken,
    singles: Mapping[str, NDArray[np.int64]],
    missing: Mapping[str, Mapping[str, str]],
    peers: Sequence[type[Channel]],
) -> dict[str, RowFigures]:
    """The rows by key, of the channels that were measured."""
    return {way.key: _row(way, taken, singles, missing[way.key], peers) for way in WAYS}


def _row(
    way: Way,
    taken: Taken,
    singles: Mapping[str, NDArray[np.int64]],
    missing: Mapping[str, str],
    peers: Sequence[type[Channel]],
) -> RowFigures:
    channels = {
        name: _channel(way, (name, batches), taken, singles)
        for name, batches in way.channels(peers).items()
        if way.name(name) in taken
    }
    ring, *others = way.channels(peers)
    best = min((channels[n].ns_per_entry.median for n in others if n in channels), default=None)
    ours = channels[ring].ns_per_entry.median if ring in channels else None
    ratio = best / ours if best is not None and ours is not None else None
    return RowFigures(way.batch, ratio, channels, missing)


def of_peers(row: RowFigures) -> Taken:
    """Nanoseconds per entry of a row's channels but the ring."""
    channels = row.channels.items()
    return Taken({name: each.ns_per_entry for name, each in channels if name != RING.name})


def _channel(
    way: Way, channel: tuple[str, str], taken: Taken, singles: Mapping[str, NDArray[np.int64]]
) -> ChannelFigures:
    name = way.name(channel[0])
    times = singles.get(name, np.zeros(0, np.int64))
    p50, p99, p99_9 = (percentile(times, percent) for percent in (50, 99, 99.9))
    how = channel[1] if way.batch > 1 else ""
    return ChannelFigures(taken[name], p50, p99, p99_9, how)


def lines(rows: Mapping[str, RowFigures]) -> list[report.Row]:
    """The rows of the table; ratios to the ring of the same row."""
    found = []
    for way in WAYS:
        channels = rows[way.key].channels
        ring = next(iter(way.channels(())))
        ours = channels[ring].ns_per_entry.median if ring in channels else None
        for name, figure in channels.items():
            median = figure.ns_per_entry.median
            remarks = [figure.batches] if figure.batches else []
            if ours is not None and name != ring:
                remarks.append(f"{median / ours:.2g} times the ring")
            if math.isfinite(figure.p50_us):
                tail = (figure.p50_us, figure.p99_us, figure.p99_9_us)
                remarks.append(f"p50/p99/p99.9 {'/'.join(map(report.text, tail))} us")
            remark = "; ".join(remarks)
            found.append(report.Row(f"{way.label}: {name}", figure.ns_per_entry, remark))
    return found


def charts(rows: Mapping[str, RowFigures]) -> list[report.Chart]:
    """A chart of bars for each row."""
    return [
        report.Chart(
            f"Between two processes, {way.label}",
            "",
            "ns per entry",
            bars=tuple(
                (name, figure.ns_per_entry.median)
                for name, figure in rows[way.key].channels.items()
            ),
        )
        for way in WAYS
    ]

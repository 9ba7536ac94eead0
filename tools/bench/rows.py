"""The ring beside other channels between two Python processes, like beside like.

A row compares channels that are called in the same way: one entry per call, or a batch per call.
Ratios are of one row only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coalesced.tools.bench import report
from coalesced.tools.bench.channels import RING
from coalesced.tools.bench.measure import Spread, Taken, percentile
from coalesced.tools.bench.peers import Channel, Peer, Unavailable

BATCH: Final = 64  # entries per call


class Way(NamedTuple):
    """How the channels of a row are called."""

    key: str
    label: str
    batch: int

    def name(self, channel: type[Channel]) -> str:
        """The name of a subject."""
        return f"{self.label}: {channel.name}"


WAYS: Final = (Way("per_call", "per call", 1), Way("per_batch", f"{BATCH} per call", BATCH))


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
        """Each subject by name; per sample so many `calls`, and so many `singles` for latency."""
        for way in WAYS:
            for channel in self._channels:
                try:
                    peer = Peer(channel(way.batch), self._cpus)
                except Unavailable as error:
                    self.missing[way.key][channel.name] = str(error)
                    continue
                self._stack.callback(peer.close)
                yield way.name(channel), self._measured(way.name(channel), peer, calls, singles)

    def _measured(self, name: str, peer: Peer, calls: int, singles: int) -> Callable[[], float]:
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
    return {
        way.key: RowFigures(
            way.batch,
            _ratio(way, taken, peers),
            {
                channel.name: _channel(way, channel, taken, singles)
                for channel in (RING, *peers)
                if way.name(channel) in taken
            },
            missing[way.key],
        )
        for way in WAYS
    }


def of_peers(row: RowFigures) -> Taken:
    """Nanoseconds per entry of a row's channels but the ring."""
    channels = row.channels.items()
    return Taken({name: each.ns_per_entry for name, each in channels if name != RING.name})


def _ratio(way: Way, taken: Taken, peers: Sequence[type[Channel]]) -> float | None:
    ours = taken.get(way.name(RING))
    others = [taken[way.name(p)].median for p in peers if way.name(p) in taken]
    return min(others) / ours.median if ours and others else None


def _channel(
    way: Way, channel: type[Channel], taken: Taken, singles: Mapping[str, NDArray[np.int64]]
) -> ChannelFigures:
    name = way.name(channel)
    times = singles.get(name, np.zeros(0, np.int64))
    p50, p99, p99_9 = (percentile(times, percent) for percent in (50, 99, 99.9))
    how = channel.batches if way.batch > 1 else ""
    return ChannelFigures(taken[name], p50, p99, p99_9, how)


def lines(rows: Mapping[str, RowFigures]) -> list[report.Row]:
    """The rows of the table; ratios to the ring of the same row."""
    found = []
    for way in WAYS:
        channels = rows[way.key].channels
        ours = channels[RING.name].ns_per_entry.median if RING.name in channels else None
        for name, figure in channels.items():
            median = figure.ns_per_entry.median
            remarks = [figure.batches] if figure.batches else []
            if ours is not None and name != RING.name:
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
            f"Between two Python processes, {way.label}",
            "",
            "ns per entry",
            bars=tuple(
                (name, figure.ns_per_entry.median)
                for name, figure in rows[way.key].channels.items()
            ),
        )
        for way in WAYS
    ]

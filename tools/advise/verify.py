"""Proves advised zones: a replay with them, in two processes, is held against one without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from coalesced.hv.abi import OP, OP_IN, OP_LOAD, OP_OUT, OP_STORE
from coalesced.tools.advise.recording import Recording, of_events
from coalesced.tools.advise.ring import Ring
from coalesced.tools.advise.whatif import outcome
from coalesced.tools.advise.zones import Force
from coalesced.tools.errors import BadInput
from coalesced.tools.runs.options import Accel, RunOptions
from coalesced.tools.runs.replay import NOT_HERE, Seen, run_once
from coalesced.tools.runs.results import Run
from coalesced.tools.runs.runner import Ran
from coalesced.tools.traces import loads
from coalesced.tools.traces.crossings import instructions
from coalesced.tools.traces.events import NO_TIME, Events, Kind, Mask
from coalesced.tools.traces.source import Limits
from coalesced.tools.traces.trace import Trace, names_of
from coalesced.vmm import pc
from coalesced.vmm.zone import Choice, Zone

PAGE = 0x1000
_KINDS = np.zeros(1 + max(OP_LOAD, OP_STORE, OP_IN, OP_OUT), np.uint8)
_KINDS[[OP_LOAD, OP_STORE, OP_IN, OP_OUT]] = (Kind.LOAD, Kind.STORE, Kind.IN, Kind.OUT)
_NAMELESS = {f"unnamed{NOT_HERE}": "addresses without a device"}
MOST = Limits().accesses
HALTED = 1  # the exit that ends a replay


@dataclass(frozen=True)
class Dropped:
    """An advised zone that failed."""

    zone: Zone
    reason: str


@dataclass(frozen=True)
class Verified:
    """A replay with the advised zones that passed, beside one in which every access exits.

    `unchecked`: loads that depend on time, by register; `missing`: accesses to devices that this
    machine does not have; `not_replayed`: accesses that were left out.
    """

    accel: str
    accesses: int
    exits_without: int
    exits_predicted: int
    exits: int
    exits_equal: bool
    loads_checked: int
    loads_equal: bool
    state_equal: bool
    dropped: Sequence[Dropped]
    unchecked: Mapping[str, int]
    missing: Mapping[str, int]
    not_replayed: Mapping[str, int]

    @property
    def ok(self) -> bool:
        """Whether every advised zone passed."""
        return not self.dropped and self.exits_equal and self.loads_equal and self.state_equal


@dataclass(frozen=True)
class _Result:
    """A replay with some zones. `failure`: why it does not pass, None: it does."""

    run: Run
    predicted: int
    checked: int
    wrong: str | None  # the first load that differs
    state_equal: bool

    @property
    def failure(self) -> str | None:
        """The first fault."""
        if self.run.exits != self.predicted:
            return f"{self.run.exits:,} exits, predicted {self.predicted:,}"
        if self.run.failed_writes:
            return f"a device raised: {self.run.failures[0]}"
        return self.wrong or (None if self.state_equal else "another state at the end")


class Verifier:
    """Replays a recording on a PC with some devices."""

    def __init__(
        self, recorded: Trace, specs: list[str], accel: Accel, left_out: Mapping[str, int]
    ) -> None:
        """`left_out`: what of the recording is not in `recorded`, with how much."""
        self._left_out = left_out
        self._in_ram = in_ram(recorded)
        self._recorded = recorded.take(~self._in_ram)
        self._specs = specs
        self._accel = accel
        self._accesses = of_events(events_of(self._recorded), recorded.path)
        self._plain = self._run(())
        values = self._recorded.ops.copy()
        values["value"] = self._plain.seen.values
        self._expected = replace(self._plain.seen.named, ops=values)

    def of(self, in_force: Sequence[Zone], advised: Sequence[Zone]) -> Verified:
        """Take out, one after the other, each advised zone with which a replay fails."""
        kept, dropped = list(advised), list[Dropped]()
        result = self._with([*in_force, *advised])
        if result.failure is not None:
            kept, result = [], self._with(in_force)
            for zone in advised:
                tried = self._with([*in_force, *kept, zone])
                if tried.failure is None:
                    kept, result = [*kept, zone], tried
                else:
                    dropped.append(Dropped(zone, tried.failure))
        return self._verified(result, dropped)

    def _run(self, zones: Sequence[Zone]) -> Ran[Seen]:
        choice = Choice(False, tuple(zones))
        options = RunOptions(accel=self._accel, coalesce=bool(zones), zones=choice)
        return run_once(self._recorded, self._specs, options)

    def _compared(self, ran: Ran[Seen]) -> loads.Compared:
        return loads.compare(self._expected, ran.seen.values, self._plain.seen.left_out)

    def _with(self, zones: Sequence[Zone]) -> _Result:
        ran = self._run(zones)
        compared = self._compared(ran)
        return _Result(
            ran.run,
            predicted(self._accesses, zones),
            int(compared.checked.sum()),
            self._first_wrong(ran, compared),
            ran.run.state == self._plain.run.state,
        )

    def _first_wrong(self, ran: Ran[Seen], compared: loads.Compared) -> str | None:
        wrong = compared.wrong(1)
        if not wrong:
            return None
        _, _, address, value = self._expected.ops[wrong[0]].item()
        line, got = int(self._recorded.lines[wrong[0]]), int(ran.seen.values[wrong[0]])
        return f"the load at {address:#x} of line {line:,} gives {got:#x}, without it {value:#x}"

    def _verified(self, result: _Result, dropped: list[Dropped]) -> Verified:
        compared = self._compared(self._plain)
        missing = {
            _NAMELESS.get(name, name).removesuffix(NOT_HERE): int(mask.sum())
            for name, mask in self._plain.seen.left_out.items()
        }
        left_out = {
            **self._left_out,
            "string instructions": sum(self._recorded.strings.values()),
            "accesses to addresses that are RAM here": int(self._in_ram.sum()),
        }
        return Verified(
            accel=self._plain.run.accel,
            accesses=len(self._recorded.ops),
            exits_without=self._plain.run.exits,
            exits_predicted=result.predicted,
            exits=result.run.exits,
            exits_equal=result.run.exits == result.predicted,
            loads_checked=result.checked,
            loads_equal=result.wrong is None,
            state_equal=result.state_equal,
            dropped=dropped,
            unchecked={
                name: count
                for name, count in compared.unchecked.items()
                if not name.endswith(NOT_HERE)
            },
            missing=missing,
            not_replayed={name: count for name, count in left_out.items() if count},
        )


def predicted(accesses: Recording, zones: Sequence[Zone]) -> int:
    """The exits of a replay with these zones and a ring of one page, its end included."""
    choice = Choice(False, tuple(zones))
    joined = [Zone(pio, *each) for pio in (False, True) for each in choice.of(pio, [])]
    none = Force((), Ring(), np.empty(0, np.int64))
    found = outcome(accesses, none, joined, (), (), hash)
    return found.what_if.ring_pages["1"] + HALTED


def trace_of(recording: Recording, most: int = MOST) -> Trace:
    """The accesses that a replay can repeat, of the first `most` events.

    Raises BadInput if there is none.
    """
    parts = (part[: most - start].copy() for start, part in recording.spool.parts() if start < most)
    records = np.concatenate(list(parts))
    lines = records[np.isin(records["kind"], _KINDS) & (records["count"] == 1)]
    if not len(lines):
        raise BadInput(f"--verify: {recording.path}: expected at least one access with a value")
    ops = np.empty(len(lines), OP)
    for op, kind in enumerate(_KINDS):
        ops["kind"][lines["kind"] == kind] = op
    for field in ("size", "address", "value"):
        ops[field] = lines[field]
    ops, rows, _ = instructions(ops)
    names = names_of(recording.reader.names)
    strings = {"string instructions": recording.string_accesses}
    region = lines["name"][rows].astype(np.intp)
    return Trace(recording.path, ops, names, region, lines["line"][rows], strings=strings)


def in_ram(recorded: Trace) -> Mask:
    """Per access: whether it reaches RAM on the machine of a replay, where nothing exits."""
    ops = recorded.ops
    address, memory = ops["address"], ~np.isin(ops["kind"], (OP_IN, OP_OUT))
    low = address < pc.CONVENTIONAL
    high = (address >= pc.HIGH_MEMORY) & (address < pc.DEFAULT_MEMORY)
    return np.asarray(memory & (low | high))


def events_of(recorded: Trace) -> Events:
    """The accesses of a replay; one in memory that crosses a page is two."""
    ops = recorded.ops
    memory = ~np.isin(ops["kind"], (OP_IN, OP_OUT))
    room = np.uint64(PAGE) - ops["address"] % np.uint64(PAGE)
    crosses = memory & (ops["size"] > room)
    rows = np.repeat(np.arange(len(ops)), 1 + crosses)
    second = np.append(False, rows[1:] == rows[:-1])[: len(rows)]
    first = crosses[rows] & ~second
    ops, room = ops[rows], room[rows]
    size = np.where(first, room, np.where(second, ops["size"] - room, ops["size"]))
    count = len(rows)
    return Events(
        number=recorded.lines[rows],
        kind=_KINDS[ops["kind"]],
        thread=np.zeros(count, np.int32),
        mr=np.zeros(count, np.uint64),
        address=ops["address"] + np.where(second, room, np.uint64(0)),
        value=ops["value"],
        size=size.astype(np.uint8),
        count=np.ones(count, np.uint32),
        time=np.full(count, NO_TIME, np.int64),
        name=np.zeros(count, np.int32),
    )

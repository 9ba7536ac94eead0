"""One advice about many recordings: a verdict holds on all of them, the figures are sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from coalesced.tools.advise.advice import (
    Advice,
    Decision,
    Lines,
    Options,
    RangeAdvice,
    added,
    advise,
)
from coalesced.tools.advise.ranges import WINDOW_LEAST
from coalesced.tools.advise.recording import read
from coalesced.tools.advise.verdicts import Verdict
from coalesced.tools.advise.whatif import Doorbell, Stale, WhatIf
from coalesced.tools.advise.zones import Agreement
from coalesced.tools.traces.reader import Scanners
from coalesced.vmm.zone import Zone

Counts = TypeVar("Counts", Agreement, Lines, Stale)
_NAMED = 3  # recordings in the title


class Study(Protocol):
    """Gives the advice about a file, which has another name for people."""

    def __call__(self, path: Path, shown: Path, scanners: Scanners | None = None) -> Advice:
        """`scanners` read ahead. Raises BadInput."""


class Spread(Protocol):
    """Calls a function on many recordings, anywhere; the results in the order of the paths."""

    def __call__(self, function: Study, paths: Sequence[Path]) -> list[Advice]:
        """Raises what the function raises."""


def study(options: Options, path: Path, shown: Path, scanners: Scanners | None = None) -> Advice:
    """The advice about a recording alone. Raises BadInput."""
    return advise(replace(read(path, scanners), path=shown), options)


def advise_all(paths: Sequence[Path], options: Options, spread: Spread) -> Advice:
    """Judge what the recordings say together. Raises BadInput.

    A range that one of them leaves is left; one that any calls unproven for a reason is unproven;
    a recording that shows nothing either way does not count. Each recording is then counted with
    the zones of all.
    """
    alone = spread(partial(study, options), paths)
    groups = _grouped(alone)
    split = [group for group in groups if group.outvoted]
    decided = {
        each.zone: Decision(group.verdict, group.reason) for group in split for each in group.ranges
    }
    differs = sorted({number for group in split for number in group.outvoted})
    again = spread(
        partial(study, replace(options, decided={**options.decided, **decided})),
        [paths[number] for number in differs],
    )
    found = list(alone)
    for number, advice in zip(differs, again, strict=True):
        found[number] = advice
    return _joined(found, groups, options)


# --- ranges ---


@dataclass(frozen=True)
class _Group:
    """Ranges of several recordings that overlap, and the zone that holds them."""

    zone: Zone
    members: Sequence[tuple[int, RangeAdvice]]  # with the number of the recording

    @property
    def ranges(self) -> list[RangeAdvice]:
        """Without the numbers."""
        return [each for _, each in self.members]

    @property
    def outvoted(self) -> set[int]:
        """The recordings that say something else by themselves."""
        return {number for number, each in self.members if each.verdict is not self.verdict}

    @property
    def decisive(self) -> RangeAdvice:
        """The range that decides: one that is left, else unproven, else to coalesce."""
        heard = [each for each in self.ranges if not each.undecided] or self.ranges
        order = (Verdict.LEAVE, Verdict.UNPROVEN, Verdict.COALESCE)
        return min(heard, key=lambda each: order.index(each.verdict))

    @property
    def verdict(self) -> Verdict:
        """The verdict on all of them."""
        return self.decisive.verdict

    @property
    def reason(self) -> str:
        """The reason, with the recording that shows it."""
        return f"in {self.decisive.trace}: {self.decisive.reason}"


def _grouped(advices: Iterable[Advice]) -> list[_Group]:
    """The same registers together, and windows of memory that overlap."""
    members = [(n, each) for n, advice in enumerate(advices) for each in advice.ranges]
    members.sort(key=lambda member: (member[1].zone, member[0]))
    groups: dict[Zone, list[tuple[int, RangeAdvice]]] = {}
    window: Zone | None = None
    for number, each in members:
        zone = each.zone
        if zone.size < WINDOW_LEAST:
            groups.setdefault(zone, []).append((number, each))
            continue
        if window is None or window.pio != zone.pio or zone.address >= window.end:
            window, before = zone, []
        else:
            before = groups.pop(window)
            window = Zone(zone.pio, window.address, max(window.end, zone.end) - window.address)
        groups[window] = [*before, (number, each)]
    return [_Group(zone, found) for zone, found in groups.items()]


# --- sums ---


def _joined(advices: Sequence[Advice], alone: Sequence[_Group], options: Options) -> Advice:
    """The advices, in which the verdicts agree, as one; `alone`: what each found by itself."""
    exits = sum(advice.exits for advice in advices)
    after = sum(advice.exits_advised for advice in advices)
    cost = options.exit_cost
    seconds = [advice.seconds for advice in advices if advice.seconds is not None]
    now = {group.zone: group for group in _grouped(advices)}
    ranges = [_range(now[before.zone], before, exits) for before in alone]
    shown = ", ".join(advice.trace for advice in advices[:_NAMED])
    return Advice(
        trace=f"{len(advices)} recordings: {shown}{', …' if len(advices) > _NAMED else ''}",
        format=", ".join(dict.fromkeys(advice.format for advice in advices)),
        lines=_summed(
            [advice.lines for advice in advices],
            apart=_counted(advice.lines.apart for advice in advices),
            cut=[path for advice in advices for path in advice.lines.cut],
        ),
        threads=sum(advice.threads for advice in advices),
        seconds=sum(seconds) if seconds else None,
        counts=_counted(advice.counts for advice in advices),
        string_accesses=sum(advice.string_accesses for advice in advices),
        in_kernel=sum(advice.in_kernel for advice in advices),
        has_exits=any(advice.has_exits for advice in advices),
        exits=exits,
        zones_in_force=sorted({zone for advice in advices for zone in advice.zones_in_force}),
        agreement=_agreement([a.agreement for a in advices if a.agreement is not None]),
        ranges=sorted(ranges, key=lambda each: (-each.exits, each.zone)),
        advised=added([(each.zone, each.verdict) for each in ranges if not each.in_force], ()),
        exits_advised=after,
        part_seconds=None,
        exits_by_part=_added_up(advice.exits_by_part for advice in advices),
        exits_advised_by_part=_added_up(advice.exits_advised_by_part for advice in advices),
        what_if=_what_if([advice.what_if for advice in advices]),
        exit_cost=cost,
        seconds_saved=None if cost is None else (exits - after) * cost.ns / 1e9,
        ring=options.ring,
        recordings=advices,
    )


def _range(now: _Group, before: _Group, exits: int) -> RangeAdvice:
    """The sum of a group; reason, line and waits are those of the recording that decides."""
    decisive = before.decisive
    saves = [each.saves for each in now.ranges if each.saves is not None]
    worst = max(
        (each.waits_ns for each in now.ranges if each.waits_ns is not None),
        key=lambda waits: (waits.p99, waits.max, waits.p50),
        default=None,
    )
    own = sum(each.exits for each in now.ranges)
    return RangeAdvice(
        now.zone,
        next((each.name for each in now.ranges if each.name), None),
        sum(each.writes for each in now.ranges),
        sum(each.reads for each in now.ranges),
        own,
        own / max(exits, 1),
        all(each.in_force for each in now.ranges),
        decisive.verdict,
        decisive.reason,
        decisive.line,
        worst,
        sum(saves) if saves else None,
        _added_up(each.parts for each in now.ranges),
        _added_up(each.wait_bins for each in now.ranges),
        decisive.undecided,
        decisive.trace,
    )


def _agreement(found: Sequence[Agreement]) -> Agreement | None:
    """The sum; lines that nothing explains are those of the first recording that has some."""
    if not found:
        return None
    first = next((each.disagreements for each in found if each.disagreements), ())
    return _summed(found, disagreements=first)


def _what_if(found: Sequence[WhatIf]) -> WhatIf:
    stale = [each.staleness_ms for each in found if each.staleness_ms is not None]
    return WhatIf(
        _counted(each.ring_pages for each in found),
        _stale(stale) if len(stale) == len(found) else None,
        sum(each.ring_per_zone for each in found),
        sum(each.ring_per_device for each in found),
        _doorbells([bell for each in found for bell in each.ioeventfds]),
    )


def _stale(found: Sequence[Mapping[str, Stale]]) -> dict[str, Stale]:
    return {limit: _summed([each[limit] for each in found]) for limit in found[0]}


def _doorbells(found: Sequence[Doorbell]) -> list[Doorbell]:
    """Those to which every recording writes the same value."""
    values = {bell.zone: {each.value for each in found if each.zone == bell.zone} for bell in found}
    bells = [
        Doorbell(zone, value.pop(), sum(each.exits for each in found if each.zone == zone))
        for zone, value in values.items()
        if len(value) == 1
    ]
    return sorted(bells, key=lambda bell: (-bell.exits, bell.zone))


def _summed(found: Sequence[Counts], **others: Any) -> Counts:
    """The sum of each field of equal dataclasses; `others`: values of fields that are no count."""
    sums = {
        each.name: sum(getattr(one, each.name) for one in found)
        for each in fields(found[0])
        if each.name not in others
    }
    return type(found[0])(**sums, **others)


def _counted(found: Iterable[Mapping[Any, int]]) -> dict[Any, int]:
    total: Counter[Any] = Counter()
    for each in found:
        total.update(each)
    return dict(total)


def _added_up(found: Iterable[Sequence[int]]) -> list[int]:
    total: list[int] = np.sum(list(found), axis=0).tolist()
    return total

"""The writes of a stressed guest, and the classification of each fault in them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from coalesced.hv.abi import OP_IN, OP_LOAD, OP_OUT, PAGE_SIZE
from coalesced.tools.stress import pattern
from coalesced.tools.stress.checker import COUNTS, Checker, Count
from coalesced.tools.stress.pattern import PERIOD, Stream, Style
from helpers.tiers import every, some_heavy

Entry = tuple[bool, int, int, int]  # to a port?, address, length, data

STREAMS = {style: Stream(7, style) for style in Style}
STYLES = pytest.mark.parametrize("style", list(Style))


def entries(stream: Stream, start: int, stop: int) -> list[Entry]:
    """Entries of the stream one by one."""
    found: list[Entry] = []
    for number in range(start, stop):
        lap = stream.lap(number // PERIOD)
        i = number % PERIOD
        found.append((bool(lap.pio[i]), int(lap.address[i]), int(lap.length[i]), int(lap.data[i])))
    return found


def written(operations: NDArray[np.void]) -> Iterator[Entry]:
    """The writes of operations, split at page ends as a processor splits them."""
    for kind, size, address, value in operations.tolist():
        if kind in (OP_LOAD, OP_IN):
            continue
        room = PAGE_SIZE - address % PAGE_SIZE
        if kind == OP_OUT or size <= room:
            yield kind == OP_OUT, address, size, value
        else:
            yield False, address, room, value & (1 << 8 * room) - 1
            yield False, address + room, size - room, value >> 8 * room


def checker(style: Style = Style.mixed, at: int = 0, strict: bool = True) -> Checker:
    """A checker that expects entry `at` next."""
    tally = np.zeros(COUNTS, np.int64)
    tally[Count.next] = at
    return Checker(STREAMS[style], tally, strict)


def wrong(seen: Checker) -> dict[str, int]:
    """The counts of faults."""
    names = ("lost", "duplicated", "redelivered", "reordered", "torn")
    return {name: int(seen.tally[Count[name]]) for name in names if seen.tally[Count[name]]}


@some_heavy(
    "style, lap",
    every(Style, [0, 1, 63]),
    lambda style, lap: lap == {"runs": 0, "mixed": 1, "exits": 63}[style],
)
def test_no_address_tells_of_two_vcpus(style: Style, lap: int) -> None:
    """Not of a probe, nor of a device behind the areas of the last one."""
    taken: dict[tuple[bool, int], int] = {}
    for vcpu in range(pattern.VCPUS):
        stream = Stream(7, style, vcpu)
        for pio, address, length, _ in entries(stream, lap * PERIOD, lap * PERIOD + PERIOD):
            assert pattern.vcpu_of(pio, address) == vcpu
            assert not pio or address + length <= pattern.PROBE_PORT
        for kind, _, address, _ in stream.operations(lap)[stream.probes].tolist():
            assert taken.setdefault((kind == OP_IN, address), vcpu) == vcpu
            assert kind == OP_LOAD or address + 4 <= 0x10000


@STYLES
@pytest.mark.parametrize("lap", [0, 1, 63, 64, 1 << 20])
def test_the_operations_write_the_entries(style: Style, lap: int) -> None:
    """In every lap, and the other way round: no entry without its operation."""
    stream = STREAMS[style]
    wanted = entries(stream, lap * PERIOD, (lap + 1) * PERIOD)
    assert list(written(stream.operations(lap))) == wanted


def test_every_size_and_both_kinds_occur() -> None:
    """1 to 8 bytes: the odd ones come from accesses that cross a page."""
    for stream in STREAMS.values():
        lap = stream.lap(0)
        assert set(lap.length.tolist()) == set(range(1, 9))
        assert lap.pio.any()
        assert (lap.address[~lap.pio] >= pattern.QUEUE).all()


@STYLES
def test_all_that_comes_in_order_is_right(style: Style) -> None:
    """Across the end of a lap, as runs of any length."""
    stream = STREAMS[style]
    seen = checker(style, PERIOD - 100)
    rest = entries(stream, PERIOD - 100, PERIOD + 100)
    while rest:
        pio = rest[0][0]
        run = rest[: next((i for i, entry in enumerate(rest) if entry[0] != pio), len(rest))]
        rest = rest[len(run) :]
        columns = list(zip(*run, strict=True))
        seen.run(
            pio,
            np.array(columns[1], np.uint64),
            np.array(columns[2], np.uint32),
            np.array(columns[3], np.uint64),
        )
    assert wrong(seen) == {}
    assert seen.tally[Count.next] == PERIOD + 100


def feed(seen: Checker, sequence: list[Entry]) -> None:
    for entry in sequence:
        seen.one(*entry)


SEVERAL = entries(STREAMS[Style.mixed], 0, 20)


@pytest.mark.parametrize(
    ("sequence", "found"),
    [
        (SEVERAL[:5] + SEVERAL[8:], {"lost": 3}),
        (SEVERAL[:5] + SEVERAL[4:], {"duplicated": 1}),
        (SEVERAL[:5] + SEVERAL[2:], {"duplicated": 3}),
        ([*SEVERAL[:5], SEVERAL[6], SEVERAL[5], *SEVERAL[7:]], {"reordered": 1}),
        ([*SEVERAL[:5], *SEVERAL[7:9], *SEVERAL[5:7], *SEVERAL[9:]], {"reordered": 2}),
        ([*SEVERAL[:5], (*SEVERAL[5][:3], SEVERAL[5][3] ^ 1), *SEVERAL[6:]], {"torn": 1}),
        ([*SEVERAL[:5], (*SEVERAL[5][:3], SEVERAL[9][3]), *SEVERAL[6:]], {"torn": 1}),
        ([*SEVERAL[:5], (*SEVERAL[5][:2], 9, SEVERAL[5][3]), *SEVERAL[6:]], {"torn": 1}),
        ([*SEVERAL[:4], SEVERAL[4], SEVERAL[4], *SEVERAL[6:]], {"duplicated": 1, "lost": 1}),
    ],
)
def test_what_goes_wrong_is_counted_as_what_it_is(
    sequence: list[Entry], found: dict[str, int]
) -> None:
    """And what follows is right again."""
    seen = checker()
    feed(seen, sequence)
    assert wrong(seen) == found
    assert seen.tally[Count.next] == 20


def test_an_entry_of_an_earlier_lap_is_stale_bytes() -> None:
    """The same slot one lap of the stream before: another check value, so it is torn, not whole."""
    old = entries(STREAMS[Style.mixed], 3, 4)[0]
    seen = checker(at=3 + pattern.MEMORY_MODULUS)
    seen.one(*old)
    assert wrong(seen) == {"torn": 1}


def test_entries_of_a_batch_whose_consumer_died_may_come_again() -> None:
    """Those, and no earlier ones."""
    seen = checker(at=10)
    seen.allow_again(4)
    feed(seen, SEVERAL[6:12])
    assert wrong(seen) == {"redelivered": 4}
    assert seen.tally[Count.next] == 12
    feed(seen, SEVERAL[5:6])
    assert wrong(seen) == {"redelivered": 4, "duplicated": 1}


def test_a_load_that_overtakes_an_entry_is_seen() -> None:
    """Its address says how many entries went before it."""
    seen = checker(at=10)
    seen.position(10, pattern.MEMORY_MODULUS)
    assert wrong(seen) == {}
    seen.position(11, pattern.MEMORY_MODULUS)
    assert wrong(seen) == {"reordered": 1}


def test_what_a_third_party_writes_is_not_held_against_the_ring() -> None:
    """Nothing that it may have written is looked at."""
    seen = checker(strict=False)
    given = [*SEVERAL[:5], (False, 0, 8, 0), *SEVERAL[9:]]
    feed(seen, given)
    assert wrong(seen) == {}
    assert not seen.tally.any()


def test_a_load_reads_what_the_device_answers() -> None:
    """At each place of a lap where there is one."""
    stream = STREAMS[Style.exits]
    operations = stream.operations(2)
    for probe, answer in zip(stream.probes[:50].tolist(), stream.answers(2).tolist(), strict=False):
        number = 2 * PERIOD + int(stream.entry[probe])
        size = int(operations["size"][probe])
        assert pattern.probe_value_of(number) & (1 << 8 * size) - 1 == answer

"""Counts by address that do not grow without end."""

from __future__ import annotations

from coalesced.devices.bus.tally import KEPT, Tally


def test_what_is_rare_is_counted_together_where_there_is_too_much() -> None:
    tally = Tally()
    for address in range(3 * KEPT):
        tally[address] += 1
        tally[7] += 1
        assert len(tally) <= KEPT
    assert tally[7] == 3 * KEPT + 1
    assert tally.total == 6 * KEPT
    assert tally.elsewhere > 0
    assert 3 * KEPT - 1 in tally

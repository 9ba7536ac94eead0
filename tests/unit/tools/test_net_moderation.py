"""The interrupt rates of Linux's driver: the values that its trace shows."""

from __future__ import annotations

import pytest

from coalesced.tools.guests.network.moderation import Latency, Moderation, next_class

FULL = 1514


def intervals(moderation: Moderation, *interrupt: int, count: int = 6) -> list[int]:
    """ITR after each of `count` interrupts that found the same."""
    values = []
    for _ in range(count):
        before = moderation.interval
        assert moderation.update(*interrupt) == (moderation.interval != before)
        values.append(moderation.interval)
    return values


def test_bulk_transfer_slows_interrupts_down_at_once_and_a_pause_speeds_them_up_in_steps() -> None:
    moderation = Moderation()
    assert moderation.interval == 195  # 20,000 a second
    assert intervals(moderation, 20, 20 * FULL, 20, 20 * 60, count=2) == [976, 976]  # 4,000
    assert intervals(moderation, 1, 60, 1, 60) == [434, 279, 205, 195, 195, 195]


def test_the_slower_direction_decides() -> None:
    moderation = Moderation()
    assert intervals(moderation, 2, 120, 20, 20 * FULL, count=1) == [976]
    assert intervals(moderation, 2, 120, 0, 0, count=2) == [976, 976]  # nothing came: bulk still


@pytest.mark.parametrize(
    ("current", "packets", "octets", "wanted"),
    [
        (Latency.LOW, 0, 0, Latency.LOW),
        (Latency.LOW, 2, 120, Latency.LOWEST),
        (Latency.LOW, 40, 40 * 300, Latency.LOWEST),
        (Latency.LOW, 20, 20 * 600, Latency.LOW),
        (Latency.LOW, 9, 9 * 1200, Latency.BULK),
        (Latency.LOW, 1, 4000, Latency.BULK),
        (Latency.LOW, 5, 5000, Latency.LOW),
        (Latency.LOWEST, 1, 16_000, Latency.BULK),
        (Latency.LOWEST, 4, 2000, Latency.LOW),
        (Latency.LOWEST, 5, 2000, Latency.LOWEST),
        (Latency.BULK, 40, 40_000, Latency.LOW),
        (Latency.BULK, 20, 30_000, Latency.BULK),
        (Latency.BULK, 6, 9000, Latency.BULK),
        (Latency.BULK, 2, 3000, Latency.LOW),
    ],
)
def test_classes(current: Latency, packets: int, octets: int, wanted: Latency) -> None:
    assert next_class(current, packets, octets) is wanted

"""The inner loop of planar writes, called as no run calls it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coalesced.devices.vga import planes

TABLE = np.arange(256, dtype=np.uint32) * np.uint32(0x01010101)


def stored(offsets: Any, data: Any, written: int = 0xFFFFFFFF, first: int = 0) -> list[int]:
    words = np.full(4, 0x11111111, np.uint32)
    planes.store(words, TABLE, written, first, offsets, data)
    return [int(word) for word in words]


def test_bytes_and_words_are_taken_at_any_stride() -> None:
    offsets = np.array([[3, 9], [0, 9], [3, 9]], np.uint64)[:, 0]
    for data in (np.array([1, 2, 0x1F3], np.uint64), np.array([1, 7, 2, 7, 0xF3], np.uint8)[::2]):
        assert stored(offsets, data) == [0x02020202, 0x11111111, 0x11111111, 0xF3F3F3F3]
    backwards = np.arange(4, dtype=np.uint64)[::-1]
    assert stored(backwards, np.arange(4, dtype=np.uint8)) == [
        0x03030303,
        0x02020202,
        0x01010101,
        0,
    ]


def test_only_written_planes_change() -> None:
    got = stored(np.array([1], np.uint64), np.array([0xAB], np.uint64), 0x00FF00FF)
    assert got == [0x11111111, 0x11AB11AB, 0x11111111, 0x11111111]
    assert stored(np.array([1], np.uint64), np.array([0xAB], np.uint64), 0) == [0x11111111] * 4


@pytest.mark.parametrize("offset", [4, 1 << 31, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_offsets_outside_of_the_map_are_left_out(offset: int) -> None:
    offsets = np.array([offset, 2], np.uint64)
    data = np.array([5, 6], np.uint64)
    for column in (offsets, offsets.view(np.intp)):
        assert stored(column, data)[2:] == [0x06060606, 0x11111111]
    assert stored(np.array([1], np.uint64), np.array([5], np.uint64), first=2) == [0x11111111] * 4


@pytest.mark.parametrize(
    ("offsets", "data"),
    [
        (np.zeros(2, np.uint64), np.zeros(3, np.uint8)),
        (np.zeros(2, np.uint32), np.zeros(2, np.uint8)),
        (np.zeros(2, np.uint8), np.zeros(2, np.uint8)),
        (np.zeros((2, 2), np.uint64), np.zeros((2, 2), np.uint8)),
        (np.frombuffer(b"." * 17, np.uint64, 2, 1), np.zeros(2, np.uint8)),
        (np.zeros(2, np.uint64), np.zeros(2, np.uint16)),
    ],
)
def test_other_shapes_are_refused(offsets: Any, data: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        stored(offsets, data)


def test_other_tables_and_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="256 of them in the table"):
        planes.store(
            np.zeros(1, np.uint32), TABLE[:9], 0, 0, np.zeros(1, np.uint64), np.zeros(1, np.uint8)
        )
    with pytest.raises(TypeError):
        planes.store(np.zeros(1, np.uint32), TABLE, 0, 0, [0], [0])  # type: ignore[arg-type]

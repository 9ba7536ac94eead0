"""Changes that turn QEMU's pictures into those of the chip."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from picture_reference import Picture


def black(picture: Picture) -> Picture:
    return picture * 0


def wide(picture: Picture) -> Picture:
    return picture.repeat(2, axis=1)


def tall(picture: Picture) -> Picture:
    return picture.repeat(2, axis=0)


def upper(lines: int) -> Callable[[Picture], Picture]:
    return lambda picture: picture[:lines]


def without_columns(count: int, width: int) -> Callable[[Picture], Picture]:
    return lambda picture: picture[:, count : count + width]


def split_at(line: int) -> Callable[[Picture], Picture]:
    return lambda picture: np.concatenate([picture[:line], picture[: len(picture) - line]])


def interleaved(*banks: Picture) -> Picture:
    """A line of each in turn."""
    return np.stack(banks, axis=1).reshape(-1, *banks[0].shape[1:])


def pairs_of_lines_twice(picture: Picture) -> Picture:
    pairs = picture.reshape(-1, 2, *picture.shape[1:]).repeat(2, axis=0)
    return pairs.reshape(-1, *picture.shape[1:])[: len(picture)]


def every_second_line_black(picture: Picture) -> Picture:
    drawn = picture.copy()
    drawn[1::2] = 0
    return drawn


def six_bits(picture: Picture) -> Picture:
    high = picture & 0xFC
    return (high | high >> 6).astype(np.uint8)


def shifted_even_lines(picture: Picture) -> Picture:
    """The even lines' dots 128 further on, over the ends of lines; the odd ones black."""
    drawn = picture * 0
    shown = picture[::2]
    dots = np.concatenate([np.zeros((128, 3), np.uint8), shown.reshape(-1, 3)[:-128]])
    drawn[::2] = dots.reshape(shown.shape)
    return drawn

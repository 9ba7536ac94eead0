"""Lines of text as columns of numbers: each step takes all lines at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.intp]
Words = NDArray[np.uint64]
Mask = NDArray[np.bool_]

_PAD = 32  # zeros around the text: a word may begin before it or end after it


def _repeated(byte: int) -> np.uint64:
    return np.uint64(int.from_bytes(bytes([byte]) * 8, "little"))


_LOW, _SIX, _ONE, _ZERO = (_repeated(b) for b in (0x0F, 0x06, 0x01, ord("0")))


def word(text: str) -> np.uint64:
    """Up to eight characters as a number, in the byte order of memory."""
    return np.uint64(int.from_bytes(text.encode(), "little"))


class Columns:
    """A block of lines. Positions count from the block's first byte."""

    def __init__(self, block: bytes) -> None:
        if not block.endswith(b"\n"):
            block += b"\n"
        padded = b"\0" * _PAD + block + b"\0" * _PAD
        self.block = block
        self.bytes = np.frombuffer(block, dtype=np.uint8)
        self.ends = self.find("\n")
        self.starts = np.concatenate(([0], self.ends[:-1] + 1))
        self._words = np.ndarray(len(padded) - 7, dtype="<u8", buffer=padded, strides=(1,))

    def find(self, character: str) -> Positions:
        """The positions of a character."""
        return np.flatnonzero(self.bytes == ord(character))

    def words(self, at: Positions, length: int = 8) -> Words:
        """The first `length` characters at each position, see `word`."""
        found = self._words[at + _PAD]
        return found if length == 8 else found & np.uint64((1 << 8 * length) - 1)

    def has(self, at: Positions, text: str) -> Mask:
        """Is this text of up to eight characters at each position?"""
        return np.asarray(self.words(at, len(text)) == word(text))

    def hexadecimal(self, start: Positions, end: Positions) -> tuple[Words, Mask]:
        """The numbers of one to 16 hexadecimal digits in [start, end), and which are valid."""
        length = end - start
        low, low_good = self._digits(end, np.minimum(length, 8))
        high, high_good = self._digits(end - 8, np.clip(length - 8, 0, 8))
        good = low_good & high_good & (length >= 1) & (length <= 16)
        return high << np.uint64(32) | low, good

    def _digits(self, end: Positions, length: Positions) -> tuple[Words, Mask]:
        """Up to eight digits that end at each position, converted as one word."""
        other = (8 * np.clip(8 - length, 0, 8)).astype(np.uint64)
        filled = other == 64
        keep = np.where(filled, 0, ~np.uint64(0) << np.minimum(other, np.uint64(63)))
        characters = self.words(np.maximum(end - 8, -_PAD)) & keep | _ZERO & ~keep
        letters = characters >> np.uint64(6) & _ONE
        digits = (characters & _LOW) + letters * np.uint64(9) & _LOW
        above_nine = (digits + _SIX) >> np.uint64(4) & _ONE
        good = digits + _ZERO + above_nine * np.uint64(0x27) == characters
        # The first digit is in the lowest byte and is the most significant.
        for bits, lanes in ((4, 0x000F000F000F000F), (8, 0x000000FF000000FF), (16, 0xFFFF)):
            mask = np.uint64(lanes)
            digits = (digits & mask) << np.uint64(bits) | digits >> np.uint64(2 * bits) & mask
        return digits, np.asarray(good)

    def line_of(self, at: Positions) -> Positions:
        """The index of the line in which each position lies."""
        return np.searchsorted(self.ends, at)

    def blank(self) -> Mask:
        """Per line: is it blank?"""
        return np.asarray(np.maximum.reduceat(self.bytes, self.starts) <= ord(" "))

    def text(self, line: int) -> bytes:
        """A line without its end."""
        return self.block[self.starts[line] : self.ends[line]].removesuffix(b"\r")

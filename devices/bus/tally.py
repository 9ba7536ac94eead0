"""Counts by address, bounded however many addresses a guest uses."""

from __future__ import annotations

from typing import Final

KEPT: Final = 1 << 16  # addresses with a count of their own


class Tally(dict[int, int]):
    """Counts by address: `tally[address] += 1`.

    When more than KEPT addresses occur, the rarer half is counted together in `elsewhere`.
    """

    elsewhere: int = 0

    def __missing__(self, _address: int) -> int:
        if len(self) >= KEPT:
            for rare in sorted(self, key=self.__getitem__)[: KEPT // 2]:
                self.elsewhere += self.pop(rare)
        return 0

    @property
    def total(self) -> int:
        """The sum over all addresses."""
        return sum(self.values()) + self.elsewhere

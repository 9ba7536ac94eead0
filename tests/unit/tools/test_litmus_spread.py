"""Cases over the processors: an interruption at any moment ends what runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from coalesced.tools.litmus.cases import Case, cases
from coalesced.tools.litmus.spread import over_processes

HOURS = list(cases(4, 12, ["weak"], "release-first"))


class Interrupted(list[Case]):
    """Raises when it is gone through for the second time, behind the first case."""

    times = 0

    def __iter__(self) -> Iterator[Case]:
        self.times += 1
        yield self[0]
        if self.times > 1:
            raise KeyboardInterrupt
        yield from self[1:]


def test_an_interruption_while_cases_are_handed_out_ends_those_that_run() -> None:
    """Else the interpreter would wait for them at its end."""
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        next(over_processes(Interrupted(HOURS)))
    assert threading.active_count() == before


def test_closing_ends_the_cases_that_run() -> None:
    before = threading.active_count()
    coming = over_processes([*cases(2, 1, ["sc"], None), *HOURS])
    assert next(coming).as_expected
    coming.close()
    assert threading.active_count() == before

"""The memory models against known litmus tests, and the search against walking every execution."""

from __future__ import annotations

import itertools
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalesced.tools.litmus.access import FENCE, Access, Program, Script, only
from coalesced.tools.litmus.explore import explore
from coalesced.tools.litmus.models import KEEPS, forwarded, overtakes

X, Y = 0, 1


def put(place: int, value: int = 1, order: str = "relaxed", **more: int) -> Access:
    """A store."""
    return Access("", "store", place, "", value=value, order=order, **more)  # type: ignore[arg-type]


def see(place: int, value: int, order: str = "relaxed", control: bool = False) -> Access:
    """A load that belongs to the outcome asked for only if it finds this value."""
    return Access("", "load", place, "", values=only(value), order=order, control=control)


def two(first: list[Access], second: list[Access]) -> Program:
    """A program of two straight threads over X and Y, which start at 0."""
    return Program(("x", "y"), (0, 0), (Script("a", first), Script("b", second)), "stuck")


ACQUIRE: Literal["acquire"] = "acquire"
RELEASE: Literal["release"] = "release"

# Name: the program with the outcome in question, and the models that permit it.
LITMUS = {
    "SB": ([put(X), see(Y, 0)], [put(Y), see(X, 0)], {"tso", "weak", "arm"}),
    "SB with fences": ([put(X), FENCE, see(Y, 0)], [put(Y), FENCE, see(X, 0)], set()),
    "SB with one fence": (
        [put(X), FENCE, see(Y, 0)],
        [put(Y), see(X, 0)],
        {"tso", "weak", "arm"},
    ),
    "SB with acquire and release": (
        [put(X, order=RELEASE), see(Y, 0, ACQUIRE)],
        [put(Y, order=RELEASE), see(X, 0, ACQUIRE)],
        {"tso", "weak", "arm"},
    ),
    "MP": ([put(X), put(Y)], [see(Y, 1), see(X, 0)], {"weak", "arm"}),
    "MP with acquire and release": (
        [put(X), put(Y, order=RELEASE)],
        [see(Y, 1, ACQUIRE), see(X, 0)],
        set(),
    ),
    "MP with a release only": (
        [put(X), put(Y, order=RELEASE)],
        [see(Y, 1), see(X, 0)],
        {"weak", "arm"},
    ),
    "MP with a release and a branch": (
        [put(X), put(Y, order=RELEASE)],
        [see(Y, 1, control=True), see(X, 0)],
        {"weak", "arm"},
    ),
    "MP with an acquire only": (
        [put(X), put(Y)],
        [see(Y, 1, ACQUIRE), see(X, 0)],
        {"weak", "arm"},
    ),
    "MP with a release and an address": (
        [put(X), put(Y, order=RELEASE)],
        [see(Y, 1), see(X, 0)._replace(address_from=Y)],
        set(),
    ),
    "LB": ([see(X, 1), put(Y)], [see(Y, 1), put(X)], {"weak", "arm"}),
    "LB with branches": (
        [see(X, 1, control=True), put(Y)],
        [see(Y, 1, control=True), put(X)],
        {"weak"},
    ),
    "LB with an address and a branch": (
        [see(X, 1), put(Y)._replace(address_from=X)],
        [see(Y, 1, control=True), put(X)],
        {"weak"},
    ),
    "LB with addresses": (
        [see(X, 1), put(Y)._replace(address_from=X)],
        [see(Y, 1), put(X)._replace(address_from=Y)],
        set(),
    ),
    "CoRR": ([put(X)], [see(X, 1), see(X, 0)], set()),
    "CoWR": ([put(X, 1), see(X, 0)], [], set()),
    "CoRW": ([see(X, 1), put(X, 1)], [], set()),
    "CoWW": ([put(X, 1), put(X, 2)], [see(X, 2), see(X, 1)], set()),
    "2+2W": (
        [put(X, 1), put(Y, 2), see(Y, 1)],
        [put(Y, 1), put(X, 2), see(X, 1)],
        {"weak", "arm"},
    ),
    "S": ([put(X, 2), put(Y)], [see(Y, 1), put(X, 1), see(X, 2)], {"weak", "arm"}),
    "a store is forwarded": (
        [put(X, 1), see(X, 1), see(Y, 0)],
        [put(Y, 1), see(Y, 1), see(X, 0)],
        {"tso", "weak", "arm"},
    ),
    "the newest store is forwarded": ([put(X, 1), put(X, 2), see(X, 1)], [], set()),
    "an acquire of nothing new keeps the later load late": (
        [put(X), FENCE, put(Y)],
        [see(Y, 0, ACQUIRE), see(X, 0)],
        set(KEEPS),
    ),
    "a system call is not made on a guess": (
        [see(X, 1), put(Y)._replace(call=True)],
        [see(Y, 1), put(X)._replace(call=True)],
        set(),
    ),
}


@pytest.mark.parametrize("model", KEEPS)
@pytest.mark.parametrize("name", LITMUS)
def test_a_model_permits_what_it_is_known_to_permit(name: str, model: str) -> None:
    """True when in some execution every load finds the value of the outcome."""
    first, second, permitting = LITMUS[name]
    result = explore(two(first, second), model)
    assert (result.executions > result.illegal) == (model in permitting)


def test_a_wrong_value_counts_only_if_the_guesses_before_it_come_true() -> None:
    """A load on a guess that nothing fulfils shows nothing."""
    for stores, wrong in (([put(Y)], 1), ([], 0)):
        looks = [see(Y, 1, control=True), Access("", "load", X, "", legal=7, wrong="not 7")]
        result = explore(two(stores, looks), "weak")
        assert (result.wrong == "not 7") == bool(wrong)


ACCESSES = st.builds(
    lambda kind, place, value, order, guess: (
        put(place, value, "release" if order else "relaxed")
        if kind
        else Access(
            "", "load", place, "", values=only(0, value) if guess else -1,
            order="acquire" if order else "relaxed", control=guess,
        )
    ),
    st.booleans(), st.integers(0, 1), st.integers(1, 3), st.booleans(), st.booleans(),
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    first=st.lists(ACCESSES, min_size=2, max_size=4),
    second=st.lists(ACCESSES, max_size=3),
    model=st.sampled_from(list(KEEPS)),
)
def test_the_search_counts_what_walking_finds(
    first: list[Access], second: list[Access], model: str
) -> None:
    """Each sequence of accesses that the model permits, one by one, against the counted ones."""
    result = explore(two(first, second), model)
    assert result.executions - result.illegal == walk((tuple(first), tuple(second)), (0, 0), model)


def walk(left: tuple[tuple[Access, ...], ...], memory: tuple[int, ...], model: str) -> int:
    """How many ways there are to the end, without guesses: anything that may be next, is."""
    if not any(left):
        return 1
    ways = 0
    for thread, place in itertools.product((0, 1), range(4)):
        if place >= len(left[thread]):
            continue
        before, access = left[thread][:place], left[thread][place]
        if not overtakes(model, access, before):
            continue
        after = memory
        if access.kind == "store":
            after = tuple(access.value if i == access.place else v for i, v in enumerate(memory))
        else:
            own = forwarded(access, before)
            found = memory[access.place] if own is None else own
            if access.guess and not access.values >> found & 1:
                continue
        rest = before + left[thread][place + 1 :]
        ways += walk((rest, left[1]) if thread == 0 else (left[0], rest), after, model)
    return ways

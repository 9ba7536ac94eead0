"""The shipped headers, each order relaxed in turn, in every model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from coalesced import get_include
from coalesced.tools.litmus import explore
from coalesced.tools.litmus.cases import Case, outcome
from coalesced.tools.litmus.models import MODELS
from helpers.command_line import status_of

# Barrier: the models that need it.
NEEDED = {
    "ACQUIRE_FIRST": set(),
    "RELEASE_LAST": {"rc11", "weak"},
    "ACQUIRE_LAST": {"rc11", "weak"},
    "RELEASE_FIRST": {"weak"},
    "RELEASE_EXIT": {"rc11", "weak"},
    "ACQUIRE_EXIT": {"rc11", "weak"},
    "RELEASE_RESUME": {"rc11", "weak"},
    "ACQUIRE_RESUME": {"rc11", "weak"},
    "FENCE_WAKEUP": {"tso", "rc11", "weak"},
    "WAKER_FENCE": {"tso", "rc11", "weak"},
    "SLEEPER_FENCE": {"tso", "rc11", "weak"},
    "RELEASE_POSTED": {"rc11", "weak"},
    "ACQUIRE_POSTED": {"rc11", "weak"},
    "FENCE_POSTED": {"tso", "rc11", "weak"},
    "RELEASE_LOCK": {"rc11", "weak"},
    "ACQUIRE_LOCK": {"rc11", "weak"},
    "RELEASE_OWNER": {"rc11", "weak"},
    "ACQUIRE_OWNER": {"rc11", "weak"},
    "TAKE_OWNER": {"rc11", "weak"},
    "FENCE_OWN_RING": {"tso", "rc11", "weak"},
    "ANNOUNCE_FENCE": {"tso", "rc11", "weak"},
    "ANSWER_FENCE": {"tso", "rc11", "weak"},
}


@pytest.mark.heavy
def test_each_barrier_is_needed_in_the_models_that_reorder_what_it_orders(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status_of(["litmus", "--matrix", "--entries", "7", "--json"], print) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert report["bounds"] == {"slots": 3, "entries": 7}
    needed = {
        barrier: {model for model, says in row.items() if says == "needed"}
        for barrier, row in report["matrix"].items()
    }
    assert needed == NEEDED
    for row in report["matrix"].values():
        assert set(row) == set(MODELS)
        assert all(says == "needed" or says.startswith("redundant: ") for says in row.values())
    for case in report["cases"]:
        assert case["ok"] == (not case["events"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("slots", "entries", "ok"), [(2, 3, True), (2, 5, True), (3, 3, True), (3, 4, False)]
)
def test_release_of_first_shows_from_three_slots_and_four_entries_on(
    slots: int, entries: int, ok: bool
) -> None:
    """A late read finds a later entry, for which two entries must have been taken at once."""
    found = outcome(Case("ring", "release-first", "weak", slots, entries))
    assert found.verdict.ok == ok
    assert found.as_expected


PROGRAMS = {
    "ring": 4, "hostile": 2, "exit": 2, "wakeup": 2, "posted": 2, "lock": 2,
    "shared": 1, "takeover": 1, "own": 3, "rings": 1,
}  # fmt: skip
"""And their entries."""
# A posted write waits in the ring, and its VMM sleeps as any.
SHARED_WITH_POSTED = {"RELEASE_LAST", "ACQUIRE_LAST", "FENCE_WAKEUP", "SLEEPER_FENCE"}
# So do the entries of several producers.
SHARED_WITH_LOCK = {"RELEASE_LAST", "ACQUIRE_LAST"}
# Several rings have posted writes, exits and a lock beside them.
IN_RINGS = {
    *("RELEASE_LAST", "ACQUIRE_LAST", "RELEASE_EXIT", "ACQUIRE_EXIT"),
    *("RELEASE_POSTED", "ACQUIRE_POSTED", "RELEASE_LOCK", "ACQUIRE_LOCK"),
}
# Those of a ring between two processes, too, and its consumer sleeps as any.
IN_SHARED = SHARED_WITH_POSTED | {"WAKER_FENCE", "RELEASE_OWNER", "ACQUIRE_OWNER"}
# The next owner of a side reads what the last one has left.
IN_TAKEOVER = {"RELEASE_OWNER", "TAKE_OWNER"}
HEADERS = {
    "ring.h": "ring",
    "exit.h": "exit",
    "posted.h": "posted",
    "ring_lock.h": "lock",
    "shared_ring.h": "shared",
    "own_ring.h": "own",
}
# The fences of which one place is removed, the first (0) or the second (1) of the header.
PLACES = {
    "WAKER_FENCE": ("FENCE_WAKEUP", 0),
    "SLEEPER_FENCE": ("FENCE_WAKEUP", 1),
    "ANNOUNCE_FENCE": ("FENCE_OWN_RING", 0),
    "ANSWER_FENCE": ("FENCE_OWN_RING", 1),
}


def without(barrier: str, text: str) -> str:
    """The header's text with an order relaxed, or without a fence or one of its two places."""
    if "FENCE" not in barrier:
        return re.sub(rf"\bORDER_{barrier}([,)])", r"memory_order_relaxed\1", text)
    macro, place = PLACES.get(barrier, (barrier, None))
    pieces = text.split(f"atomic_thread_fence({macro});")
    if place is None or len(pieces) == 1:
        return "".join(pieces)
    first, second, third = pieces
    fence = f"atomic_thread_fence({macro});"
    return first + second + fence + third if place == 0 else first + fence + second + third


@pytest.mark.heavy
@pytest.mark.parametrize("barrier", NEEDED)
def test_a_header_without_a_barrier_fails_in_the_models_that_need_it_and_in_no_other(
    barrier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text of the header is changed, and all programs are explored as they are shipped."""
    changed = []
    for name in HEADERS:
        text = Path(get_include(), name).read_text()
        tmp_path.joinpath(name).write_text(without(barrier, text))
        changed += [name] * (without(barrier, text) != text)
    (header,) = changed
    monkeypatch.setattr(explore, "get_include", lambda: str(tmp_path))
    failing = {program: set[str]() for program in PROGRAMS}
    for program, entries in PROGRAMS.items():
        source = explore.CHECKER / "programs" / f"{program}.c"
        for verdict in explore.explore(source, MODELS, [f"ENTRIES={entries}"]):
            if not verdict.ok:
                failing[program].add(verdict.model)
                assert str(tmp_path / header) in {event.file for event in verdict.events}
    own = {"exit.h": "wakeup"}.get(header) if "FENCE" in barrier else None
    expected = {program: set[str]() for program in PROGRAMS}
    if barrier not in IN_TAKEOVER:
        expected[own or HEADERS[header]] = NEEDED[barrier]
    if barrier in SHARED_WITH_POSTED:
        expected["posted"] = NEEDED[barrier]
    if barrier in SHARED_WITH_LOCK:
        expected["lock"] = expected["own"] = NEEDED[barrier]
    if barrier in IN_RINGS:
        expected["rings"] = NEEDED[barrier]
    if barrier in IN_SHARED:
        expected["shared"] = NEEDED[barrier]
    if barrier in IN_TAKEOVER:
        expected["takeover"] = NEEDED[barrier]
    assert failing == expected

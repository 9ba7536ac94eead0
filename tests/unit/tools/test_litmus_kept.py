"""`coalesced litmus` keeps its compiled programs for the next start."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from coalesced.tools.litmus import kept

Make = Callable[[Path], None]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all that is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "coalesced" / "litmus"


def maker(made: list[Path]) -> Make:
    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "program").write_text("made")

    return make


def test_it_is_made_once(root: Path) -> None:
    made: list[Path] = []
    assert {kept.kept("key", maker(made)) for _ in range(3)} == {root / "key"}
    assert len(made) == 1
    assert (root / "key" / "program").read_text() == "made"
    assert [each.name for each in root.iterdir()] == ["key"]


def test_a_folder_that_was_emptied_is_made_anew(root: Path) -> None:
    made: list[Path] = []
    program = kept.kept("key", maker(made)) / "program"
    program.unlink()
    assert (kept.kept("key", maker(made)) / "program").exists()
    assert len(made) == 2


def test_what_another_process_made_meanwhile_is_used(root: Path) -> None:
    def slow(folder: Path) -> None:
        maker([])(folder)
        kept.kept("key", maker([]))

    assert kept.kept("key", slow) == root / "key"
    assert [each.name for each in root.iterdir()] == ["key"]


def test_what_cannot_be_made_leaves_nothing(root: Path) -> None:
    def fails(_folder: Path) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        kept.kept("key", fails)
    assert list(root.iterdir()) == []


def test_a_folder_that_others_may_write_to_is_not_used(root: Path) -> None:
    root.mkdir(parents=True)
    root.chmod(0o777)
    folder = kept.kept("key", maker([]))
    assert kept.of_process() in folder.parents
    assert list(root.iterdir()) == []


def test_without_a_place_to_keep_it_it_lasts_as_long_as_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    folder = kept.kept("key", maker([]))
    assert kept.of_process() in folder.parents
    assert (folder / "program").exists()


def test_what_was_not_used_for_a_month_is_removed(root: Path) -> None:
    old = kept.kept("old", maker([]))
    os.utime(old, (0, 0))
    kept.kept("new", maker([]))
    assert not old.exists()


def test_another_content_is_another_key(tmp_path: Path) -> None:
    source = tmp_path / "ring.h"
    keys = set()
    for content in ("memory_order_release", "memory_order_relaxed"):
        source.write_text(content)
        keys |= {kept.key_of(("-O2",), [source]), kept.key_of(("-O3",), [source])}
    assert len(keys) == 4

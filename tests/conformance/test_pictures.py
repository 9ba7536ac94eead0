"""Every picture script shows what QEMU shows, or what the chip shows where a table says so."""

from __future__ import annotations

import numpy as np
import pytest
from conformance_script import Script
from picture_difference import Difference
from picture_differences import DIFFERENCES, DOCUMENT, document
from picture_recorded import packed, unpacked
from picture_recorded import read as read_recorded
from picture_reference import Picture, picture_of_ours, picture_of_qemu
from picture_scripts import ALIKE, SCRIPTS

from helpers.qtest_peer import has_qemu


def same(ours: Picture, theirs: Picture) -> bool:
    return ours.shape == theirs.shape and bool((ours == theirs).all())


def compare(name: str, ours: Picture, theirs: Picture) -> None:
    """Fail with the place of the first pixel that differs."""
    assert ours.shape == theirs.shape, f"{name}: size {ours.shape}, expected {theirs.shape}"
    wrong = np.argwhere((ours != theirs).any(axis=-1))
    if len(wrong):
        y, x = wrong[0]
        pytest.fail(
            f"{name}: {len(wrong)} pixels differ, the first at x {x}, y {y}: "
            f"{ours[y, x].tolist()}, expected {theirs[y, x].tolist()}"
        )


@pytest.mark.parametrize("script", ALIKE, ids=lambda script: script.name)
def test_the_picture_is_that_of_qemu(script: Script) -> None:
    compare(script.name, picture_of_ours(script), read_recorded(script))


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.script.name)
def test_the_picture_is_the_chips_where_qemu_leaves_something_out(difference: Difference) -> None:
    ours = picture_of_ours(difference.script, difference.frame)
    theirs = read_recorded(difference.script)
    assert not same(ours, theirs), "QEMU shows the same: no difference any more"
    wanted = difference.change(*map(read_recorded, difference.like))
    compare(difference.script.name, ours, wanted)


@pytest.mark.skipif(not has_qemu(), reason="no QEMU 7.2 on this machine")
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(script, id=script.name, marks=[pytest.mark.heavy] if number % 8 else [])
        for number, script in enumerate(SCRIPTS)
    ],
)
def test_qemu_shows_what_was_recorded(script: Script) -> None:
    compare(script.name, picture_of_qemu(script), read_recorded(script))


@pytest.mark.parametrize("colors", [2, 256, 257])
def test_a_recorded_picture_comes_back_whole(colors: int) -> None:
    values = np.arange(30 * 40) % colors
    picture = np.stack([values & 0xFF, values >> 8, values * 0 + 9], axis=-1).astype(np.uint8)
    picture = picture.reshape(30, 40, 3)
    assert same(unpacked(packed(picture, ["outb 0x3c4 0x1"]), ["outb 0x3c4 0x1"]), picture)


def test_the_scripts_show_something() -> None:
    """A picture of one colour proves nothing, but for a screen that is off."""
    pictures = ((script.name, read_recorded(script)) for script in SCRIPTS)
    plain = [name for name, picture in pictures if picture.min() == picture.max()]
    assert all("-off" in name for name in plain), plain


def test_the_document_lists_the_differences() -> None:
    assert DOCUMENT.read_text() == document()

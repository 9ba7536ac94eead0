"""Makes the pictures of `coalesced live` in docs/, from the page itself: `python docs/pictures.py`.

Needs chromium and the extra `test`. An argument names another folder for them.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.live_page import chromium, live, opened, paused, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DESKTOP = {"width": 1280, "height": 720}
LESSONS = (
    "state.exits_by.no_zone > 60",
    "state.pending > 60",
    "state.exits_by.ring_full > 0 && state.pending > 40",
    "state.exits_by.load > 4 && state.pending > 8",
    "state.pending == 80",
    "state.steps > 100 && state.pending == 1",
    "state.pending > 40",
)
"""For each lesson, what its picture waits for."""


def main(folder: Path) -> None:
    """Write live.png, a guest that was stopped in the middle; live-dark.png, on a phone; and the
    lessons."""
    (folder / "lesson").mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        _pages(browser, folder)
        for number, condition in enumerate(LESSONS, 1):
            _lesson(browser, folder, number, condition)


def _pages(browser: Browser, folder: Path) -> None:
    with live(folder) as running:
        page = opened(browser, running.turn, viewport=DESKTOP)
        page.select_option("#speed", "1000")
        until(page, "state.steps > 3000 && state.pending > 60")
        state = paused(page, 60)
        until(page, "state.hottest.length")
        page.fill("#slot", str((state["first"] + 12) % state["slots"]))
        page.wait_for_selector("#slot-text:has-text('vga-lowmem')")
        _shot(page, folder / "live.png")
        phone = {"width": 390, "height": 844}
        page = opened(browser, running.show, viewport=phone, color_scheme="dark")
        _shot(page, folder / "live-dark.png")


def _lesson(browser: Browser, folder: Path, number: int, condition: str) -> None:
    with live(folder, f"lesson:{number}", "--run") as running:
        page = opened(browser, running.turn, viewport=DESKTOP)
        until(page, condition)
        page.click("#pause")
        until(page, "state.mode != 'slow' && state.hottest.length")
        if number == len(LESSONS):
            page.click("#break")
            until(page, "state.breaking.stress")
        _shot(page, folder / "lesson" / f"{number}.png")


def _shot(page: Page, path: Path) -> None:
    """The whole page, in 96 colours: a quarter of the size, and nobody sees it."""
    picture = Image.open(BytesIO(page.screenshot(full_page=True))).convert("RGB")
    picture.quantize(96).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)

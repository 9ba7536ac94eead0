"""Makes the pictures of `coalesced live` in docs/, from the page itself: `python docs/pictures.py`.

Needs chromium and the extra `test`. An argument names another folder for them.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.live_page import chromium, live, opened, until


def main(folder: Path) -> None:
    """Write live.png, a guest that was stopped in the middle, and live-dark.png, on a phone."""
    with chromium() as browser, live(folder) as running:
        page = opened(browser, running.turn, viewport={"width": 1280, "height": 720})
        page.select_option("#speed", "1000")
        until(page, "state.steps > 3000 && state.pending > 60")
        page.click("#pause")
        state = until(page, "state.mode == 'paused' && state.hottest.length")
        page.fill("#slot", str((state["first"] + 12) % state["slots"]))
        page.wait_for_selector("#slot-text:has-text('vga-lowmem')")
        page.screenshot(path=folder / "live.png", full_page=True)
        phone = {"width": 390, "height": 844}
        page = opened(browser, running.show, viewport=phone, color_scheme="dark")
        page.screenshot(path=folder / "live-dark.png", full_page=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)

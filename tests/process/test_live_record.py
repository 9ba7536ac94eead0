"""A page of `coalesced live --record`: it plays without a server."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers.live_page import (
    LIMIT,
    chromium,
    live,
    needs_browser,
    opened,
    paused,
    screen_equals,
    until,
)
from helpers.vmm_cli import json_of, one_line, run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [needs_browser(), pytest.mark.heavy]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def at_the_end(page: Page) -> None:
    """Move a recording to its last state."""
    page.fill("#moment", page.get_attribute("#moment", "max") or "")


def test_a_recording_plays_the_screen_the_ring_and_the_counts(
    browser: Browser, tmp_path: Path
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    json_of("demo", "vga", "--png", "screen.png", cwd=tmp_path)
    with live(tmp_path, "--exit", "--record", "minute.html") as running:
        page = opened(browser, running.turn)
        page.select_option("#speed", "1000")
        until(page, "state.pending > 20")
        held = paused(page, 1)
        until(page, f"state.time > {held['time']} + 0.5")  # some frames of it
        page.click("#run")
        ended = running.result()["runs"][0]
    assert (tmp_path / "minute.html").stat().st_size < 3_000_000
    page = browser.new_page(viewport={"width": 390, "height": 844})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "minute.html").as_uri())
    until(page, "state.steps == 0")
    page.click("#play")
    until(page, f"state.mode == 'paused' && state.steps == {held['steps']}")
    page.click("#play")  # hold it there
    page.fill("#slot", str(held["first"]))
    page.wait_for_selector(f"#slot-text:has-text('Slot {held['first']}: vga-lowmem')")
    at_the_end(page)
    state = until(page, "state.mode == 'ended'")
    for name in ("writes", "coalesced", "exits"):
        assert state[name] == ended[name]
    assert {**dict.fromkeys(ended["exits_by"], 0), **state["exits_by"]} == ended["exits_by"]
    screen_equals(page, tmp_path / "screen.png")
    page.fill("#moment", "0")
    until(page, "state.steps == 0")
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def test_a_recording_has_the_entries_of_own_rings(browser: Browser, tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with live(tmp_path, "--exit", "--rings", "device", "--record", "minute.html") as running:
        page = opened(browser, running.turn)
        page.select_option("#speed", "100")
        vga = "state.own.find((each) => each.name === 'VGA')"
        until(page, f"{vga}.pending > 20")
        page.click("#pause")
        held = until(page, "state.mode == 'paused'")
        until(page, f"state.time > {held['time']} + 0.5")  # some frames of it
        page.click("#run")
        running.result()
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto((tmp_path / "minute.html").as_uri())
    page.click("#play")
    until(page, f"state.mode == 'paused' && state.steps == {held['steps']}")
    page.click("#play")  # hold it there
    page.select_option("#which", "VGA")
    (own,) = (each for each in held["own"] if each["name"] == "VGA")
    page.fill("#slot", str(own["first"]))
    page.wait_for_selector(f"#slot-text:has-text('Slot {own['first']}: vga-lowmem')")
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390


def test_a_recording_is_written_after_ctrl_c(browser: Browser, tmp_path: Path) -> None:
    with live(tmp_path, "--record", "minute.html") as running:
        page = opened(browser, running.turn)
        page.click("#step50")
        held = until(page, "state.mode == 'paused' && state.steps == 50")
        until(page, f"state.time > {held['time']} + 0.5")
        running.process.send_signal(signal.SIGINT)
        running.process.communicate(timeout=LIMIT / 1000)
        assert running.process.returncode == 130
    page = browser.new_page()
    page.goto((tmp_path / "minute.html").as_uri())
    page.wait_for_function("window.state")
    at_the_end(page)
    until(page, "state.steps == 50")


def test_a_recording_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    done = run("live", "--record", "missing/minute.html", cwd=tmp_path)
    assert one_line(done, 2).startswith("--record missing/minute.html: there is no folder")

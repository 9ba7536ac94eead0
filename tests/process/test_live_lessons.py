"""The lessons of `coalesced live`: what each is about can be seen on its page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from helpers.live_page import LIMIT, chromium, live, needs_browser, opened, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
pytestmark = [needs_browser(), pytest.mark.heavy]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def test_in_the_first_lesson_every_write_exits(browser: Browser, tmp_path: Path) -> None:
    with live(tmp_path, "lesson:1", "--run") as running:
        page = opened(browser, running.turn)
        assert "each store stops the guest" in page.inner_text("#task")
        state = until(page, "state.mode == 'slow' && state.exits_by.no_zone > 20")
        assert (state["coalesced"], state["pending"], state["rate"]) == (0, 0, 100)
        page.check("#regions input[name=vga-lowmem]")
        until(page, "state.pending > 5")


def test_a_queued_doorbell_waits_until_the_ring_is_drained(
    browser: Browser, tmp_path: Path
) -> None:
    with live(tmp_path, "lesson:6", "--run") as running:
        page = opened(browser, running.turn)
        until(page, "state.steps > 100 && state.pending == 1 && state.oldest > 0.5")
        assert "e1000-mmio TDT" in page.inner_text("#told")
        before = until(page, "state.pending == 1")["coalesced"]
        page.click("#drain")
        until(page, f"state.coalesced == {before + 1} && state.pending == 1")
        page.select_option("#staleness", "10")
        until(page, f"state.coalesced == {before + 100} && state.mode == 'ended'")


@needs_compiler
def test_a_barrier_is_taken_out_and_its_witness_has_two_columns(
    browser: Browser, tmp_path: Path
) -> None:
    with live(tmp_path, "lesson:7") as running:
        page = opened(browser, running.turn)
        axe = pytest.importorskip("axe_playwright_python.sync_playwright")
        page.select_option("#barrier", "release-last")
        page.click("#break")
        state = until(page, "state.breaking.steps && state.breaking.steps.length")
        assert "sees a slot before its bytes" in page.inner_text("#broken")
        rows = page.query_selector_all("#witness tbody tr")
        assert len(rows) == len(state["breaking"]["steps"])
        assert {thread for thread, _ in state["breaking"]["steps"]} == {0, 1}
        assert not page.is_enabled("#break")
        found = axe.Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        state = until(page, "state.breaking.stress")
        assert "after " in state["breaking"]["stress"]
        assert page.is_enabled("#break")


@needs_compiler
def test_what_runs_without_a_barrier_ends_with_the_program(
    browser: Browser, tmp_path: Path
) -> None:
    with live(tmp_path, "lesson:7") as running:
        page = opened(browser, running.turn)
        page.click("#break")
        until(page, "state.breaking.steps && state.breaking.busy")
        others = psutil.Process(running.process.pid).children(recursive=True)
        running.process.kill()
        assert psutil.wait_procs(others, timeout=LIMIT / 1000)[1] == []

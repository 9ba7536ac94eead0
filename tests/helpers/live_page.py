"""`coalesced live` and a browser in front of it."""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from helpers.warm import PROGRAM

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LIMIT = 60_000  # milliseconds; only a hang takes that long
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MISSING = [
    name
    for name in ("starlette", "uvicorn", "websockets", "playwright")
    if importlib.util.find_spec(name) is None
] + ([] if CHROMIUM else ["chromium"])


def needs_browser() -> pytest.MarkDecorator:
    """Skips the tests of a file where there is no browser to drive, or no server to show it."""
    return pytest.mark.skipif(bool(MISSING), reason=f"not on this machine: {', '.join(MISSING)}")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium with a profile of its own."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Live:
    """A running `coalesced live`: its address, and the one for looking only."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [PROGRAM, "live", *arguments, "--no-browser", "--json"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.turn, self.show = (self.process.stderr.readline().split()[-1] for _ in range(2))

    def processes(self) -> dict[str, psutil.Process]:
        """The server, and the guest process."""
        children = psutil.Process(self.process.pid).children()
        server = [one for one in children if "coalesced.tools.live.server" in one.cmdline()]
        (other,) = [one for one in children if one not in server]
        return {"server": server[0], "guest": other}

    def result(self) -> dict[str, Any]:
        """The JSON object of a command that ends by itself, and succeeds."""
        out, err = self.process.communicate(timeout=LIMIT / 1000)
        assert self.process.returncode == 0, err
        result: dict[str, Any] = json.loads(out)
        return result

    def close(self) -> None:
        """End it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@contextmanager
def live(folder: Path, *arguments: str) -> Iterator[Live]:
    """`coalesced live` with these arguments, ended at last."""
    running = Live(folder, *arguments)
    try:
        yield running
    finally:
        running.close()


def opened(browser: Browser, address: str, **options: Any) -> Page:
    """The page at an address, once it has shown a state."""
    page = browser.new_page(bypass_csp=True, **options)
    page.set_default_timeout(LIMIT)
    page.goto(address)
    page.wait_for_function("window.state")
    return page


def until(page: Page, condition: str) -> dict[str, Any]:
    """Wait until the page's `state` fulfils a condition; that state."""
    found: dict[str, Any] = page.wait_for_function(
        f"state && ({condition}) && JSON.stringify(state)"
    ).json_value()
    result: dict[str, Any] = json.loads(str(found))
    return result


def paused(page: Page, pending: int) -> dict[str, Any]:
    """Pause a guest that runs, and step on until so many writes wait in the ring; that state.

    The pause may come just behind an exit that has drained the ring.
    """
    page.click("#pause")
    state = until(page, "state.mode == 'paused'")
    while state["pending"] < pending:
        page.click("#step")
        state = until(page, f"state.mode == 'paused' && state.steps > {state['steps']}")
    return state


def read_rgba(png: Path) -> bytes:
    """The pixels of a picture."""
    from PIL import Image  # noqa: PLC0415

    return Image.open(png).convert("RGBA").tobytes()


def screen_equals(page: Page, png: Path) -> None:
    """Wait until the page's screen of 640 x 480 is the picture in a file."""
    page.wait_for_function(
        "wanted => { wanted = atob(wanted);"
        "return document.getElementById('screen').getContext('2d').getImageData(0, 0, 640, 480)"
        ".data.every((byte, at) => byte === wanted.charCodeAt(at)); }",
        arg=base64.b64encode(read_rgba(png)).decode(),
    )

"""Records the page, as a file that plays without a server."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import time
import zlib
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coalesced.tools.live.hub import Client, Hub

SECONDS: Final = 60
FRAME: Final = 0.1
"""Seconds between two recorded states."""
_PAGE: Final = Path(__file__).parent / "page"
_LENGTH: Final = struct.Struct("<I")


@dataclass
class Frame:
    """A state, the monotonic time at which it was shown, and the tiles that changed before it."""

    time: float
    head: dict[str, object]
    shape: tuple[int, int]
    tiles: dict[int, bytes]

    def take_over(self, earlier: Frame) -> None:
        """Take the tiles of a frame that is left out, unless the screen has another size since."""
        if earlier.shape == self.shape:
            self.tiles = {**earlier.tiles, **self.tiles}


class Recorder:
    """The frames of the last minute."""

    def __init__(self) -> None:
        self.frames: deque[Frame] = deque()

    async def run(self, hub: Hub) -> None:
        """Record until the VMM has ended."""
        with hub.watched() as client:
            while not hub.ended.is_set():
                news = asyncio.ensure_future(client.news.wait())
                ended = asyncio.ensure_future(hub.ended.wait())
                await asyncio.wait({news, ended}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                ended.cancel()
                self._take(hub, client)
                await asyncio.sleep(0 if hub.ended.is_set() else FRAME)
            self._take(hub, client)

    def _take(self, hub: Hub, client: Client) -> None:
        if not client.news.is_set():
            return
        client.news.clear()
        head, tiles = hub.news(client)
        if "mode" not in head:  # the VMM has not answered yet
            return
        head = {**head, "entries": hub.entries()}
        height, width = hub.picture.pixels.shape[:2]
        pixels = {number: hub.picture.tile(number) for number in tiles}
        self.add(Frame(time.monotonic(), head, (height, width), pixels))

    def add(self, frame: Frame) -> None:
        """Add a frame; those older than a minute are left out."""
        self.frames.append(frame)
        while self.frames[0].time < frame.time - SECONDS:
            oldest = self.frames.popleft()
            self.frames[0].take_over(oldest)

    def page(self) -> str:
        """The page, with the recording inside."""
        parts = []
        begin = self.frames[0].time if self.frames else 0.0
        for frame in self.frames:
            head = {**frame.head, "screen": _screen(frame)}
            text = json.dumps(head, separators=(",", ":")).encode()
            pixels = b"".join(frame.tiles[number] for number in sorted(frame.tiles))
            body = _LENGTH.pack(len(text)) + text + pixels
            parts.append(struct.pack("<II", round((frame.time - begin) * 1e3), len(body)) + body)
        return _inlined(base64.b64encode(zlib.compress(b"".join(parts), 9)).decode())


def _screen(frame: Frame) -> dict[str, object]:
    height, width = frame.shape
    return {"width": width, "height": height, "tiles": sorted(frame.tiles)}


def _inlined(recording: str) -> str:
    """The page with its parts in it: nothing is fetched."""
    icon = base64.b64encode((_PAGE / "icon.svg").read_bytes()).decode()
    script = '<script src="page.js" defer></script>'
    page = (_PAGE / "index.html").read_text()
    page = page.replace('href="icon.svg"', f'href="data:image/svg+xml;base64,{icon}"')
    style = f"<style>{(_PAGE / 'page.css').read_text()}</style>"
    page = page.replace('<link rel="stylesheet" href="page.css">', style)
    page = page.replace(f"{script}\n", "")
    data = f'<script type="text/plain" id="recording">{recording}</script>'
    code = f"<script>{(_PAGE / 'page.js').read_text()}</script>"
    return page.replace("</body>", f"{data}\n{code}\n</body>")

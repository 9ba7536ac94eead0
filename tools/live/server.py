"""The page's server, a process of its own: the VMM only answers it, and it only serves.

It ends with the VMM. An address begins with a secret word: one that may turn the knobs, or one
that only shows.
"""

from __future__ import annotations

import asyncio
import hmac
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from coalesced.tools.errors import BadInput
from coalesced.tools.live.hub import Hub
from coalesced.tools.live.link import Link
from coalesced.tools.live.record import Recorder
from coalesced.tools.live.timeline import perfetto
from coalesced.tools.traces.perfetto import available

PAGE: Final = Path(__file__).parent / "page"
TYPES: Final = {
    "": "index.html",
    "page.js": "page.js",
    "page.css": "page.css",
    "icon.svg": "icon.svg",
}
MEDIA: Final = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
ENDED: Final = 4001
"""The close code for a browser when the VMM has ended."""
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Doors:
    """The access rules: the hosts by which a browser may name this server, and the two words."""

    hosts: frozenset[str]
    turn: str
    show: str

    def turns(self, connection: HTTPConnection) -> bool | None:
        """Whether this connection may turn knobs; None: it may not even look.

        The Host is checked, so that no other name of this machine leads here; the Origin, so that
        no page of another site does.
        """
        word = connection.path_params["word"]
        host = connection.headers.get("host", "")
        origin = connection.headers.get("origin")
        if host not in self.hosts or (origin is not None and origin != f"http://{host}"):
            return None
        if hmac.compare_digest(word.encode(), self.turn.encode()):
            return True
        return False if hmac.compare_digest(word.encode(), self.show.encode()) else None


def application(hub: Hub, doors: Doors) -> Starlette:
    """The page, its parts, and the socket."""

    async def part(request: Request) -> Response:
        if doors.turns(request) is None:
            return PlainTextResponse("Not this address.\n", 403, HEADERS)
        asked = request.path_params.get("name", "")
        if asked == "trace":
            return Response(await hub.kept("trace"), 200, HEADERS, "text/plain")
        if asked == "perfetto":
            return await _perfetto(hub)
        name = TYPES.get(asked)
        if name is None:
            return PlainTextResponse("There is no such part.\n", 404, HEADERS)
        path = PAGE / name
        return Response(path.read_bytes(), 200, HEADERS, MEDIA[path.suffix])

    async def talk(browser: WebSocket) -> None:
        may_turn = doors.turns(browser)
        if may_turn is None or browser.headers.get("origin") is None:
            await browser.close(1008)
            return
        await browser.accept()
        code = ENDED
        try:
            await hub.serve(browser.send_bytes, may_turn, browser.receive_text)
        except WebSocketDisconnect:
            return
        except (ValueError, KeyError, TypeError, AttributeError):
            code = 1008  # a message that the page does not send
        with suppress(RuntimeError, WebSocketDisconnect):
            await browser.close(code)

    return Starlette(
        routes=[
            Route("/{word}/", part),
            Route("/{word}/{name}", part),
            WebSocketRoute("/{word}/socket", talk),
        ]
    )


async def _perfetto(hub: Hub) -> Response:
    try:
        available()
        content = await asyncio.to_thread(perfetto, await hub.kept("stamped"))
    except BadInput as error:
        return PlainTextResponse(f"{error}\n", 501, HEADERS)
    return Response(content, 200, HEADERS, "application/octet-stream")


async def serve(
    link: Link, listening: socket.socket, doors: Doors, record: str, barriers: list[str]
) -> None:
    """Serve until the VMM ends; `record`: the file that is then written, or empty."""
    hub = Hub(link, barriers)
    recorder = Recorder()
    recording = [asyncio.ensure_future(recorder.run(hub))] if record else []
    config = uvicorn.Config(
        application(hub, doors),
        log_level="critical",
        lifespan="off",
        ws_per_message_deflate=False,  # half of this process's time, to spare the loopback bytes
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    asking = asyncio.ensure_future(hub.run())
    serving = asyncio.ensure_future(server.serve(sockets=[listening]))
    await asyncio.wait({asking, serving}, return_when=asyncio.FIRST_COMPLETED)
    await hub.breaking.close()
    server.should_exit = True
    await asyncio.gather(serving, *recording)
    if record:
        Path(record).write_text(recorder.page())
    asking.cancel()


def main(arguments: list[str]) -> None:
    """`control memory listening hosts record barriers`; the words come on stdin."""
    control, memory, listening = map(int, arguments[:3])
    turn, show = sys.stdin.read().split()
    link = Link(socket.socket(fileno=control), memory)
    link.socket.setblocking(False)
    hosts, record, barriers = arguments[3:]
    doors = Doors(frozenset(hosts.split(",")), turn, show)
    heard = socket.socket(fileno=listening)
    asyncio.run(serve(link, heard, doors, record, barriers.split()))


if __name__ == "__main__":
    main(sys.argv[1:])

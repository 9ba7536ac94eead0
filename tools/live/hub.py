"""Queries the VMM as often as it may, and sends every browser the changes."""

from __future__ import annotations

import asyncio
import json
import os
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from coalesced.tools.live.breaking import Breaking
from coalesced.tools.live.knobs import checked
from coalesced.tools.live.link import RING_BYTES, Closed, Link, Message
from coalesced.tools.live.view import Load, Picture, Rates, Ring, picture_of, rings_of

FRAME: Final = 1 / 30
"""Seconds between two looks at the machine."""
BUSY_FRAME: Final = 1 / 10
"""The same while its guest makes more than BUSY_EXITS a second: on a machine of two CPUs each look
takes time from it, and its screen is drawn more seldom anyway."""
BUSY_EXITS: Final = 1000
SHARE: Final = 0.01
"""Largest share of the VMM's time that looking at the screen of a running guest may take; the
same holds for the list of the hottest registers."""
RECORDED: Final = 340
"""Queued entries that a recording has, of each state."""
Send = Callable[[bytes], Awaitable[None]]
Receive = Callable[[], Awaitable[str]]


class Client:
    """A browser, and the news that it has not been sent yet."""

    def __init__(self, may_turn: bool, tiles: int) -> None:
        self.may_turn = may_turn
        self.tiles = set(range(tiles))
        self.slot: int | None = None  # the one that it wants to have decoded
        self.ring = 0  # of it: 0 is the VM's
        self.news = asyncio.Event()
        self.news.set()


class Hub:
    """The server's state."""

    def __init__(self, link: Link, barriers: Sequence[str] = ()) -> None:
        """`barriers`: those that can be taken out."""
        self._link = link
        self.breaking = Breaking(barriers, self._tell)
        self._clients: set[Client] = set()
        self.picture = Picture()
        """The screen as it was seen last."""
        self._rings = [Ring()]  # the VM's, then own ones
        self._rates = Rates()
        self._load = Load()
        self._asked: deque[Message] = deque()
        self._kept: deque[tuple[str, asyncio.Future[bytes]]] = deque()
        self._state: Message = {}
        self._hottest: list[Any] = []
        self._cpu: dict[str, float | None] = {}
        self._names: dict[str, str] = {}
        self._next = {"screen": 0.0, "hottest": 0.0}
        self._frame = FRAME
        self._wake = asyncio.Event()
        self.ended = asyncio.Event()
        """Set when the VMM has ended."""

    # --- browsers ---

    async def serve(
        self, send: Send, may_turn: bool, receive: Callable[[], Awaitable[str]]
    ) -> None:
        """Serve a browser until it leaves; raises what `send` and `receive` raise."""
        with self.watched(may_turn) as client:
            reader = asyncio.ensure_future(self._read(client, receive))
            writer = asyncio.ensure_future(self._write(client, send))
            ended = asyncio.ensure_future(self.ended.wait())
            try:
                done, _ = await asyncio.wait(
                    {reader, writer, ended}, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    task.result()
            finally:
                for task in (reader, writer, ended):
                    task.cancel()

    @contextmanager
    def watched(self, may_turn: bool = False) -> Iterator[Client]:
        """Query the VMM meanwhile; the client's `news` is set when there is some."""
        client = Client(may_turn, self.picture.tiles)
        self._clients.add(client)
        self._wake.set()
        try:
            yield client
        finally:
            self._clients.discard(client)

    async def kept(self, form: str) -> bytes:
        """The accesses of the last minute, as far as they were kept, as `trace` or `stamped`."""
        wanted: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._kept.append((form, wanted))
        self._wake.set()
        return await wanted

    async def _read(self, client: Client, receive: Receive) -> None:
        while True:
            self._take(client, json.loads(await receive()))

    def _take(self, client: Client, message: Message) -> None:
        """A browser's message. Raises ValueError for one that cannot be."""
        if message.get("do") == "look":
            slot, ring = message.get("slot"), message.get("ring")
            client.slot = slot if isinstance(slot, int) else None
            client.ring = ring if isinstance(ring, int) else 0
            return
        if not client.may_turn:
            raise ValueError("this address is read-only")
        if message["do"] == "break":
            self.breaking.start(message["barrier"])
            return
        self._asked.append(checked(message))
        self._wake.set()

    async def _write(self, client: Client, send: Send) -> None:
        """Send news as fast as the browser takes them; what it misses meanwhile becomes one."""
        while True:
            await client.news.wait()
            client.news.clear()
            head, tiles = self.news(client)
            if self._state:
                text = json.dumps(head).encode()
                pixels = b"".join(self.picture.tile(number) for number in tiles)
                await send(struct.pack("<I", len(text)) + text + pixels)

    def news(self, client: Client) -> tuple[Message, list[int]]:
        """The state for a client, and the tiles that it has not been given; now it has."""
        tiles, client.tiles = sorted(client.tiles), set()
        height, width = self.picture.pixels.shape[:2]
        head = {
            **self._state,
            "may_turn": client.may_turn,
            "minute": list(self._rates.seconds),
            "hottest": self._hottest,
            "cpu": self._cpu,
            "screen": {"width": width, "height": height, "tiles": tiles},
            "breaking": self.breaking.shown,
            "slot": self._decoded(client),
        }
        return head, tiles

    def entries(self) -> list[list[list[int]]]:
        """Of each ring address, size, port or not, and value of the first queued entries, one
        circle at most."""
        return [[list(entry) for entry in ring.entries[:RECORDED].tolist()] for ring in self._rings]

    def _wanted(self, client: Client) -> tuple[Ring, int] | None:
        """The ring that a browser looks at and the number of the entry there; None: none."""
        if client.slot is None or not 0 <= client.ring < len(self._rings):
            return None
        ring = self._rings[client.ring]
        number = ring.entry_in(client.slot)
        return None if number is None else (ring, number)

    def _decoded(self, client: Client) -> Message | None:
        slot, wanted = client.slot, self._wanted(client)
        if slot is None or wanted is None:
            return None if slot is None else {"slot": slot}
        ring, number = wanted
        address, size, pio, value = ring.entries[number].tolist()
        name = self._names.get(f"{pio}:{address}", "")
        age = round(ring.age(number), 2)
        return {
            "slot": slot,
            "name": name,
            "address": f"{address:#x}",
            "size": size,
            "value": f"{value:#x}",
            "age": age,
        }

    # --- the VMM ---

    async def run(self) -> None:
        """Ask the VMM while browsers watch; ends with the VMM."""
        try:
            while True:
                if not self._clients and not self._asked and not self._kept:
                    self._wake.clear()
                    await self._idle()
                began = time.monotonic()
                await self._ask()
                await asyncio.sleep(max(0.0, began + self._frame - time.monotonic()))
        except Closed:
            self.ended.set()

    async def _idle(self) -> None:
        """Wait for a browser; raises Closed when the VMM ends meanwhile."""
        answer = asyncio.ensure_future(self._receive())
        woken = asyncio.ensure_future(self._wake.wait())
        await asyncio.wait({answer, woken}, return_when=asyncio.FIRST_COMPLETED)
        answer.cancel()
        woken.cancel()
        for got in await asyncio.gather(answer, woken, return_exceptions=True):
            if isinstance(got, Closed):
                raise got

    async def _ask(self) -> None:
        while self._asked:
            self._link.send(self._asked.popleft())
        while self._kept:
            form, future = self._kept.popleft()
            self._link.send({"do": form})
            count = (await self._receive())["bytes"]
            if not future.done():
                future.set_result(self._link.memory[RING_BYTES : RING_BYTES + count])
        now = time.monotonic()
        wanted = {what: now >= due for what, due in self._next.items()}
        addresses = self._unnamed()
        self._link.send({"do": "sample", **wanted, "names": addresses})
        answer = await self._receive()
        for (port, address), name in zip(addresses, answer.pop("names"), strict=True):
            self._names[f"{int(port)}:{address}"] = name
        self._note(answer, now, wanted)

    def _note(self, answer: Message, now: float, wanted: dict[str, bool]) -> None:
        """Take an answer, and let the browsers know."""
        if (shape := answer.pop("screen", None)) is not None:
            changed = self.picture.show(picture_of(self._link, *shape))
            for client in self._clients:
                client.tiles |= changed
        if wanted["hottest"]:
            self._hottest = answer.pop("hottest")
            self._cpu = {
                "hv": self._load.of(answer["pid"]),
                "vmm": self._load.of(os.getppid()),
                "page": self._rates.cost,
            }
        self._rates.note(answer)
        busy = answer["mode"] == "running"
        cost = answer.pop("took")
        for what, least in (("screen", FRAME), ("hottest", 1.0)):
            if wanted[what]:
                self._next[what] = now + max(least * 0.9, cost / SHARE if busy else 0.0)
        self._frame = pause(self._state, answer)
        self._rings = rings_of(self._link, answer, self._rings)
        self._state = answer
        self._tell()

    def _tell(self) -> None:
        for client in self._clients:
            client.news.set()

    def _unnamed(self) -> list[tuple[bool, int]]:
        """Addresses in slots that a browser looks at, and whose register is not known yet."""
        found = set()
        for client in self._clients:
            wanted = self._wanted(client)
            if wanted is not None:
                ring, number = wanted
                address, _, pio, _ = ring.entries[number].tolist()
                found.add((bool(pio), address))
        return sorted(found)

    async def _receive(self) -> Message:
        while (message := self._link.receive()) is None:
            ready = asyncio.Event()
            loop, fd = asyncio.get_running_loop(), self._link.socket.fileno()
            loop.add_reader(fd, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(fd)
        return message


def pause(before: Message, now: Message) -> float:
    """Seconds until the next look at the VMM, by its last two answers; `before`: maybe empty."""
    passed = now["time"] - before.get("time", now["time"])
    exits = now["exits"] - before.get("exits", 0)
    return BUSY_FRAME if exits > BUSY_EXITS * passed > 0 else FRAME

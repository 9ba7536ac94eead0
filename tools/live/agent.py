"""The VMM's part of the page: answers the server's questions, and turns its knobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from heapq import nlargest
from typing import Final

import numpy as np

from coalesced.devices.bus.address_space import AddressSpace
from coalesced.hv.abi import KVM_COALESCED_MMIO
from coalesced.tools.live.exit_pace import ExitPace
from coalesced.tools.live.keep import Keep
from coalesced.tools.live.link import RING_BYTES, SCREEN_BYTES, Closed, Link, Message
from coalesced.tools.live.pace import Pace
from coalesced.tools.live.telling import Telling
from coalesced.tools.runs.options import RunOptions, Wait
from coalesced.tools.runs.story import place
from coalesced.vmm.board import Board
from coalesced.vmm.machine import Machine
from coalesced.vmm.zone import Zone

_ENTRIES: Final = RING_BYTES // KVM_COALESCED_MMIO.itemsize
_HOTTEST: Final = 8


class Agent:
    """Serves one machine's page. Looking at a machine changes nothing: no queue is drained."""

    def __init__(
        self,
        link: Link,
        machine: Machine,
        board: Board,
        name: str,
        options: RunOptions,
        price: float,
        pace: Pace | ExitPace,
    ) -> None:
        """`price`: seconds that an exit costs."""
        self._options = options
        self._price = price
        self._link = link
        self._machine = machine
        self._board = board
        self._name = name
        self._slots = machine.accel.ring.core.slots if machine.accel.ring is not None else 1
        self._regions = Regions(machine)
        self._end = ""
        self._end_shown = False
        self._frame = 0
        self._spent = 0.0  # seconds of CPU time that answers took
        self.pace = pace
        self.telling = Telling(machine)
        self._keep = Keep(machine)
        self.pace.on_step = self.telling.step
        self.task = ""
        """The task that the page gives its user."""
        self.is_left = False
        """Whether the page has asked for the end of this run."""
        self.again: RunOptions | None = None
        """The options of the next run, if it has asked for one."""
        self.is_watched = True
        """Whether the server still runs."""
        self._do: dict[str, Callable[[Message], None]] = {
            "sample": self._sample,
            "run": lambda _m: self.start(),
            "pause": lambda _m: self._hold(None),
            "step": self._step,
            "speed": lambda m: self._hold(float(m["rate"])),
            "coalesce": self._coalesce,
            "staleness": lambda m: self._set_staleness(m["ms"]),
            "drain": lambda _m: self._drain(),
            "key": lambda m: board.i8042.keyboard.send(m["codes"]),
            "keep": lambda m: self._keep.turn(m["on"]),
            "trace": lambda _m: self._give(self._keep.trace()),
            "stamped": lambda _m: self._give(self._keep.stamped()),
            "quit": lambda _m: self._leave(None),
            "again": lambda m: self._leave(
                replace(self._options, ring_pages=m["pages"], wait=Wait(m["wait"]))
            ),
        }
        machine.loop.add_reader(link.socket.fileno(), self._serve)

    def start(self, rate: int | None = None) -> None:
        """Let the guest run, at full speed or at a rate of accesses a second."""
        if rate is not None:
            self.pace.hold(rate)
            return
        self.telling.stop()
        self.pace.run()

    def linger(self, once: bool, end: str) -> None:
        """The guest has ended: show that, once or until the page asks for something else."""
        self._end = end
        while self.is_watched and not self.is_left and not (once and self._end_shown):
            self._machine.loop.wait(None)

    def close(self) -> None:
        """Give everything back, after the machine was closed."""
        self.pace.close()

    def _serve(self) -> None:
        try:
            while (message := self._link.receive()) is not None:
                self._do[message["do"]](message)
        except Closed:
            # The server has ended: the guest goes on without a page.
            self._machine.loop.remove_reader(self._link.socket.fileno())
            self.is_watched = False
            if not self._end:
                self.start()

    # --- knobs ---

    def _hold(self, rate: float | None) -> None:
        self.telling.start()
        self.pace.hold(rate)

    def _step(self, message: Message) -> None:
        self.telling.start()
        self.pace.step(int(message["count"]))

    def _coalesce(self, message: Message) -> None:
        self._regions.queue(message["region"], bool(message["on"]))

    def _set_staleness(self, milliseconds: int | None) -> None:
        seconds = None if milliseconds is None else milliseconds / 1000
        self._options = replace(self._options, staleness=seconds)
        self._machine.set_staleness(seconds)

    def _drain(self) -> None:
        self._machine.flush()

    def _leave(self, again: RunOptions | None) -> None:
        self.is_left, self.again = True, again
        if not self._end:
            self._machine.stop()
            self.start()

    # --- answers ---

    def _sample(self, asked: Message) -> None:
        """Answer with the state, and with whatever else was asked for."""
        started = time.thread_time()
        answer = self._state()
        if asked.get("screen"):
            answer["screen"] = self._screen()
        if asked.get("hottest"):
            answer["hottest"] = self._hottest()
        if (names := asked.get("names")) is not None:
            answer["names"] = [self._name_of(port, address) for port, address in names]
        answer["took"] = time.thread_time() - started
        self._spent += answer["took"]
        self._link.send(answer)
        self._end_shown = bool(self._end) and "screen" in answer

    def _state(self) -> Message:
        machine, counters = self._machine, self._machine.counters
        self.telling.step()  # the guest may go on without an access that waits
        exits_by = counters.exits_by
        return {
            "name": self._name,
            "task": self.task,
            "end": self._end,
            "mode": self._mode(),
            "rate": self.pace.rate,
            "steps": self.pace.taken,
            "step": "exit" if self._machine.executes_code else "access",
            "writes": counters.writes,
            "coalesced": counters.coalesced,
            "saved": round(counters.coalesced * self._price, 6),
            "price": self._price,
            "stale_drains": counters.stale_drains,
            "staleness": _milliseconds(self._options.staleness),
            "exits": sum(exits_by.values()),
            "exits_by": dict(exits_by),
            "failed": counters.failed_writes,
            "pid": machine.accel.pid,
            "slots": self._slots,
            **self._queued(),
            "regions": self._regions.shown(),
            "told": self.telling.lines(),
            "pages": self._options.ring_pages,
            "wait": str(self._options.wait),
            "kept": self._keep.on,
            "time": time.monotonic(),
            "spent": self._spent,
            "keyboard": self._board.i8042.keyboard.turned_on,
        }

    def _mode(self) -> str:
        if self._end:
            return "ended"
        if self.pace.free:
            return "running"
        if self.pace.rate is not None:
            return "slow"
        return "paused" if self.pace.waiting else "pausing"

    def _queued(self) -> Message:
        """Put the entries of all rings into the shared memory, as many as have room; of each ring
        their number and that of the writes which went before them, of own ones in `own`."""
        at, found = 0, []
        for queue in self._machine.queues:
            size = 0
            if queue.ring.pending():
                entries = queue.look()[: _ENTRIES - at // KVM_COALESCED_MMIO.itemsize]
                size = entries.nbytes
                self._link.memory[at : at + size] = entries.tobytes()
            at += size
            count = size // KVM_COALESCED_MMIO.itemsize
            found.append({"name": queue.name, "pending": count, "first": queue.coalesced})
        common, *own = found or [{"pending": 0, "first": 0}]
        return {"pending": common["pending"], "first": common["first"], "own": own}

    def _screen(self) -> list[int] | None:
        """Put the picture into the shared memory; its height and width."""
        if not self._board.displays:
            return None
        picture = np.ascontiguousarray(self._board.displays[0].render(self._frame))
        self._frame += 1
        if picture.nbytes > SCREEN_BYTES:
            return None
        self._link.memory[RING_BYTES : RING_BYTES + picture.nbytes] = picture.tobytes()
        return [picture.shape[0], picture.shape[1]]

    def _hottest(self) -> list[list[object]]:
        found = [
            (exits, port, address)
            for (_, port), at in self._machine.counters.exits_at.items()
            for address, exits in nlargest(_HOTTEST, at.items(), key=lambda item: item[1])
        ]
        return [
            [self._name_of(port, address), exits]
            for exits, port, address in nlargest(_HOTTEST, found)
        ]

    def _give(self, lines: bytes) -> None:
        self._link.memory[RING_BYTES : RING_BYTES + len(lines)] = lines
        self._link.send({"bytes": len(lines)})

    def _name_of(self, port: bool, address: int) -> str:
        return place(self._space(port), address)

    def _space(self, port: bool) -> AddressSpace:
        return self._machine.ports if port else self._machine.memory


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


class Regions:
    """The regions whose writes can be queued, and whether they are."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._chosen = machine.coalescing.choice
        self._off: set[str] = set()
        self._shown: list[Message] = []
        self._until = 0.0
        if not self._chosen.declared:
            self._off = {name for name, _ in self._declared()}
            self._chosen = replace(self._chosen, declared=True)

    def queue(self, name: str, on: bool) -> None:
        """Queue the writes to a region, or let them exit, from now on."""
        (self._off.discard if on else self._off.add)(name)
        removed = [zone for other, zone in self._declared() if other in self._off]
        choice = replace(self._chosen, removed=(*self._chosen.removed, *removed))
        self._machine.coalescing.choose(choice)
        self._until = 0.0

    def shown(self) -> list[Message]:
        """The regions as the page shows them, at most half a second old."""
        now = time.monotonic()
        if now >= self._until:
            self._shown, self._until = self._look(), now + 0.5
        return self._shown

    def _look(self) -> list[Message]:
        found: dict[str, Message] = {}
        for name, zone in self._declared():
            region = {"name": name, "on": name not in self._off, "zones": []}
            found.setdefault(name, region)["zones"].append([zone.address, zone.size, zone.pio])
        return list(found.values())

    def _declared(self) -> Sequence[tuple[str, Zone]]:
        machine = self._machine
        return [
            (flat.mapping.region.name, Zone(port, start, min(flat.end, end) - start))
            for port, space in ((False, machine.memory), (True, machine.ports))
            for flat in space.flat()
            if flat.mapping is not None
            for offset, size in (*flat.mapping.region.coalesced, *flat.mapping.region.posted)
            for start, end in [
                (max(flat.start, flat.mapping.base + offset), flat.mapping.base + offset + size)
            ]
            if start < min(flat.end, end)
        ]

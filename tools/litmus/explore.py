"""Every execution of a small program of two threads under a memory model.

A state is the memory and, of each thread, where it stands and which of its accesses it has
overtaken. A thread that takes a later access first makes only the choices on the way to it; so each
state has one form. Each step is one access that takes place. No state can come again, because the
threads have no loop that changes nothing: states and steps form a graph without a circle, in which
the executions are the paths from the start to an end, and can be counted without being walked one
by one.
"""

from __future__ import annotations

import itertools
from typing import Any, Generic, NamedTuple

from coalesced.tools.litmus import models
from coalesced.tools.litmus.access import ANY, FENCE, Access, Position, Program, Thread

_BITS = 4  # of a value in memory
STATES_MAX = 10_000_000  # some gigabytes


class TooManyStates(Exception):
    """The program has too many states."""


class Event(NamedTuple):
    """One access that took place."""

    thread: int  # 0 or 1
    access: Access
    found: int  # of a load: its value
    buffered: bool  # the load found its own thread's store, which was not in memory yet
    overtaken: tuple[Access, ...]  # what the thread's program has before it, still to come


class Result(NamedTuple):
    """The executions of a program under a model.

    An execution is a sequence of accesses in the order in which they take place; two that differ in
    it are two. It ends when both threads are done, or with the first thing that is wrong.
    """

    states: int
    executions: int
    illegal: int  # executions that end with something wrong
    wrong: str | None  # what is wrong at the end of a shortest of these
    witness: tuple[Event, ...]  # that execution


class _Step(NamedTuple):
    """An access that a thread can do next, if memory has the value it needs."""

    store: bool
    shift: int  # where its place is in the packed memory
    value: int
    values: int
    legal: int | None
    found: int | None  # by forwarding
    after: int  # the thread's state then
    access: Access
    overtaken: tuple[Access, ...]
    chosen: bool  # it brings no new choice: something later has taken place already


class _Side(Generic[Position]):
    """The states of one thread under a model, numbered as they come up."""

    def __init__(self, thread: Thread[Position], model: str) -> None:
        self.thread = thread
        self.model = model
        self.steps: list[tuple[_Step, ...] | None] = []
        self.guessing: list[bool] = []  # it has run on a guess that is still open
        self.ended: list[bool] = []
        self._known: dict[tuple[Position, tuple[Access, ...]], int] = {}
        self._states: list[tuple[Position, tuple[Access, ...]]] = []

    def number(self, position: Position, waiting: tuple[Access, ...]) -> int:
        key = (position, waiting)
        number = self._known.get(key)
        if number is None:
            number = self._known[key] = len(self._states)
            self._states.append(key)
            self.steps.append(None)
            self.guessing.append(any(access.guess for access in waiting))
            self.ended.append(not waiting and not self.thread.ahead(position))
        return number

    def next_steps(self, number: int) -> tuple[_Step, ...]:
        steps = self.steps[number]
        if steps is None:
            position, waiting = self._states[number]
            found: list[_Step] = []
            for i, access in enumerate(waiting):
                self._take(found, position, waiting[:i], access, waiting[i + 1 :], chosen=True)
            self._look_ahead(found, position, waiting)
            steps = self.steps[number] = tuple(found)
        return steps

    def _look_ahead(
        self, found: list[_Step], position: Position, waiting: tuple[Access, ...]
    ) -> None:
        for access, after in self.thread.ahead(position):
            if access is None or (access == FENCE and not waiting):
                self._look_ahead(found, after, waiting)
            elif access != FENCE:
                self._take(found, after, waiting, access, (), chosen=False)
                if self._passable(access):
                    self._look_ahead(found, after, (*waiting, access))

    def _passable(self, access: Access) -> bool:
        """Whether any access can overtake it."""
        if self.model == "sc" or access.order == "acquire" or access.call:
            return False
        return self.model != "tso" or access.kind == "store"

    def _take(
        self,
        found: list[_Step],
        position: Position,
        before: tuple[Access, ...],
        access: Access,
        behind: tuple[Access, ...],
        *,
        chosen: bool,
    ) -> None:
        if not models.overtakes(self.model, access, before):
            return
        value = models.forwarded(access, before)
        if value is not None and access.guess and not access.values >> value & 1:
            return
        after = self.number(position, before + behind)
        found.append(
            _Step(
                access.kind == "store",
                access.place * _BITS,
                access.value,
                access.values,
                access.legal,
                value,
                after,
                access,
                before,
                chosen,
            )
        )


_State = tuple[int, int, int, str]  # either thread's state, memory, and what went wrong


class _Search:
    """Breadth first, so that the first illegal end has a shortest way."""

    def __init__(self, program: Program, model: str, most: int) -> None:
        self.program = program
        self._most = most
        self.sides: list[_Side[Any]] = [_Side(thread, model) for thread in program.threads]
        memory = sum(value << i * _BITS for i, value in enumerate(program.memory))
        a, b = (side.number(side.thread.start, ()) for side in self.sides)
        start = (a, b, memory, "")
        self.numbers: dict[_State, int] = {start: 0}
        self.states = [start]
        self.parents = [-1]
        self.next: list[list[int]] = []
        self.ends: dict[int, str] = {}  # state: "", or what is wrong in it

    def run(self) -> Result:
        i = 0
        while i < len(self.states):
            state = self.states[i]
            wrong = self._end(state)
            followers: list[int] = []
            if wrong is None:
                followers = self._followers(i, state)
                if not followers and not self._guessing(state):
                    wrong = self.program.stuck
            if wrong is not None:
                self.ends[i] = wrong
            self.next.append(followers)
            i += 1
            if len(self.states) > self._most:
                raise TooManyStates
        bad = [i for i, wrong in self.ends.items() if wrong]
        legal, illegal = self._count()
        return Result(
            states=len(self.states),
            executions=legal + illegal,
            illegal=illegal,
            wrong=self.ends[bad[0]] if bad else None,
            witness=self._way(bad[0]) if bad else (),
        )

    def _guessing(self, state: _State) -> bool:
        return self.sides[0].guessing[state[0]] or self.sides[1].guessing[state[1]]

    def _end(self, state: _State) -> str | None:
        if state[3]:  # it counts when every guess that led to it has come true
            return None if self._guessing(state) else state[3]
        done = self.sides[0].ended[state[0]] and self.sides[1].ended[state[1]]
        return "" if done else None

    def _followers(self, number: int, state: _State) -> list[int]:
        followers = []
        for thread, step in self._steps(state):
            after = _apply(state, thread, step)
            if after is None:
                continue
            known = self.numbers.get(after)
            if known is None:
                known = self.numbers[after] = len(self.states)
                self.states.append(after)
                self.parents.append(number)
            followers.append(known)
        return followers

    def _steps(self, state: _State) -> list[tuple[int, _Step]]:
        steps = [
            (thread, step)
            for thread in (0, 1)
            for step in self.sides[thread].next_steps(state[1] if thread else state[0])
        ]
        if state[3]:
            # What a load finds on which nothing depends no longer matters: it need not be early,
            # and one that is late already may come at once.
            plain = [s for s in steps if not s[1].store and s[1].values == ANY]
            late = next((s for s in plain if s[1].chosen), None)
            if late:
                return [late]
            return [s for s in steps if s not in plain or not s[1].overtaken]
        return steps

    def _count(self) -> tuple[int, int]:
        """The number of ways to a legal and to an illegal end."""
        before = [0] * len(self.states)
        for followers in self.next:
            for follower in followers:
                before[follower] += 1
        ways = [0] * len(self.states)
        ways[0] = 1
        ready = [0]
        counts = {True: 0, False: 0}
        while ready:
            i = ready.pop()
            if i in self.ends:
                counts[self.ends[i] == ""] += ways[i]
            for follower in self.next[i]:
                ways[follower] += ways[i]
                before[follower] -= 1
                if before[follower] == 0:
                    ready.append(follower)
        if any(before):
            raise AssertionError("a thread's program has a loop that changes nothing")
        return counts[True], counts[False]

    def _way(self, end: int) -> tuple[Event, ...]:
        way = [end]
        while self.parents[way[-1]] >= 0:
            way.append(self.parents[way[-1]])
        way.reverse()
        return tuple(
            self._event(self.states[a], self.states[b]) for a, b in itertools.pairwise(way)
        )

    def _event(self, before: _State, after: _State) -> Event:
        for thread in (0, 1):
            for step in self.sides[thread].next_steps(before[1] if thread else before[0]):
                if _apply(before, thread, step) == after:
                    found = _find(before[2], step)
                    buffered = step.found is not None
                    return Event(thread, step.access, found, buffered, step.overtaken)
        raise AssertionError("no step leads there")


def _find(memory: int, step: _Step) -> int:
    return step.found if step.found is not None else memory >> step.shift & ((1 << _BITS) - 1)


def _apply(state: _State, thread: int, step: _Step) -> _State | None:
    """The state after the step, or None: memory does not have what it needs."""
    a, b, memory, wrong = state
    if step.store:
        if step.access.wrong:
            wrong = wrong or step.access.wrong
        else:
            memory = memory & ~(15 << step.shift) | step.value << step.shift
    else:
        value = _find(memory, step)
        if step.values != ANY and not step.values >> value & 1:
            return None
        if step.legal is not None and value != step.legal:
            wrong = wrong or step.access.wrong
    return (step.after, b, memory, wrong) if thread == 0 else (a, step.after, memory, wrong)


def explore(program: Program, model: str, most: int = STATES_MAX) -> Result:
    """Every execution of the program under the model. Raises TooManyStates above `most`."""
    return _Search(program, model, most).run()

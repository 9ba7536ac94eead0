"""What is left of a pair by those that have its machine, or its processes, next."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from coalesced.hv.client import Vm
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import HostError, PeerDied, ProtocolError
from coalesced.tools.stress import bodies, intrusions, worker
from coalesced.tools.stress.bodies import Body, PlayedGuest
from coalesced.tools.stress.lies import Lie
from coalesced.tools.stress.pair import Pair, Warm
from coalesced.tools.stress.plan import Pins, Plan
from coalesced.tools.stress.setups import Setup
from helpers.hv_guests import ENDLESS, writer
from helpers.hv_processes import within
from helpers.own_streams import own_streams


@contextmanager
def played() -> Iterator[tuple[Vm, PlayedGuest, socket.socket]]:
    """A VM whose guest process is played, and the end of the control socket that writes to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with own_streams(), theirs:
        body = Body()
        process = PlayedGuest(body, ours, theirs, None)
        vm = Vm(process, 1, WaitPolicy.BLOCK)
        try:
            yield vm, process, theirs
        finally:
            vm.close()
            if process.body is not None:
                process.body.close()


def test_a_reply_that_was_not_taken_is_not_awaited_by_the_next_guest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third party's message came in its place, and the socket was emptied afterwards."""
    name = writer(tmp_path)(ENDLESS)
    monkeypatch.setattr(bodies, "GRACE_MS", 20_000)
    with within(20), played() as (vm, process, theirs):
        vcpu = vm.create_vcpu()
        vm.load_guest(name)
        vcpu.enter()
        theirs.send(b"short")
        with pytest.raises(ProtocolError, match="expected a whole message"):
            vm.statistics()
        process.end()
        assert process.status == 0
        intrusions.clear((process.socket.fileno(), theirs.fileno()))  # the request, or its reply
        vcpu.mapping.write(0, bytes(len(vcpu.mapping)))
        for policy in (WaitPolicy.POLL, WaitPolicy.BLOCK):
            process.restart(policy)
            vm.restart(policy)
            vm.load_guest(name)
            vcpu.enter()
            assert vm.statistics().exits == 0
            process.end()
            vcpu.mapping.write(0, bytes(len(vcpu.mapping)))


def test_the_end_of_a_body_is_seen_by_a_descriptor_that_stays_its_own() -> None:
    """Another file may get the number of the channel."""
    with within(20), played() as (vm, process, _):
        assert process.body is not None
        os.kill(process.body.pid, signal.SIGKILL)
        with pytest.raises(PeerDied, match="killed by SIGKILL"):
            vm.statistics()
        others = [os.dup(0) for _ in range(4)]
        assert process.pidfd not in others
        assert not process.is_alive()
        for fd in others:
            os.close(fd)


def test_a_pair_that_found_no_cpus_leaves_its_end_to_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What its guest process ends with is not taken for the end of the next one."""
    placed: list[int] = []

    def place(_setup: Setup, guest: int) -> None:
        placed.append(guest)
        if len(placed) == 1:
            raise HostError("no such CPU")

    monkeypatch.setattr(worker, "_place", place)
    plan = Plan(1, Pins())
    with closing(Warm()) as warm:
        for ready in (False, True):
            with own_streams(), closing(Pair(plan.short(strict=False), warm)) as pair:
                assert pair.wait("ready") == ready, (pair.last, pair.errors())
                assert pair.last.get("type") == (None if ready else "HostError")


def test_what_channels_hold_is_taken_out_behind_a_message_of_no_bytes() -> None:
    """A receiver takes it for the end of the socket, and the next pair would read what follows."""
    pipes = [*os.pipe(), *os.pipe()]
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for fd in pipes[1], pipes[3]:
        os.write(fd, b"bytes")
    for end in pair:
        for message in (b"one", b"", b"two"):
            end.send(message)
    intrusions.clear((pipes[0], pipes[3], pair[0].fileno(), pair[1].fileno()))
    for fd in pipes[0], pipes[2]:
        os.set_blocking(fd, False)
        with pytest.raises(BlockingIOError):
            os.read(fd, 1)
    for end in pair:
        with pytest.raises(BlockingIOError):
            end.recv(1, socket.MSG_DONTWAIT)
    for fd in (*pipes, pair[0].detach(), pair[1].detach()):
        os.close(fd)


@pytest.mark.parametrize(
    ("number", "what"), [(0, "empty"), (3, "cut"), (7, "more descriptors"), (7, "number")]
)
def test_a_guest_process_that_waits_for_its_vmm_is_ended_without_its_body(
    number: int, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has lied, and nothing but a signal tells it that the VMM has found out."""
    monkeypatch.setattr(bodies, "GRACE_MS", 60_000)
    setup = replace(Plan(1, Pins()).short(strict=False), lie=Lie("hv", number, what, -12))
    with own_streams(), closing(Warm()) as warm, closing(Pair(setup, warm)) as pair:
        assert pair.wait("last", 30.0)
        assert pair.last["guest_status"] == 0

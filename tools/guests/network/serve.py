"""A guest that is a host on a network: it answers ARP, ping, UDP echo and iperf's UDP test."""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from coalesced.hv.vcpu import Vcpu
from coalesced.tools.guests.network import iperf_wire, memory
from coalesced.tools.guests.network.card import Card
from coalesced.tools.guests.network.iperf import Receiver, Sender
from coalesced.tools.guests.network.iperf_wire import Report, Summary
from coalesced.tools.guests.network.stack import Stack

_TESTS_KEPT: Final = 16
_NO_END: Final = 3600.0  # seconds of one wait


@dataclass(frozen=True)
class Answers:
    """The guest's answers so far, in frames, and the last iperf tests that it received."""

    arp: int
    icmp_echo: int
    udp_echo: int
    other: int  # not for the guest
    interrupts: int
    iperf: Sequence[Summary]

    @classmethod
    def read(cls, read: Callable[[int, int], bytes]) -> Answers | None:
        """The report of `serve`; None before the first. `read` reads RAM by address and size."""
        found = memory.read_report(read)
        if not found:
            return None
        return cls(**{**found, "iperf": [Summary(**test) for test in found["iperf"]]})


@dataclass(frozen=True)
class Sent:
    """The datagrams that `send` sent, and the server's report; None: none came."""

    sent: int
    seconds: float
    interrupts: int
    server: Summary | None

    @classmethod
    def read(cls, read: Callable[[int, int], bytes]) -> Sent:
        """The report of `send`. `read` reads RAM by address and size."""
        found = memory.read_report(read)
        server = found["server"]
        return cls(**{**found, "server": None if server is None else Summary(**server)})


def serve(vcpu: Vcpu, ip: str, seconds: float | None = None) -> None:
    """Be the host `ip` for `seconds`, None: without end; keep a report (`Answers`) in RAM.

    An answer is counted before it is sent, so that the count includes every received answer.
    """
    stack = Stack(Card(vcpu), ipaddress.IPv4Address(ip).packed)
    tests: list[Summary] = []

    def leave() -> None:
        answers = Answers(**stack.counters, interrupts=stack.card.interrupts, iperf=tests)
        memory.leave_report(vcpu, answers)

    def note(report: Report) -> None:
        tests.append(report.summary())
        del tests[:-_TESTS_KEPT]
        leave()

    stack.before_answers = leave
    Receiver(stack, note)
    end = math.inf if seconds is None else time.monotonic() + seconds
    leave()
    while (now := time.monotonic()) < end:
        stack.poll(min(end, now + _NO_END))
        if not stack.card.raised():
            leave()
    leave()


def send(
    vcpu: Vcpu,
    ip: str,
    host: str,
    port: int = iperf_wire.PORT,
    rate: float = 0.0,
    seconds: float = 10.0,
    count: int = 0,
    each: int | None = None,
) -> None:
    """Be `ip` and send to the iperf server of `host` (`iperf.Sender.run`); leave its report."""
    stack = Stack(Card(vcpu), ipaddress.IPv4Address(ip).packed)
    sender = Sender(stack, ipaddress.IPv4Address(host).packed, port, each=each)
    report = sender.run(rate, seconds, count)
    summary = None if report is None else report.summary()
    sent = Sent(sender.sent, sender.seconds, stack.card.interrupts, summary)
    memory.leave_report(vcpu, sent)

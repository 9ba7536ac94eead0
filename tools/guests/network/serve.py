"""A guest that is a host on a network: it answers ARP, ping, UDP echo and iperf's UDP test."""

from __future__ import annotations

import ipaddress
import math
import time
from typing import Final

from coalesced.hv.vcpu import Vcpu
from coalesced.tools.guests.network import iperf_wire, memory
from coalesced.tools.guests.network.card import Card
from coalesced.tools.guests.network.iperf import Receiver, Sender
from coalesced.tools.guests.network.iperf_wire import Report
from coalesced.tools.guests.network.stack import Stack

_REPORTS_KEPT: Final = 16
_NO_END: Final = 3600.0  # seconds of one wait


def serve(vcpu: Vcpu, ip: str, seconds: float | None = None) -> None:
    """Be the host `ip` for `seconds`, None: without end; a report is there all the time.

    It counts an answer before the answer leaves: whoever has got it finds it counted.
    """
    stack = Stack(Card(vcpu), ipaddress.IPv4Address(ip).packed)
    reports: list[dict[str, object]] = []

    def leave() -> None:
        memory.leave_report(vcpu, _report(stack, reports))

    def note(report: Report) -> None:
        reports.append(report.as_json())
        del reports[:-_REPORTS_KEPT]
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
    memory.leave_report(
        vcpu,
        {
            "sent": sender.sent,
            "seconds": sender.seconds,
            "interrupts": stack.card.interrupts,
            "server": None if report is None else report.as_json(),
        },
    )


def _report(stack: Stack, reports: list[dict[str, object]]) -> dict[str, object]:
    card = stack.card
    return {**stack.counters, "interrupts": card.interrupts, "iperf": reports}

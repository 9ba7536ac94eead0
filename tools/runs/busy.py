"""The CPU time that other processes take while something is measured."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from coalesced.tools.runs.proc import check_proc

TOO_BUSY = 0.15  # share of the CPUs from which on figures are worse than the machine's own


class Moment(NamedTuple):
    """Seconds so far: of all CPUs at work, of this process and the children that it reaped."""

    clock: float
    machine: float
    own: float

    @classmethod
    def now(cls) -> Moment:
        """Both as the kernel counts them."""
        times = os.times()
        own = times.user + times.system + times.children_user + times.children_system
        return cls(time.monotonic(), _busy_seconds(), own)

    def others_share(self) -> float:
        """The share of all CPUs that others have used since, 0 to 1; steal time is others'.

        Children count as others until they are reaped.
        """
        now = Moment.now()
        room = (now.clock - self.clock) * (os.cpu_count() or 1)
        others = (now.machine - self.machine) - (now.own - self.own)
        return min(1.0, max(0.0, others / room)) if room > 0 else 0.0


def remark(share: float) -> str:
    """The share in words, and that it is too much."""
    much = ": too busy for its figures" if share > TOO_BUSY else ""
    return f"{share:.0%}{much}"


def _busy_seconds() -> float:
    """Seconds that CPUs were not idle: the first line of /proc/stat without idle and iowait."""
    check_proc()
    with open("/proc/stat") as file:
        user, nice, system, _idle, _iowait, *rest = map(int, file.readline().split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")

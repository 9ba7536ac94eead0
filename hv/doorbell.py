"""Signalling of exits and resumes: the pipes and the policies of waiting on them."""

from __future__ import annotations

import enum
import os


class WaitPolicy(enum.IntEnum):
    """The wait policy of both sides (numbers of hv/core/exit.h)."""

    BLOCK = 0  # always write the pipe, always sleep on it
    ADAPTIVE = 1  # spin for a bounded, self-tuning time, then sleep
    POLL = 2  # never sleep; the VMM drains while the guest runs

    @classmethod
    def named(cls, name: str) -> WaitPolicy:
        """The policy of that name in lower case; raises KeyError."""
        return cls[name.upper()]


def effective(policy: WaitPolicy, vmm_cpus: set[int], hv_cpus: set[int]) -> WaitPolicy:
    """The policy that is in effect on the CPUs that the two sides may use.

    Where both share a single CPU, a spin only keeps the other from running: adaptive is block.
    """
    if policy is WaitPolicy.ADAPTIVE and len(vmm_cpus | hv_cpus) == 1:
        return WaitPolicy.BLOCK
    return policy


def pipe() -> tuple[int, int]:
    """(read end, write end), neither blocking nor inherited."""
    return os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

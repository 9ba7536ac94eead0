"""The proc file system, which shows what processes use."""

from __future__ import annotations

from pathlib import Path

from coalesced.hv.errors import HostError


def check_proc() -> None:
    """Raise HostError unless /proc, which shows what processes use, is mounted."""
    if not Path("/proc/self/stat").exists():
        raise HostError("/proc: expected the proc file system there: mount -t proc proc /proc")

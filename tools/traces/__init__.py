"""Recorded traces of real drivers, by short names."""

from __future__ import annotations

from pathlib import Path

RECORDED = {
    "boot": "linux-boot-vga.trace.gz",  # a PC's VGA from SeaBIOS to Linux
    "e1000": "linux-e1000-tcp.trace.gz",  # Linux's e1000 driver: probe, ping, 40 MiB of TCP
}


def find(name: str) -> Path:
    """The file of a trace: one of RECORDED by its short name, else a path."""
    path = Path(name)
    if name in RECORDED and (path.is_dir() or not path.exists()):  # a root folder has a `boot`
        return Path(__file__).parent / RECORDED[name]
    return path

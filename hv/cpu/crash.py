"""The report of a guest that crashed: its registers."""

from __future__ import annotations

from collections.abc import Mapping

_SHOWN = ("eip", "eflags", "eax", "ebx", "ecx", "edx", "esi", "edi", "esp", "ebp", "cs", "ss")


def describe(registers: Mapping[str, int]) -> str:
    """The registers by name, in one line."""
    return ", ".join(f"{name} {registers[name]:#x}" for name in _SHOWN if name in registers)

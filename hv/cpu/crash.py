"""The report of a guest that crashed: its registers and the instructions around."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, Final

BEFORE: Final = 8
"""Bytes that are shown before the instruction; where instructions begin there is not known."""
BEHIND: Final = 24
_INSTRUCTIONS: Final = 4
_SHOWN: Final = (
    "eip", "eflags", "eax", "ebx", "ecx", "edx", "esi", "edi", "esp", "ebp", "cs", "ss",
)  # fmt: skip

Read = Callable[[int, int], bytes | None]
"""Bytes at a linear address; None where there is no memory."""


def describe(registers: Mapping[str, int]) -> str:
    """The registers by name, in one line."""
    return ", ".join(f"{name} {registers[name]:#x}" for name in _SHOWN if name in registers)


def instructions(address: int, wide: bool, read: Read) -> str:
    """The code around a linear address, in one line: instructions where capstone is installed.

    `wide`: whether it is 32-bit code.
    """
    before = _readable(read, address, -BEFORE)
    behind = _readable(read, address, BEHIND)
    if not behind:
        return f"no memory at {address:#x}"
    found = _disassembled(behind, address, wide)
    shown = "; ".join(found) if found else f"bytes {behind.hex(' ')}"
    ahead = f", behind bytes {before.hex(' ')}" if before else ""
    return f"at {address:#x}: {shown}{ahead}"


def _readable(read: Read, address: int, size: int) -> bytes:
    """As many of the bytes from `address` on, or before it, as there are."""
    for count in range(abs(size), 0, -1):
        start = address if size > 0 else address - count
        if start >= 0 and (found := read(start, count)) is not None:
            return found
    return b""


def _disassembled(code: bytes, address: int, wide: bool) -> list[str]:
    """The first instructions; none without capstone, or if the first one is none."""
    if importlib.util.find_spec("capstone") is None:
        return []
    capstone: Any = importlib.import_module("capstone")
    mode = capstone.CS_MODE_32 if wide else capstone.CS_MODE_16
    decoder = capstone.Cs(capstone.CS_ARCH_X86, mode)
    found = decoder.disasm(code, address, _INSTRUCTIONS)
    return [f"{each.mnemonic} {each.op_str}".rstrip() for each in found]

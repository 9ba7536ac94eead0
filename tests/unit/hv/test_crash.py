"""The code around the place where a guest crashed."""

from __future__ import annotations

import importlib.util

import pytest

from coalesced.hv.cpu.crash import instructions

CODE = bytes.fromhex("b83412 cd20 f4")  # mov ax, 0x1234; int 0x20; hlt


def read(address: int, size: int) -> bytes | None:
    """CODE at 0x100, and nothing around."""
    start = address - 0x100
    return CODE[start : start + size] if 0 <= start <= len(CODE) - size else None


needs_capstone = pytest.mark.skipif(
    importlib.util.find_spec("capstone") is None, reason="capstone comes with the extra [cpu]"
)


@needs_capstone
def test_instructions_are_named_and_the_bytes_before_are_shown() -> None:
    found = instructions(0x103, wide=False, read=read)
    assert found == "at 0x103: int 0x20; hlt, behind bytes b8 34 12"


@needs_capstone
def test_32_bit_code_is_read_as_such() -> None:
    assert instructions(0x100, wide=True, read=read) == "at 0x100: mov eax, 0x20cd1234; hlt"


def test_without_capstone_the_bytes_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert (
        instructions(0x103, wide=False, read=read)
        == "at 0x103: bytes cd 20 f4, behind bytes b8 34 12"
    )


def test_where_there_is_no_memory_the_line_says_so() -> None:
    assert instructions(0x200, wide=False, read=read) == "no memory at 0x200"

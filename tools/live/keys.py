"""Keys of a browser, by the names of KeyboardEvent.code, as scan codes of set 1."""

from __future__ import annotations

from typing import Final

from coalesced.devices.ps2 import BREAK_SET_1

_ROWS: Final = (
    (0x02, [*(f"Digit{n}" for n in "1234567890"), "Minus", "Equal", "Backspace"]),
    (0x10, [*(f"Key{c}" for c in "QWERTYUIOP"), "BracketLeft", "BracketRight", "Enter"]),
    (0x1D, ["ControlLeft"]),
    (0x1E, [*(f"Key{c}" for c in "ASDFGHJKL"), "Semicolon", "Quote", "Backquote", "ShiftLeft"]),
    (0x2B, ["Backslash", *(f"Key{c}" for c in "ZXCVBNM"), "Comma", "Period", "Slash"]),
    (0x36, ["ShiftRight"]),
    (0x38, ["AltLeft", "Space", "CapsLock", *(f"F{n}" for n in range(1, 11))]),
    (0x01, ["Escape"]),
)
_EXTENDED: Final = {
    "ArrowUp": 0x48,
    "ArrowLeft": 0x4B,
    "ArrowRight": 0x4D,
    "ArrowDown": 0x50,
    "Home": 0x47,
    "PageUp": 0x49,
    "End": 0x4F,
    "PageDown": 0x51,
    "Insert": 0x52,
    "Delete": 0x53,
}
_CODES: Final = {name: first + at for first, row in _ROWS for at, name in enumerate(row)}


def codes_of(name: str, down: bool) -> list[int]:
    """The scan codes of pressing or releasing a key. Raises ValueError for a key that none has."""
    released = 0 if down else BREAK_SET_1
    if name in _EXTENDED:
        return [0xE0, _EXTENDED[name] | released]
    if name not in _CODES:
        raise ValueError(f"there is no key named {name!r}")
    return [_CODES[name] | released]

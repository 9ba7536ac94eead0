"""Typing on the keyboard of a booted machine, with the layout of the United States."""

from __future__ import annotations

import time
from typing import Final

from coalesced.devices.ps2 import BREAK_SET_1, Keyboard
from coalesced.tools.errors import BadInput
from coalesced.vmm.loop import Loop

_EVERY: Final = 0.03  # seconds between two keys
_SHIFT: Final = 0x2A
_ROWS: Final = (
    (0x02, "1234567890-=", "!@#$%^&*()_+"),
    (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
    (0x1E, "asdfghjkl;'`", 'ASDFGHJKL:"~'),
    (0x2B, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
)
_OTHERS: Final = {" ": 0x39, "\n": 0x1C, "\t": 0x0F, "\b": 0x0E, "\x1b": 0x01}
_ESCAPES: Final = {"n": "\n", "t": "\t", "b": "\b", "e": "\x1b", "\\": "\\"}


def _codes() -> dict[str, list[int]]:
    """The scan codes of set 1 for pressing and releasing the key of each character."""
    found = {character: [code, code | BREAK_SET_1] for character, code in _OTHERS.items()}
    for first, plain, shifted in _ROWS:
        for offset, (lower, upper) in enumerate(zip(plain, shifted, strict=True)):
            key = [first + offset, first + offset | BREAK_SET_1]
            found[lower] = key
            found[upper] = [_SHIFT, *key, _SHIFT | BREAK_SET_1]
    return found


_CODES: Final = _codes()


def keys_of(text: str) -> list[list[int]]:
    """--type: the scan codes of each key; backslash n, t, b, e are Enter, Tab, Backspace, Esc.

    Raises BadInput for a character without a key.
    """
    keys, characters = [], iter(text)
    for character in characters:
        typed = character
        if character == "\\":
            escaped = next(characters, "")
            if escaped not in _ESCAPES:
                raise BadInput(
                    f"--type {text}: expected \\n, \\t, \\b, \\e or \\\\, got \\{escaped}"
                )
            typed = _ESCAPES[escaped]
        if typed not in _CODES:
            raise BadInput(f"--type {text}: {typed!r} is on no key")
        keys.append(_CODES[typed])
    return keys


class Typist:
    """Types once the guest has turned the keyboard on, each key when it has read the last."""

    def __init__(self, keyboard: Keyboard, keys: list[list[int]], loop: Loop) -> None:
        self._keyboard = keyboard
        self._keys = keys
        self._loop = loop
        if keys:
            self._wait()

    def _wait(self) -> None:
        self._loop.call_at(time.monotonic() + _EVERY, self._type)

    def _type(self) -> None:
        if self._keyboard.turned_on and not self._keyboard.waiting:
            self._keyboard.send(self._keys.pop(0))
        if self._keys:
            self._wait()

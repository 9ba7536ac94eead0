"""Typing on the keyboard of a booted machine, with the layout of the United States."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from coalesced.devices.ps2 import BREAK_SET_1, Keyboard
from coalesced.tools.errors import BadInput
from coalesced.vmm.loop import Loop

_EVERY: Final = 0.03  # seconds between two keys
_SHIFT: Final = 0x2A
_CONTROL: Final = 0x1D
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


Typed = list[int] | str
"""The scan codes of a key, or a text: the next key waits until it is shown."""


def keys_of(text: str) -> list[Typed]:
    """--type: the keys and the texts to wait for, in order.

    Backslash n, t, b, e are Enter, Tab, Backspace, Esc; backslash c and a letter is that letter
    with Ctrl; backslash w and a text in braces waits for it. Raises BadInput for a character
    without a key.
    """
    typed, characters = [], iter(text)
    try:
        for character in characters:
            typed.append(_escaped(characters) if character == "\\" else _key(character))
    except ValueError as error:
        raise BadInput(f"--type {text}: {error}") from error
    return typed


def _key(character: str) -> list[int]:
    if character not in _CODES:
        raise ValueError(f"{character!r} is not on the keyboard")
    return _CODES[character]


def _escaped(characters: Iterator[str]) -> Typed:
    """Read an escape after its backslash. Raises ValueError."""
    escape = next(characters, "")
    if escape in _ESCAPES:
        return _key(_ESCAPES[escape])
    if escape == "c":
        letter = next(characters, "")
        if not (letter.isascii() and letter.isalpha()):
            raise ValueError(f"expected a letter after \\c, got {letter!r}")
        return [_CONTROL, *_key(letter.lower()), _CONTROL | BREAK_SET_1]
    if escape == "w":
        return _awaited(characters)
    raise ValueError(f"expected \\n, \\t, \\b, \\e, \\c, \\w or \\\\, got \\{escape}")


def _awaited(characters: Iterator[str]) -> str:
    text, closed = "", ""
    if next(characters, "") == "{":
        for character in characters:
            if character == "}":
                closed = character
                break
            text += character
    if not (text and closed):
        raise ValueError("expected \\w{TEXT}, with a text to wait for")
    return text


class Typist:
    """Types once the guest has turned the keyboard on, each key when it has read the last."""

    def __init__(
        self, keyboard: Keyboard, typed: list[Typed], loop: Loop, shown: Callable[[str], bool]
    ) -> None:
        """`shown`: whether a text is on the screen, or has come over the serial line."""
        self._keyboard = keyboard
        self._typed = typed
        self._loop = loop
        self._shown = shown
        if typed:
            self._wait()

    def _wait(self) -> None:
        self._loop.call_at(time.monotonic() + _EVERY, self._type)

    def _type(self) -> None:
        following = self._typed[0]
        if isinstance(following, str):
            if self._shown(following):
                self._typed.pop(0)
        elif self._keyboard.turned_on and not self._keyboard.waiting:
            self._keyboard.send(following)
            self._typed.pop(0)
        if self._typed:
            self._wait()

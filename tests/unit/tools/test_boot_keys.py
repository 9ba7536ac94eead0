"""Keys that are typed on the keyboard of a booted machine."""

from __future__ import annotations

import string

import pytest

from coalesced.tools.boot.keys import keys_of
from coalesced.tools.errors import BadInput


def test_a_key_is_pressed_and_released_and_shift_around_it() -> None:
    assert keys_of("a1") == [[0x1E, 0x9E], [0x02, 0x82]]
    assert keys_of("A!") == [[0x2A, 0x1E, 0x9E, 0xAA], [0x2A, 0x02, 0x82, 0xAA]]
    assert keys_of(r" \n\t\b\e\\") == [
        [code, code | 0x80] for code in (0x39, 0x1C, 0x0F, 0x0E, 0x01, 0x2B)
    ]


def test_every_printable_character_has_a_key() -> None:
    typed = "".join(set(string.printable) - set("\\\r\v\f"))
    keys = keys_of(typed)
    assert len(keys) == len(typed)
    assert len({tuple(key) for key in keys}) == len(typed)


@pytest.mark.parametrize(
    ("text", "said"),
    [("é", "--type é: 'é' is on no key"), ("\\x", r"expected \n, \t, \b, \e or \\, got \x")],
)
def test_a_character_without_a_key_is_one_line(text: str, said: str) -> None:
    with pytest.raises(BadInput) as error:
        keys_of(text)
    assert said in str(error.value)

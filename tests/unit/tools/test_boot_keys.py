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


def test_control_surrounds_its_letter_and_a_text_is_waited_for() -> None:
    assert keys_of(r"\cB\w{Press a key}x") == [
        [0x1D, 0x30, 0xB0, 0x9D],
        "Press a key",
        [0x2D, 0xAD],
    ]


def test_every_printable_character_has_a_key() -> None:
    typed = "".join(set(string.printable) - set("\\\r\v\f"))
    keys = keys_of(typed)
    assert len(keys) == len(typed)
    assert len({tuple(key) for key in keys}) == len(typed)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("é", "--type é: 'é' is not on the keyboard"),
        ("\\x", r"--type \x: expected \n, \t, \b, \e, \c, \w or \\, got \x"),
        ("a\\", r"--type a\: expected \n, \t, \b, \e, \c, \w or \\, got \ "[:-1]),
        (r"\c1", r"--type \c1: expected a letter after \c, got '1'"),
        (r"\w", r"--type \w: expected \w{TEXT}, with a text to wait for"),
        (r"\w{}", r"expected \w{TEXT}"),
        (r"\w{ok", r"expected \w{TEXT}"),
    ],
)
def test_a_character_without_a_key_is_one_line(text: str, said: str) -> None:
    with pytest.raises(BadInput) as error:
        keys_of(text)
    assert said in str(error.value)

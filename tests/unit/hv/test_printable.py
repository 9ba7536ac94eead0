"""Text from elsewhere cannot control a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from coalesced.hv.printable import printable, printable_lines, printable_stream


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ümläuts, 語, ░▒▓", "plain text, ümläuts, 語, ░▒▓"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("a\rb\bc\x7f", "a\\rb\\x08c\\x7f"),
        ("\x9b31m", "\\x9b31m"),  # the same as ESC [ on some terminals
        ("\u202egnp.exe", "\\u202egnp.exe"),  # what follows would be shown from right to left
        ("\udc80", "\\udc80"),
        ("a\u2028b\x0bc", "a\\u2028b\\x0bc"),
    ],
)
def test_what_controls_a_terminal_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == printable_lines(text) == shown


def test_of_lines_their_ends_and_tabs_are_kept() -> None:
    assert printable_lines("a\tb\n\x1bc\n") == "a\tb\n\\x1bc\n"
    assert printable("a\tb\n") == "a\\tb\\n"


@pytest.mark.slow
def test_every_character_that_stays_is_printable() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    assert printable(every).isprintable()


def test_a_stream_passes_on_what_is_printed() -> None:
    out = io.StringIO()
    stream = printable_stream(out)
    print("a", "\x1b[1m", file=stream, flush=True)
    assert stream.write("\x07b") == 2
    assert out.getvalue() == "a \\x1b[1m\n\\x07b"

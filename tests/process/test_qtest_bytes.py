"""The qtest server, given any bytes in any pieces: a reply for each line, and the RAM as it was."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from coalesced.tools.qtest.protocol import LINE_MAX, TOO_LONG, Control, Refused, parse
from coalesced.tools.qtest.server import _Lines
from helpers.qtest_peer import coalesced, result_of

RAM, SIZE = 0x8000, 0x100
WORDS = (
    b"inb", b"outl", b"readq", b"writeb", b"read", b"b64read", b"write", b"b64write", b"memset",
    b"0x3c4", b"0xa0000", b"-1", b"0", b"007", b"1e3", b"0x", b"0x1_0", b"64", b"0xabcd", b"AAAA",
    b"99999999999999999999", b"endianness", b"rtas", b"clock_step", b"\0", b"\r", b"\t",
    b"\xff\xfe",
)  # fmt: skip
lines = st.one_of(
    st.binary(max_size=60).map(lambda data: data.replace(b"\n", b"")),
    st.lists(st.sampled_from(WORDS), max_size=5).map(b" ".join),
)


@settings(max_examples=400, deadline=None)
@given(line=lines)
def test_any_line_is_a_command_or_refused_in_one_line(line: bytes) -> None:
    """A refusal begins with FAIL or ERR and is one line."""
    reply = refusal(line)
    assert reply is None or reply.startswith((b"FAIL ", b"ERR "))
    assert reply is None or b"\n" not in reply


def refusal(line: bytes) -> bytes | None:
    """The refusal of a line, or None."""
    try:
        parse(line)
    except Refused as refused:
        return refused.reply
    return None


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=8))
def test_lines_do_not_depend_on_the_pieces_they_come_in(data: bytes, cuts: list[int]) -> None:
    """The bytes may be cut anywhere."""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    got = _Lines()
    for start, end in pairwise(edges):
        got.feed(data[start:end])
    expected = data.split(b"\n")[:-1]
    assert got.size == sum(len(line) + 1 for line in expected)
    for line in expected:
        assert got.peek() == line
        got.pop()
    assert (got.peek(), got.size) == (None, 0)


@pytest.mark.parametrize("piece", [1 << 16, LINE_MAX + 2])
@pytest.mark.parametrize("length", [LINE_MAX - 2, LINE_MAX - 1, LINE_MAX, LINE_MAX + 1])
def test_the_longest_line_is_taken_and_no_longer_one(length: int, piece: int) -> None:
    """The limit includes the line's end, and the next line is whole."""
    data = b"x" * length + b"\nshort\n"
    got = _Lines()
    for start in range(0, len(data), piece):
        got.feed(data[start : start + piece])
    first = got.peek()
    assert first == (b"x" * length if length < LINE_MAX else TOO_LONG)
    got.pop()
    assert got.peek() == b"short"


class QtestServer(RuleBasedStateMachine):
    """Nonsense between commands on RAM, whose contents a model has."""

    @initialize(options=st.sampled_from([(), ("--accel", "direct"), ("--no-coalesce",)]))
    def begin(self, options: tuple[str, ...]) -> None:
        self.peer = coalesced(["VGA,addr=02.0"], "--json", *options)
        self.ram = bytearray(SIZE)
        self.unsent = b""
        self.replies: list[str | None] = []  # None: any
        self.commands = 0

        self.command(b"x" * LINE_MAX, f"FAIL expected a line of at most {LINE_MAX} bytes")

    def command(self, line: bytes, reply: str | None) -> None:
        self.unsent += line + b"\n"
        self.replies.append(reply)
        self.commands += 1

    @rule(some=st.lists(lines, min_size=1, max_size=10))
    def nonsense(self, some: list[bytes]) -> None:
        """Any line gets a reply; commands on RAM and the clock are left out."""
        for line in some:
            if harmless(line):
                self.command(line, None)

    @rule(at=st.integers(0, SIZE - 1), data=st.binary(min_size=1, max_size=40))
    def write(self, at: int, data: bytes) -> None:
        """A block."""
        data = data[: SIZE - at]
        self.ram[at : at + len(data)] = data
        self.command(b"write %d %d 0x%s" % (RAM + at, len(data), data.hex().encode()), "OK")

    @rule(at=st.integers(0, SIZE - 8), value=st.integers(0, 2**64 - 1))
    def store(self, at: int, value: int) -> None:
        """One access."""
        self.ram[at : at + 8] = value.to_bytes(8, "little")
        self.command(b"writeq 0x%x %d" % (RAM + at, value), "OK")

    @rule(at=st.integers(0, SIZE - 1), size=st.integers(1, 40))
    def read(self, at: int, size: int) -> None:
        """A read must return what was written before."""
        data = self.ram[at : at + size]
        self.command(b"read 0x%x %d" % (RAM + at, len(data)), f"OK 0x{data.hex()}")

    @rule(share=st.floats(0, 1))
    def send(self, share: float) -> None:
        """A part of it, wherever that ends."""
        count = int(len(self.unsent) * share)
        self.peer.send(self.unsent[:count])
        self.unsent = self.unsent[count:]
        if not self.unsent:
            self.take()

    def take(self) -> None:
        for expected in self.replies:
            reply = self.peer.line()
            assert reply.startswith(("OK", "FAIL", "ERR"))
            assert expected in (None, reply)
        self.replies.clear()

    def teardown(self) -> None:
        if not hasattr(self, "peer"):
            return
        with self.peer:
            self.send(1)
            result = result_of(self.peer.end())
        assert result["commands"] == self.commands
        assert result["failures"] == []


def harmless(line: bytes) -> bool:
    """Whether a line neither changes the model's RAM nor waits."""
    try:
        command = parse(line)
    except Refused:
        return True
    address = getattr(command, "address", 1 << 32)
    return not isinstance(command, Control) and (address >= 0xA0000 or address < 0x1000)


QtestServer.TestCase.settings = settings(
    max_examples=3,
    stateful_step_count=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would start many servers
    suppress_health_check=list(HealthCheck),
)
TestQtestServer = QtestServer.TestCase

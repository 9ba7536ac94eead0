"""Lines of the qtest protocol, taken apart."""

from __future__ import annotations

import pytest

from coalesced.hv.abi import OP_IN, OP_LOAD, OP_OUT, OP_STORE
from coalesced.tools.qtest.protocol import Access, BlockRead, BlockWrite, Control, Refused, parse


@pytest.mark.parametrize(
    ("line", "kind", "size", "address", "value"),
    [
        (b"inb 0x3c4", OP_IN, 1, 0x3C4, 0),
        (b"inl 0xcfc", OP_IN, 4, 0xCFC, 0),
        (b"outw 0x3c4 0x10203", OP_OUT, 2, 0x3C4, 0x0203),
        (b"readq 4096", OP_LOAD, 8, 4096, 0),
        (b"writeb 010 -1", OP_STORE, 1, 8, 0xFF),
        (b"writeq 0xffffffffffffffff -1", OP_STORE, 8, (1 << 64) - 1, (1 << 64) - 1),
        (b"writel +0 0XfF", OP_STORE, 4, 0, 0xFF),
    ],
)
def test_accesses(line: bytes, kind: int, size: int, address: int, value: int) -> None:
    command = parse(line)
    assert isinstance(command, Access)
    assert (command.kind, command.size, command.address, command.value) == (
        kind,
        size,
        address,
        value,
    )


@pytest.mark.parametrize(
    ("line", "reply"), [(b"inb 1", b"OK 0x0007"), (b"readl 1", b"OK 0x0000000000000007")]
)
def test_forms_of_a_value(line: bytes, reply: bytes) -> None:
    command = parse(line)
    assert isinstance(command, Access)
    assert command.form is not None
    assert command.form(7) == reply


@pytest.mark.parametrize(
    ("line", "data"),
    [
        (b"write 0x10 3 0x010203", b"\1\2\3"),
        (b"write 0x10 3 0x01", b"\1\0\0"),
        (b"write 0x10 1 0x0102", b"\1"),
        (b"write 0x10 2 0x012", b"\1\0"),
        (b"write 0x10 0 0x01", b""),
        (b"memset 0x10 3 0x1ff", b"\xff\xff\xff"),
        (b"b64write 0x10 3 AQID", b"\1\2\3"),
        (b"b64write 0x10 9 AQID", b"\1\2\3"),
        (b"b64write 0x10 2 AQID", b"\1\2"),
    ],
)
def test_blocks_to_write(line: bytes, data: bytes) -> None:
    assert parse(line) == BlockWrite(0x10, data)


@pytest.mark.parametrize(
    ("line", "reply"), [(b"read 1 2", b"OK 0x0aff"), (b"b64read 1 2", b"OK Cv8=")]
)
def test_blocks_to_read(line: bytes, reply: bytes) -> None:
    command = parse(line)
    assert isinstance(command, BlockRead)
    assert (command.address, command.size) == (1, 2)
    assert command.form(b"\x0a\xff") == reply


def test_controls() -> None:
    assert parse(b"irq_intercept_in ioapic") == Control("irq_intercept_in", ("ioapic",))
    assert parse(b"clock_step") == Control("clock_step", ())
    assert parse(b"clock_step 0x10") == Control("clock_step", ("16",))
    assert parse(b"endianness") == b"OK little"


@pytest.mark.parametrize("line", [b"", b" inb 1", b"\xff\xfe", b"INB 1", b"rtas"])
def test_unknown_commands_are_named(line: bytes) -> None:
    with pytest.raises(Refused) as refused:
        parse(line)
    assert refused.value.reply == b"FAIL Unknown command '%s'" % line.split(b" ")[0]


def test_numbers_of_any_length_are_refused_at_once() -> None:
    with pytest.raises(Refused, match="does not fit in 64 bits"):
        parse(b"readb " + b"9" * 1_000_000)

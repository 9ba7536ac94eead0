"""QEMU's qtest protocol: commands and the forms of their replies.

Source: QEMU 7.2, softmmu/qtest.c. Where that has an assertion - a missing word, a bad number, an
empty line - the answer here is FAIL with a reason.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from coalesced.hv.abi import OP_IN, OP_LOAD, OP_OUT, OP_STORE

BLOCK_MAX: Final = 64 << 20
"""Bytes that one command may move."""

LINE_MAX: Final = 8 << 20
"""Bytes of a line, its end included."""

TOO_LONG: Final = b"\n"
"""Replaces a line that was too long: no other line contains an end."""

OK: Final = b"OK"
_U64: Final = (1 << 64) - 1
_NUMBER: Final = re.compile(rb"[+-]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)\Z")


class Refused(Exception):
    """The line cannot be carried out; the text is the whole reply."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply.decode(errors="replace"))
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Access:
    """One access: a kind of `hv.abi.OP`, its width in bytes, and the form of a load's reply."""

    kind: int
    size: int
    address: int
    value: int
    form: Callable[[int], bytes] | None = None


@dataclass(frozen=True, slots=True)
class BlockRead:
    """`size` bytes from `address` on."""

    address: int
    size: int
    form: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class BlockWrite:
    """Bytes to be written from `address` on."""

    address: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Control:
    """A command that is not for the guest: about interrupts or the clock."""

    name: str
    words: tuple[str, ...]


Command = Access | BlockRead | BlockWrite | Control | bytes


def parse(line: bytes) -> Command:
    """Parse a line without its end: a command, or the reply itself as bytes. Raises Refused."""
    if line == TOO_LONG:
        raise Refused(b"FAIL expected a line of at most %d bytes" % LINE_MAX)
    words = line.rstrip(b"\r").split(b" ")
    handler = _COMMANDS.get(words[0])
    if handler is None:
        raise Refused(b"FAIL Unknown command '%s'" % words[0])
    return handler(words)


def number(words: list[bytes], index: int, name: str) -> int:
    """A word as strtoull takes it with base 0: hexadecimal, octal or decimal, -1 as 2**64 - 1."""
    word = words[index] if index < len(words) else b""
    match = _NUMBER.match(word)
    if match is None:
        raise _fail(words, f"expected a number for {name}, got '{word.decode(errors='replace')}'")
    digits = match[1]
    # Not to be parsed at any length: Python refuses thousands of digits.
    if len(digits) > 64:
        raise _fail(words, f"{name} does not fit in 64 bits")
    octal = digits[:1] == b"0" and digits[1:2].isdigit()
    value = int(digits, 8 if octal else 0)
    if value > _U64:
        raise _fail(words, f"{name} {digits.decode()} does not fit in 64 bits")
    return -value & _U64 if word[:1] == b"-" else value


def _fail(words: list[bytes], text: str) -> Refused:
    return Refused(b"FAIL %s: %s" % (words[0], text.encode()))


def _port_access(kind: int, size: int) -> Callable[[list[bytes]], Command]:
    def parse_it(words: list[bytes]) -> Command:
        port = number(words, 1, "the port")
        if port > 0xFFFF:
            raise _fail(words, f"expected a port of 0 to 0xffff, got {port:#x}")
        if kind == OP_IN:
            return Access(kind, size, port, 0, b"OK 0x%04x".__mod__)
        return Access(kind, size, port, number(words, 2, "the value") & (1 << 8 * size) - 1)

    return parse_it


def _memory_access(kind: int, size: int) -> Callable[[list[bytes]], Command]:
    def parse_it(words: list[bytes]) -> Command:
        address = number(words, 1, "the address")
        if kind == OP_LOAD:
            return Access(kind, size, address, 0, b"OK 0x%016x".__mod__)
        return Access(kind, size, address, number(words, 2, "the value") & (1 << 8 * size) - 1)

    return parse_it


def _block(words: list[bytes], least: int) -> tuple[int, int]:
    address, size = number(words, 1, "the address"), number(words, 2, "the size")
    if not least <= size <= BLOCK_MAX:
        raise _fail(words, f"expected a size of {least} to {BLOCK_MAX} bytes, got {size}")
    return address, size


def _read(words: list[bytes]) -> Command:
    address, size = _block(words, 1)
    return BlockRead(address, size, lambda data: b"OK 0x" + data.hex().encode())


def _b64read(words: list[bytes]) -> Command:
    address, size = _block(words, 1)
    return BlockRead(address, size, lambda data: b"OK " + base64.b64encode(data))


def _data_word(words: list[bytes]) -> bytes:
    word = words[3] if len(words) > 3 else b""
    if len(word) < 3:
        raise Refused(b"ERR invalid argument size")
    return word


def _write(words: list[bytes]) -> Command:
    """Data shorter than the size is filled up with zeros, longer data is cut off."""
    address, size = _block(words, 0)
    word = _data_word(words)
    digits = word[2 : 2 + 2 * size]
    try:
        data = bytes.fromhex(digits[: len(digits) & ~1].decode())
    except ValueError:
        raise _fail(words, "expected hexadecimal data") from None
    return BlockWrite(address, data.ljust(size, b"\0"))


def _b64write(words: list[bytes]) -> Command:
    """Only the given data is written; QEMU would continue with bytes of its heap."""
    address, size = _block(words, 0)
    try:
        data = base64.b64decode(_data_word(words))
    except binascii.Error as error:
        raise _fail(words, f"expected base64 data: {error}") from None
    return BlockWrite(address, data[:size])


def _memset(words: list[bytes]) -> Command:
    address, size = _block(words, 0)
    return BlockWrite(address, bytes([number(words, 3, "the value") & 0xFF]) * size)


def _control(*names: str, least: int) -> Callable[[list[bytes]], Command]:
    """A command with up to as many words as names, and at least `least`."""

    def parse_it(words: list[bytes]) -> Command:
        given = words[1 : 1 + len(names)]
        if len(given) < least or not all(given[:least]):
            raise _fail(words, f"expected {', '.join(names)}")
        return Control(words[0].decode(), tuple(word.decode(errors="replace") for word in given))

    return parse_it


def _nanoseconds(least: int) -> Callable[[list[bytes]], Command]:
    def parse_it(words: list[bytes]) -> Command:
        given = [str(number(words, 1, "the time"))] if len(words) > 1 or least else []
        return Control(words[0].decode(), tuple(given))

    return parse_it


_COMMANDS: Final[dict[bytes, Callable[[list[bytes]], Command]]] = {
    **{b"in%c" % w: _port_access(OP_IN, 1 << n) for n, w in enumerate(b"bwl")},
    **{b"out%c" % w: _port_access(OP_OUT, 1 << n) for n, w in enumerate(b"bwl")},
    **{b"read%c" % w: _memory_access(OP_LOAD, 1 << n) for n, w in enumerate(b"bwlq")},
    **{b"write%c" % w: _memory_access(OP_STORE, 1 << n) for n, w in enumerate(b"bwlq")},
    b"read": _read,
    b"write": _write,
    b"b64read": _b64read,
    b"b64write": _b64write,
    b"memset": _memset,
    b"endianness": lambda _words: b"OK little",
    b"irq_intercept_in": _control("a device", least=1),
    b"irq_intercept_out": _control("a device", least=1),
    b"clock_step": _nanoseconds(least=0),
    b"clock_set": _nanoseconds(least=1),
}

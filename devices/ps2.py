"""A keyboard and a mouse of PS/2: commands in, replies and scan codes out.

Command names: IBM Personal System/2 Technical Reference, keyboard and mouse. What they answer
follows QEMU 7.2: a keyboard's reply goes before the scan codes that wait, and its next command
drops what is left of it; a mouse's replies wait in line. An empty queue reads as the byte before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final

QUEUE_SIZE: Final = 16
"""Scan codes, packets and a mouse's replies beyond this are lost."""
_BUFFER: Final = 256

ACK: Final = 0xFA
RESEND: Final = 0xFE
RESET: Final = 0xFF
TEST_PASSED: Final = 0xAA
SET_DEFAULTS: Final = 0xF6
DISABLE: Final = 0xF5
ENABLE: Final = 0xF4
SET_RATE: Final = 0xF3
READ_ID: Final = 0xF2

# Of keyboards.
SET_LEDS: Final = 0xED
ECHO: Final = 0xEE
SCANCODE_SET: Final = 0xF0
SET_ALL_TYPEMATIC: Final = 0xFA
SET_MAKE_BREAK: Final = 0xFC

# Of mice.
SET_SCALE_1_1: Final = 0xE6
SET_SCALE_2_1: Final = 0xE7
SET_RESOLUTION: Final = 0xE8
GET_STATUS: Final = 0xE9
SET_STREAM: Final = 0xEA
POLL: Final = 0xEB
RESET_WRAP: Final = 0xEC
SET_WRAP: Final = 0xEE
SET_REMOTE: Final = 0xF0
STATUS_REMOTE: Final = 0x40
STATUS_ENABLED: Final = 0x20
STATUS_SCALE: Final = 0x10
PACKET_ALWAYS: Final = 0x08

# Rates that, set one after the other, make a mouse one with a wheel, or with five buttons.
_KNOCKS: Final[dict[tuple[int, ...], int]] = {(200, 100, 80): 3, (200, 200, 80): 4}

SET_1: Final = bytes.fromhex(
    "ff 43 41 3f 3d 3b 3c 58 64 44 42 40 3e 0f 29 59"
    "65 38 2a 70 1d 10 02 5a 66 71 2c 1f 1e 11 03 5b"
    "67 2e 2d 20 12 05 04 5c 68 39 2f 21 14 13 06 5d"
    "69 31 30 23 22 15 07 5e 6a 72 32 24 16 08 09 5f"
    "6b 33 25 17 18 0b 0a 60 6c 34 35 26 27 19 0c 61"
    "6d 73 28 74 1a 0d 62 6e 3a 36 1c 1b 75 2b 63 76"
    "55 56 77 78 79 7a 0e 7b 7c 4f 7d 4b 47 7e 7f 6f"
    "52 53 50 4c 4d 48 01 45 57 4e 51 4a 37 49 46 54"
)
"""The 8042's translation: the code of set 1 for each code of set 2 up to 0x7f."""
_F7_SET_2: Final = 0x83
_F7_SET_1: Final = 0x41
BREAK_SET_2: Final = 0xF0
BREAK_SET_1: Final = 0x80
PREFIXES: Final = frozenset((0xE0, 0xE1))


def translated(code: int) -> int:
    """A byte of set 2 in set 1."""
    if code == _F7_SET_2:
        return _F7_SET_1
    return SET_1[code] if code < len(SET_1) else code


def in_set_2(codes: Sequence[int]) -> list[int]:
    """Codes of set 1, makes and breaks, as a keyboard sends them in set 2."""
    found: list[int] = []
    for code in codes:
        if code in PREFIXES:
            found.append(code)
            continue
        key = code & ~BREAK_SET_1
        if code & BREAK_SET_1:
            found.append(BREAK_SET_2)
        found.append(_F7_SET_2 if key == _F7_SET_1 else SET_1.index(key))
    return found


class Ps2Device(ABC):
    """The queue between a device and the controller."""

    def __init__(self, ready: Callable[[bool], None]) -> None:
        """`ready(level)` is called with whether a byte waits, also when that has not changed."""
        self._ready = ready
        self._buffer = bytearray(_BUFFER)
        self._first = self._count = 0
        self._command: int | None = None  # it waits for its parameter

    def reset(self) -> None:
        """As after power-on; the bytes that were read stay behind the queue."""
        self._command = None
        self._clear()
        self._ready(False)

    def state(self) -> bytes:
        """The queue and the command that waits."""
        at = self._first
        turned = self._buffer[at:] + self._buffer[:at]
        return bytes((self._count, self._command or 0)) + bytes(turned)

    @property
    def waiting(self) -> int:
        """The bytes that wait to be read."""
        return self._count

    def read(self) -> int:
        """The next byte."""
        if not self._count:
            return self._buffer[self._first - 1]
        value = self._buffer[self._first]
        self._first = (self._first + 1) % _BUFFER
        self._count -= 1
        self._ready(False)
        if self._count:
            self._ready(True)
        return value

    def write(self, value: int) -> None:
        """A command or its parameter."""
        command, self._command = self._command, None
        if command is None:
            self._begin(value)
        else:
            self._finish(command, value)

    @abstractmethod
    def _begin(self, value: int) -> None:
        """Carry out a command, or wait for its parameter."""

    @abstractmethod
    def _finish(self, command: int, value: int) -> None:
        """Carry out a command that has its parameter."""

    def _clear(self) -> None:
        # To the start of the buffer, as in QEMU: what an empty queue reads as shows it.
        self._first = self._count = 0

    def _answer(self, *values: int) -> None:
        self._queue(*values)

    def _await_parameter(self, command: int) -> None:
        self._command = command
        self._answer(ACK)

    def _queue(self, *values: int) -> None:
        """Bytes behind all that waits, if there is room for all of them."""
        if self._count + len(values) <= QUEUE_SIZE:
            for value in values:
                self._buffer[(self._first + self._count) % _BUFFER] = value
                self._count += 1
            self._ready(True)


class Keyboard(Ps2Device):
    """An MF2 keyboard. While `translates`, its codes arrive in set 1."""

    def __init__(self, ready: Callable[[bool], None]) -> None:
        super().__init__(ready)
        self._reply = 0  # how many of the first bytes are of a reply
        self.leds = 0
        """Bit 0 scroll lock, 1 num lock, 2 caps lock."""
        self.reset()

    def reset(self) -> None:
        super().reset()
        self.translates = False
        self._set_defaults(enabled=True)

    def state(self) -> bytes:
        now = self._reply, self.translates, self._enabled, self._set, self.leds
        return super().state() + bytes(now)

    def read(self) -> int:
        self._reply -= self._reply > 0
        return super().read()

    def write(self, value: int) -> None:
        self._first = (self._first + self._reply) % _BUFFER
        self._count -= self._reply
        self._reply = 0
        super().write(value)

    def _clear(self) -> None:
        super()._clear()
        self._reply = 0

    def _answer(self, *values: int) -> None:
        self._first = (self._first - len(values)) % _BUFFER
        self._count += len(values)
        self._reply = len(values)
        for number, value in enumerate(values):
            self._buffer[(self._first + number) % _BUFFER] = value
        self._ready(True)

    def send(self, codes: Sequence[int]) -> None:
        """Keys that are pressed and released, as scan codes of set 1.

        A keyboard of set 1 sends them as they are; 2 is the usual one, and stands for 3, too.
        """
        if not self._enabled:
            return
        sent = list(codes) if self._set == 1 else in_set_2(codes)
        for code in _translated(sent) if self.translates else sent:
            self._queue(code)

    def _set_defaults(self, *, enabled: bool) -> None:
        self.turned_on = False  # by the guest, not only since power-on
        self._enabled = enabled
        self._set = 2
        self.leds = 0

    def _begin(self, value: int) -> None:
        if value in {SCANCODE_SET, SET_LEDS, SET_RATE, SET_MAKE_BREAK}:
            self._await_parameter(value)
        elif value == READ_ID:
            self._answer(ACK, 0xAB, 0x41 if self.translates else 0x83)
        elif value == ECHO:
            self._answer(ECHO)
        elif value == ENABLE:
            self._enabled = self.turned_on = True
            self._answer(ACK)
        elif value in {DISABLE, SET_DEFAULTS, RESET}:
            self._clear()
            self._set_defaults(enabled=value != DISABLE)
            self._answer(*((ACK, TEST_PASSED) if value == RESET else (ACK,)))
        else:
            self._answer(ACK if value in {0, SET_ALL_TYPEMATIC} else RESEND)

    def _finish(self, command: int, value: int) -> None:
        if command != SCANCODE_SET:
            if command == SET_LEDS:
                self.leds = value
            self._answer(ACK)
        elif value == 0:
            self._answer(ACK, translated(self._set) if self.translates else self._set)
        elif value <= 3:
            self._set = value
            self._answer(ACK)
        else:
            self._answer(RESEND)


def _translated(codes: Sequence[int]) -> list[int]:
    found, high = [], 0
    for code in codes:
        if code == BREAK_SET_2:
            high = BREAK_SET_1
        else:
            found.append(translated(code) | high)
            high = 0
    return found


class Mouse(Ps2Device):
    """A mouse that nobody moves."""

    def __init__(self, ready: Callable[[bool], None]) -> None:
        super().__init__(ready)
        self.reset()

    def reset(self) -> None:
        super().reset()
        self._status = self._resolution = self._rate = self._type = 0
        self._wraps = False
        self._rates: tuple[int, ...] = ()  # set last, as far as they are a knock

    def state(self) -> bytes:
        now = self._status, self._resolution, self._rate, self._type, self._wraps
        return super().state() + bytes((*now, *self._rates))

    def _begin(self, value: int) -> None:
        if self._wraps and value != RESET:
            self._wraps = value != RESET_WRAP
            self._answer(value if self._wraps else ACK)
        elif value in {SET_RESOLUTION, SET_RATE}:
            self._await_parameter(value)
        elif value == READ_ID:
            self._answer(ACK, self._type)
        elif value == GET_STATUS:
            self._answer(ACK, self._status, self._resolution, self._rate)
        elif value == POLL:
            self._answer(ACK)
            self._answer(PACKET_ALWAYS, *bytes(3 if self._type else 2))
        elif value in {SET_DEFAULTS, RESET}:
            self._set_defaults(value)
        elif value in _STATUS_BITS:
            bit, on = _STATUS_BITS[value]
            self._status = self._status | bit if on else self._status & ~bit
            self._answer(ACK)
        elif value == SET_WRAP:
            self._wraps = True
            self._answer(ACK)

    def _set_defaults(self, value: int) -> None:
        self._rate, self._resolution, self._status = 100, 2, 0
        if value == RESET:
            self._type = 0
            self._clear()
            self._answer(ACK, TEST_PASSED, self._type)
        else:
            self._answer(ACK)

    def _finish(self, command: int, value: int) -> None:
        if command == SET_RESOLUTION:
            self._resolution = value
        else:
            self._rate = value
            self._knock(value)
        self._answer(ACK)

    def _knock(self, rate: int) -> None:
        rates = (*self._rates, rate)
        self._type = _KNOCKS.get(rates, self._type)
        begun = any(knock[: len(rates)] == rates for knock in _KNOCKS)
        self._rates = rates if begun and rates not in _KNOCKS else ()


_STATUS_BITS: Final = {
    SET_SCALE_1_1: (STATUS_SCALE, False),
    SET_SCALE_2_1: (STATUS_SCALE, True),
    SET_STREAM: (STATUS_REMOTE, False),
    SET_REMOTE: (STATUS_REMOTE, True),
    ENABLE: (STATUS_ENABLED, True),
    DISABLE: (STATUS_ENABLED, False),
}

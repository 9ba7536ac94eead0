"""The keyboard controller of a PC, an Intel 8042 with keyboard and mouse, and port 0x92.

Command names: IBM Personal System/2 Technical Reference. What they answer follows QEMU 7.2's
`i8042`, which has a single byte for the controller's own replies, beside the devices' queues.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from coalesced.devices.bus.device import StateValue
from coalesced.devices.bus.narrow_registers import byte_registers
from coalesced.devices.bus.region import Region
from coalesced.devices.ps2 import Keyboard, Mouse

DATA_PORT: Final = 0x60
COMMAND_PORT: Final = 0x64
SYSTEM_PORT: Final = 0x92
KEYBOARD_IRQ: Final = 1
MOUSE_IRQ: Final = 12

STATUS_OUTPUT_FULL: Final = 0x01
STATUS_TESTED: Final = 0x04
STATUS_COMMAND: Final = 0x08
STATUS_UNLOCKED: Final = 0x10
STATUS_MOUSE: Final = 0x20

MODE_KEYBOARD_INTERRUPT: Final = 0x01
MODE_MOUSE_INTERRUPT: Final = 0x02
MODE_NO_KEYBOARD: Final = 0x10
MODE_NO_MOUSE: Final = 0x20
MODE_TRANSLATES: Final = 0x40

READ_MODE: Final = 0x20
WRITE_MODE: Final = 0x60
MOUSE_DISABLE: Final = 0xA7
MOUSE_ENABLE: Final = 0xA8
MOUSE_TEST: Final = 0xA9
SELF_TEST: Final = 0xAA
KEYBOARD_TEST: Final = 0xAB
KEYBOARD_DISABLE: Final = 0xAD
KEYBOARD_ENABLE: Final = 0xAE
READ_INPUT_PORT: Final = 0xC0
READ_OUTPUT_PORT: Final = 0xD0
WRITE_OUTPUT_PORT: Final = 0xD1
WRITE_KEYBOARD_BUFFER: Final = 0xD2
WRITE_MOUSE_BUFFER: Final = 0xD3
WRITE_MOUSE: Final = 0xD4
A20_OFF: Final = 0xDD
A20_ON: Final = 0xDF
PULSE: Final = 0xF0
"""With the bits of the output port that are not pulsed; that of bit 0 is the reset."""

OUTPUT_NO_RESET: Final = 0x01
OUTPUT_A20: Final = 0x02
OUTPUT_FULL: Final = 0x10
OUTPUT_MOUSE_FULL: Final = 0x20
OUTPUT_ONES: Final = 0xCC

SYSTEM_RESET: Final = 0x01
SYSTEM_A20: Final = 0x02

_TAKES_DATA: Final = frozenset(
    (WRITE_MODE, WRITE_OUTPUT_PORT, WRITE_KEYBOARD_BUFFER, WRITE_MOUSE_BUFFER, WRITE_MOUSE)
)
_REPLIES: Final = {MOUSE_TEST: 0x00, KEYBOARD_TEST: 0x00, READ_INPUT_PORT: 0x80}


class I8042:
    """Ports 0x60 and 0x64 with a keyboard and a mouse behind them, and port 0x92.

    None of its writes may be queued: each can raise or lower an interrupt, move A20 or reset the
    machine, and a driver polls the status behind it, which would drain the queue anyway.
    """

    name = "i8042"

    def __init__(
        self,
        set_irq: Callable[[int, bool], None],
        set_a20: Callable[[bool], None],
        reset_machine: Callable[[], None],
    ) -> None:
        """`set_irq(line, level)` may be called without a change of the level."""
        self._set_irq = set_irq
        self._set_a20 = set_a20
        self._reset_machine = reset_machine
        self._waits = {"keyboard": False, "mouse": False}
        self._own: tuple[int, bool] | None = None  # a reply, and whether it passes for the mouse's
        self._own_data = self._data = self._system = 0
        self._source = "own"  # of the byte that the output buffer shows
        self._status, self._mode, self._output = 0, 0, 0
        self._command: int | None = None
        self.keyboard = Keyboard(lambda level: self._ready("keyboard", level))
        self.mouse = Mouse(lambda level: self._ready("mouse", level))
        self.reset()
        self.legacy_memory: list[tuple[int, Region, int]] = []
        self.legacy_ports: list[tuple[int, Region, int]] = [
            (DATA_PORT, byte_registers("i8042-data", 1, self._read_data, self._write_data), 0),
            (
                COMMAND_PORT,
                byte_registers("i8042-cmd", 1, lambda _at: self._status, self._write_command),
                0,
            ),
            (SYSTEM_PORT, byte_registers("port92", 1, lambda _at: self._system, self._write_92), 0),
        ]

    def reset(self) -> None:
        """As after power-on, with A20 on in the output port."""
        self.keyboard.reset()
        self.mouse.reset()
        self._mode = MODE_KEYBOARD_INTERRUPT | MODE_MOUSE_INTERRUPT
        self._status = STATUS_COMMAND | STATUS_UNLOCKED
        self._output = OUTPUT_NO_RESET | OUTPUT_A20 | OUTPUT_ONES
        self._own = None
        self._empty()
        self._system &= ~SYSTEM_RESET

    def state(self) -> Mapping[str, StateValue]:
        """The registers of the controller and of both devices."""
        own = (0, 0) if self._own is None else (1, *self._own)
        return {
            "registers": bytes((self._status, self._mode, self._output, self._system, self._data)),
            "command": self._command or 0,
            "own": bytes((self._own_data, *own)),
            "source": self._source.encode(),
            "keyboard": self.keyboard.state(),
            "mouse": self.mouse.state(),
        }

    # --- the output buffer ---

    def _ready(self, source: str, level: bool) -> None:
        self._waits[source] = level
        self._fill_if_empty()

    def _reply(self, value: int, mouse: bool = False) -> None:
        self._own_data = value
        self._own = value, mouse
        self._fill_if_empty()

    def _next(self) -> str | None:
        """Whose byte is the next one."""
        if self._own is not None:
            return "own"
        if self._waits["keyboard"] and not self._mode & MODE_NO_KEYBOARD:
            return "keyboard"
        if self._waits["mouse"] and not self._mode & MODE_NO_MOUSE:
            return "mouse"
        return None

    def _fill_if_empty(self) -> None:
        if not self._status & STATUS_OUTPUT_FULL:
            self._fill()

    def _fill(self) -> None:
        """Show the next byte, if there is one."""
        source = self._next()
        if source is None:
            return
        self._source = source
        of_mouse = source == "mouse" or (self._own is not None and self._own[1])
        self._status |= STATUS_OUTPUT_FULL | (STATUS_MOUSE if of_mouse else 0)
        self._output &= ~OUTPUT_MOUSE_FULL  # the guest may have written it
        self._output |= OUTPUT_FULL | (OUTPUT_MOUSE_FULL if of_mouse else 0)
        self._set_interrupts()

    def _empty(self) -> None:
        self._status &= ~(STATUS_OUTPUT_FULL | STATUS_MOUSE)
        self._output &= ~(OUTPUT_FULL | OUTPUT_MOUSE_FULL)
        self._set_interrupts()

    def _set_interrupts(self) -> None:
        full, of_mouse = self._status & STATUS_OUTPUT_FULL, self._status & STATUS_MOUSE
        wanted = self._mode & (MODE_KEYBOARD_INTERRUPT | MODE_NO_KEYBOARD)
        keyboard = full and not of_mouse and wanted == MODE_KEYBOARD_INTERRUPT
        self._set_irq(KEYBOARD_IRQ, bool(keyboard))
        self._set_irq(MOUSE_IRQ, bool(full and of_mouse and self._mode & MODE_MOUSE_INTERRUPT))

    # --- port 0x60 ---

    def _read_data(self, _offset: int) -> int:
        if not self._status & STATUS_OUTPUT_FULL:
            return self._data
        self._empty()
        if self._source == "keyboard":
            self._data = self.keyboard.read()
        elif self._source == "mouse":
            self._data = self.mouse.read()
        else:
            self._data = self._own_data
            self._own = None
            self._fill()
        return self._data

    def _write_data(self, _offset: int, value: int) -> None:
        command, self._command = self._command, None
        if command is None:
            self.keyboard.write(value)
            self._change_mode(self._mode & ~MODE_NO_KEYBOARD)
        elif command == WRITE_MODE:
            self._change_mode(value)
            self.keyboard.translates = bool(value & MODE_TRANSLATES)
            self._set_interrupts()
        elif command == WRITE_OUTPUT_PORT:
            self._write_output(value)
        elif command == WRITE_MOUSE:
            self.mouse.write(value)
            self._change_mode(self._mode & ~MODE_NO_MOUSE)
        else:
            self._reply(value, mouse=command == WRITE_MOUSE_BUFFER)

    def _change_mode(self, mode: int) -> None:
        self._mode = mode
        self._fill_if_empty()

    def _write_output(self, value: int) -> None:
        self._output = value
        self._set_a20(bool(value & OUTPUT_A20))
        if not value & OUTPUT_NO_RESET:
            self._reset_machine()

    # --- port 0x64 ---

    def _write_command(self, _offset: int, value: int) -> None:
        if value >= PULSE:
            if not value & OUTPUT_NO_RESET:
                self._reset_machine()
        elif value in _TAKES_DATA:
            self._command = value
        elif value in _REPLIES:
            self._reply(_REPLIES[value])
        elif value == READ_MODE:
            self._reply(self._mode)
        elif value == READ_OUTPUT_PORT:
            self._reply(self._output)
        elif value == SELF_TEST:
            self._status |= STATUS_TESTED
            self._reply(0x55)
        elif value in {A20_OFF, A20_ON}:
            self._switch_a20(value == A20_ON)
        else:
            self._switch_device(value)

    def _switch_a20(self, level: bool) -> None:
        self._output = self._output & ~OUTPUT_A20 | level * OUTPUT_A20
        self._set_a20(level)

    def _switch_device(self, value: int) -> None:
        if value == MOUSE_DISABLE:
            self._mode |= MODE_NO_MOUSE
        elif value == MOUSE_ENABLE:
            self._change_mode(self._mode & ~MODE_NO_MOUSE)
        elif value == KEYBOARD_DISABLE:
            self._mode |= MODE_NO_KEYBOARD
        elif value == KEYBOARD_ENABLE:
            self._change_mode(self._mode & ~MODE_NO_KEYBOARD)

    # --- port 0x92 ---

    def _write_92(self, _offset: int, value: int) -> None:
        """A rise of bit 0 resets the machine; bit 1 is A20."""
        rose = value & ~self._system & SYSTEM_RESET
        self._system = value
        self._set_a20(bool(value & SYSTEM_A20))
        if rose:
            self._reset_machine()

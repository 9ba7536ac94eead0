"""Interrupts of a guest that is machine code: from the controller's pin to the processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from coalesced.vmm.accel.base import Processor
from coalesced.vmm.loop import Loop

_LOOK_AGAIN: Final = 0.1  # seconds after which a halted guest's process is looked at


class Interrupts:
    """Hands interrupts to the processor, as QEMU does without an in-kernel controller.

    While the controller's INTR pin is high, the guest exits (KVM_EXIT_IRQ_WINDOW_OPEN) as soon as
    it takes interrupts; only then the controller is asked for the vector.
    """

    def __init__(self, processor: Processor, loop: Loop, acknowledge: Callable[[], int]) -> None:
        """`acknowledge`: the controller's answer to INTA, the vector."""
        self._processor = processor
        self._loop = loop
        self._acknowledge = acknowledge
        self._pin = False
        self.stopped = False
        """Set to end the wait of a halted guest."""

    def set_pin(self, level: bool) -> None:
        """The controller's INTR pin."""
        self._pin = level
        self._processor.interrupt_window(level)

    def window_open(self) -> None:
        """The guest takes interrupts now."""
        if self._pin:
            self._processor.interrupt(self._acknowledge())

    def halted(self, interruptible: bool) -> bool:
        """Wait for what ends a HLT: an interrupt, if the guest takes any, or a reset.

        False when none can come, or when `stopped`. Raises PeerDied.
        """
        loop, resetting = self._loop, self._processor.is_resetting
        while not resetting() and not (self._pin and interruptible):
            timeout = loop.timeout()
            endless = timeout is None and not loop.watching
            if self.stopped or not interruptible or endless:
                return False
            loop.wait(_LOOK_AGAIN if timeout is None else min(timeout, _LOOK_AGAIN))
            loop.run_timers()
            self._processor.check_alive()
        if not resetting():
            self.window_open()
        return not self.stopped

"""QEMU, running the guest loop of `bench vga` on its own VGA."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time

from coalesced.hv import core
from coalesced.tools.bench import host
from coalesced.tools.bench.bootsector import BEGIN, END, FILLED, READY, image

PROGRAM = "qemu-system-x86_64"
ACCELERATORS = ("tcg", "kvm")
PATIENCE = 60.0  # seconds for a boot, and for a measurement


class Unusable(Exception):
    """This machine has no such QEMU; the text is the reason."""


class Qemu:
    """A QEMU that has booted the sector, stopped while nothing is measured.

    Its guest reports the begin and the end of the loop through the serial port, which QEMU forwards
    within the guest's own instruction: the time between the two bytes is the loop's, without the
    start of QEMU and its BIOS. All writes are in video memory by then: the guest's last load makes
    QEMU flush its ring.
    """

    def __init__(self, accelerator: str, *arguments: str) -> None:
        """`arguments`: more of QEMU's own. Raises Unusable."""
        program = shutil.which(PROGRAM)
        if program is None:
            raise Unusable(f"no {PROGRAM} on the PATH")
        if accelerator == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
            raise Unusable("/dev/kvm does not open")
        self._name = f"QEMU on {accelerator.upper()}"
        # No snapshot, for which QEMU makes a file that stays when it is killed at once.
        with os.fdopen(os.memfd_create("boot sector"), "wb", buffering=0) as disk:
            disk.write(image())
            self._process = subprocess.Popen(
                [
                    program, "-nodefaults", "-no-user-config", "-display", "none",
                    "-accel", accelerator, "-m", "16", "-vga", "std", "-serial", "stdio",
                    "-drive", f"file=/proc/self/fd/{disk.fileno()},format=raw,if=ide",
                    *arguments,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=(disk.fileno(),),
                process_group=0,  # only this process handles Ctrl-C
                preexec_fn=core.die_with_parent,  # noqa: PLW1509 - no threads here
            )  # fmt: skip
            self.pid = self._process.pid
            try:
                self._expect(READY)
            except BaseException:
                self.close()
                raise
        host.park(self.pid)

    def measure(self, power: int, filled: bool = False) -> float:
        """Nanoseconds per write of 1 << `power` writes, scattered or one after the other."""
        assert self._process.stdin is not None
        with host.awake(self.pid):
            self._process.stdin.write(bytes((power | FILLED * filled,)))
            started = self._expect(BEGIN)
            return (self._expect(END) - started) / (1 << power)

    def _expect(self, byte: bytes) -> int:
        """CLOCK_MONOTONIC nanoseconds at which the guest sent the byte. Raises Unusable."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + PATIENCE
        while True:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._process.stdout], [], [], max(left, 0))
            if not ready:
                raise Unusable(f"{self._name}: its guest made no progress within {PATIENCE:g} s")
            said = self._process.stdout.read(1)
            now = time.monotonic_ns()
            if said == byte:
                return now
            if not said:
                raise Unusable(f"{self._name}: {self._complaint()}")

    def _complaint(self) -> str:
        assert self._process.stderr is not None
        self._process.kill()
        lines = self._process.stderr.read().decode(errors="replace").split("\n")
        return lines[0] or f"ended with status {self._process.wait()}"

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

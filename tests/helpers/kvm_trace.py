"""Writes recordings of KVM's tracepoints, as ftrace prints them."""

from __future__ import annotations

from pathlib import Path

from coalesced.tools.advise.advice import Advice, Options, advise
from coalesced.tools.advise.recording import read


class Tape:
    """A recording of one vCPU: each access takes 10 µs, an exit 2 µs of them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.now_us = 1_000_000

    def _line(self, event: str, thread: int) -> None:
        seconds, us = divmod(self.now_us, 1_000_000)
        self.lines.append(f" qemu-{thread}  [000] ..... {seconds}.{us:06}: {event}")

    def exit(self, reason: str, thread: int = 7) -> None:
        """An exit to the VMM."""
        self.now_us += 2
        self._line(f"kvm_userspace_exit: reason {reason}", thread)

    def store(
        self, address: int, value: int, *, exits: bool = True, size: int = 4, thread: int = 7
    ) -> None:
        """A store; without an exit it was queued."""
        self.now_us += 8
        self._line(f"kvm_mmio: mmio write len {size} gpa {address:#x} val {value:#x}", thread)
        if exits:
            self.exit("KVM_EXIT_MMIO (6)", thread)

    def load(self, address: int, value: int, size: int = 4, thread: int = 7) -> None:
        """A load that exits."""
        self.now_us += 8
        self._line(f"kvm_mmio: mmio unsatisfied-read len {size} gpa {address:#x} val 0x0", thread)
        self.exit("KVM_EXIT_MMIO (6)", thread)
        self._line(f"kvm_mmio: mmio read len {size} gpa {address:#x} val {value:#x}", thread)

    def out(self, port: int, value: int, size: int = 1, count: int = 1) -> None:
        """A write of a port."""
        self.now_us += 8
        more = "(...)" if count > 1 else ""
        self._line(
            f"kvm_pio: pio_write at {port:#x} size {size} count {count} val {value:#x} {more}", 7
        )
        self.exit("KVM_EXIT_IO (2)")

    def in_(self, port: int, value: int, size: int = 1, count: int = 1) -> None:
        """A read of a port."""
        self.now_us += 8
        self.exit("KVM_EXIT_IO (2)")
        more = "(...)" if count > 1 else ""
        self._line(
            f"kvm_pio: pio_read at {port:#x} size {size} count {count} val {value:#x} {more}", 7
        )

    def idle(self, us: int) -> None:
        """The guest does nothing that is recorded."""
        self.now_us += us

    def advice(self, folder: Path, options: Options | None = None) -> Advice:
        """The advice about the recording."""
        path = folder / "tape.txt"
        path.write_text("\n".join(self.lines) + "\n")
        return advise(read(path), options or Options())

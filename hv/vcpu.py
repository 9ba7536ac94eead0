"""The processor that guest code sees: loads, stores, ports and interrupts.

A guest is a plain Python function over a `Vcpu`. The same function runs in the guest process and,
on an accelerator without one, in the VMM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from coalesced.hv import abi

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

ALL_LINES = (1 << 64) - 1


class Bus(Protocol):
    """Carries out a vCPU's accesses; implemented by `hv.core.Vcpu`."""

    def load(self, address: int, size: int, /) -> int: ...
    def store(self, address: int, size: int, value: int, /) -> None: ...
    def in_(self, port: int, size: int, /) -> int: ...
    def out(self, port: int, size: int, value: int, /) -> None: ...
    def execute(self, ops: NDArray[np.void], /) -> None: ...
    def store_many(
        self, addresses: NDArray[np.uint64], size: int, values: NDArray[np.uint64], /
    ) -> None: ...
    def fill(self, address: int, size: int, count: int, value: int, /) -> None: ...
    def read_memory(self, address: int, size: int, /) -> bytearray: ...
    def write_memory(self, address: int, data: bytes, /) -> None: ...
    def wait_interrupt(self, lines: int, timeout: float | None, /) -> int: ...


class Vcpu:
    """A guest's processor.

    Addresses are guest-physical, 0 to 2**64 - 1; ports 0 to 0xffff. Values are little endian; of
    a value to be written, the low bits of the access's width count. Accesses need no alignment;
    one that crosses a 4 KiB boundary is carried out as two. What the processor cannot carry out
    raises GuestError.
    """

    def __init__(self, bus: Bus, index: int = 0) -> None:
        """`index`: which vCPU of its VM it is, from 0 on; a guest is called with each of them."""
        self.index = index
        self.use(bus)

    def use(self, bus: Bus) -> None:
        """Let another bus carry out the accesses from the next one on."""
        self.bus = bus
        self._load = bus.load
        self._store = bus.store
        self._in = bus.in_
        self._out = bus.out

    def load8(self, address: int) -> int:
        """The byte at `address`."""
        return self._load(address, 1)

    def load16(self, address: int) -> int:
        """The 2 bytes from `address` on."""
        return self._load(address, 2)

    def load32(self, address: int) -> int:
        """The 4 bytes from `address` on."""
        return self._load(address, 4)

    def load64(self, address: int) -> int:
        """The 8 bytes from `address` on."""
        return self._load(address, 8)

    def store8(self, address: int, value: int) -> None:
        """Write the low byte of `value`."""
        self._store(address, 1, value)

    def store16(self, address: int, value: int) -> None:
        """Write the low 2 bytes of `value`."""
        self._store(address, 2, value)

    def store32(self, address: int, value: int) -> None:
        """Write the low 4 bytes of `value`."""
        self._store(address, 4, value)

    def store64(self, address: int, value: int) -> None:
        """Write the low 8 bytes of `value`."""
        self._store(address, 8, value)

    def in8(self, port: int) -> int:
        """Read a byte from a port."""
        return self._in(port, 1)

    def in16(self, port: int) -> int:
        """Read 2 bytes from a port."""
        return self._in(port, 2)

    def in32(self, port: int) -> int:
        """Read 4 bytes from a port."""
        return self._in(port, 4)

    def out8(self, port: int, value: int) -> None:
        """Write the low byte of `value` to a port."""
        self._out(port, 1, value)

    def out16(self, port: int, value: int) -> None:
        """Write the low 2 bytes of `value` to a port."""
        self._out(port, 2, value)

    def out32(self, port: int, value: int) -> None:
        """Write the low 4 bytes of `value` to a port."""
        self._out(port, 4, value)

    def store_many(self, addresses: ArrayLike, values: ArrayLike, size: int = 1) -> None:
        """Store `values[i]` at `addresses[i]` in order, `size` bytes each (1, 2, 4 or 8).

        Either may be a scalar. Raises ValueError when their shapes do not fit each other.
        """
        import numpy as np  # noqa: PLC0415 - many guests make no array

        at, what = np.broadcast_arrays(
            np.asarray(addresses, dtype=np.uint64), np.asarray(values, dtype=np.uint64)
        )
        self.bus.store_many(
            np.ascontiguousarray(at).reshape(-1), size, np.ascontiguousarray(what).reshape(-1)
        )

    def fill(self, address: int, count: int, value: int, size: int = 1) -> None:
        """Store `value` `count` times, one after the other from `address` on, in `size` bytes."""
        self.bus.fill(address, size, count, value)

    def execute(self, ops: NDArray[np.void]) -> None:
        """Run an array of bus operations (`hv.abi.OP`) in order.

        The `value` of each load and in is replaced by what was read. Raises ValueError when the
        array has another type or is not contiguous and writable, GuestError with the index of an
        operation that cannot be carried out.
        """
        if ops.dtype != abi.OP:
            raise ValueError(f"expected an array of coalesced.hv.abi.OP, got {ops.dtype}")
        self.bus.execute(ops)

    def read_memory(self, address: int, size: int) -> bytearray:
        """`size` bytes of guest RAM; raises GuestError where there is none."""
        return self.bus.read_memory(address, size)

    def write_memory(self, address: int, data: bytes) -> None:
        """Put bytes into guest RAM; raises GuestError where there is none."""
        self.bus.write_memory(address, data)

    def wait_interrupt(self, lines: int = ALL_LINES, timeout: float | None = None) -> int:
        """Halt until one of the interrupt lines in the mask is high; the mask of those that are.

        0 when `timeout` seconds passed first. This is no exit: the kernel itself waits.
        """
        return self.bus.wait_interrupt(lines, timeout)

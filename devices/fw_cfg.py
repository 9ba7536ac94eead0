"""QEMU's configuration device for firmware, fw_cfg: keys with data, read by port or by DMA.

Names and layouts: QEMU's docs/specs/fw_cfg. What it answers follows QEMU 7.2, which reads data at
both ports, but selects only by words.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

from coalesced.devices.bus.device import Dma, StateValue
from coalesced.devices.bus.region import Region

SELECT_PORT: Final = 0x510
DMA_PORT: Final = 0x514

SIGNATURE: Final = 0x00
ID: Final = 0x01
UUID: Final = 0x02
RAM_SIZE: Final = 0x03
CPUS: Final = 0x05
MAX_CPUS: Final = 0x0F
FILE_DIRECTORY: Final = 0x19
FIRST_FILE: Final = 0x20
FILES_MAX: Final = 32
IRQ0_OVERRIDE: Final = 0x8002


class Part(NamedTuple):
    """The keys of a part of a kernel: where it is loaded, its size, and the data."""

    address: int
    size: int
    data: int


KERNEL: Final = Part(0x07, 0x08, 0x11)
COMMAND_LINE: Final = Part(0x13, 0x14, 0x15)
SETUP: Final = Part(0x16, 0x17, 0x18)
E820_FILE: Final = "etc/e820"
E820_RAM: Final = 1

WRITE_CHANNEL: Final = 0x4000
"""A bit of the key without an effect."""
ID_TRADITIONAL: Final = 0x01
ID_DMA: Final = 0x02
DMA_SIGNATURE: Final = b"QEMU CFG"

DMA_ERROR: Final = 0x01
DMA_READ: Final = 0x02
DMA_SKIP: Final = 0x04
DMA_SELECT: Final = 0x08
DMA_WRITE: Final = 0x10
_DMA_REQUEST: Final = struct.Struct(">IIQ")  # control, length, address
_FILE: Final = struct.Struct(">IHH56s")  # size, key, reserved, name
_NAME_MAX: Final = 55
_CHUNK: Final = 1 << 16  # bytes of zeros that DMA writes at once


class FwCfg:
    """Ports 0x510, 0x511 and 0x514 to 0x51b.

    No write may be queued: DMA must have happened when the guest goes on, which does not look at
    the device but at memory; and a key is followed at once by a read, which would drain it.
    """

    name = "fw_cfg"

    def __init__(self, dma: Dma, ram_size: int) -> None:
        """The keys that a PC with one processor and `ram_size` bytes of RAM has."""
        self._dma = dma
        self._items = {
            SIGNATURE: b"QEMU",
            ID: struct.pack("<I", ID_TRADITIONAL | ID_DMA),
            UUID: bytes(16),
            RAM_SIZE: struct.pack("<Q", ram_size),
            CPUS: struct.pack("<H", 1),
            MAX_CPUS: struct.pack("<H", 1),
            IRQ0_OVERRIDE: struct.pack("<I", 1),
        }
        self._files: dict[str, bytes] = {}
        self._data, self._at = b"", 0
        self._select(SIGNATURE)
        self._address = 0  # of a request, its high half
        self.add_file(E820_FILE, struct.pack("<QQI", 0, ram_size, E820_RAM))
        self.legacy_memory: list[tuple[int, Region, int]] = []
        self.legacy_ports: list[tuple[int, Region, int]] = [
            (SELECT_PORT, Region("fwcfg", 2, self._read, self._write), 0),
            (DMA_PORT, Region("fwcfg.dma", 8, _read_signature, self._write_address), 0),
        ]

    # --- contents ---

    def add(self, key: int, data: bytes) -> None:
        """Data for a key; replaces what it had. Raises ValueError for the keys of files."""
        if not 0 <= key <= 0xFFFF or key & WRITE_CHANNEL:
            raise ValueError(f"fw_cfg: expected a key of 16 bits without bit 14, got {key:#x}")
        if key == FILE_DIRECTORY or FIRST_FILE <= key < FIRST_FILE + FILES_MAX:
            raise ValueError(f"fw_cfg: key {key:#x} is that of a file")
        self._items[key] = bytes(data)

    def add_file(self, name: str, data: bytes) -> None:
        """A file by its name, like `bootorder`, `genroms/...`, `opt/...`; replaces one of the name.

        Files have keys by the order of their names, so that adding one may change keys. Raises
        ValueError for a name without or with over 55 bytes of ASCII, and for too many files.
        """
        if not name.isascii() or not 0 < len(name) <= _NAME_MAX:
            raise ValueError(f"fw_cfg: expected a name of 1 to {_NAME_MAX} characters: {name!r}")
        if name not in self._files and len(self._files) == FILES_MAX:
            raise ValueError(f"fw_cfg: expected at most {FILES_MAX} files, {name!r} is one more")
        self._files[name] = bytes(data)
        directory = [struct.pack(">I", len(self._files))]
        for key, found in enumerate(sorted(self._files), FIRST_FILE):
            content = self._items[key] = self._files[found]
            directory.append(_FILE.pack(len(content), key, 0, found.encode()))
        self._items[FILE_DIRECTORY] = b"".join(directory)

    # --- device ---

    def reset(self) -> None:
        """Select the signature."""
        self._select(SIGNATURE)

    def state(self) -> Mapping[str, StateValue]:
        """The selected key, and a hash of all contents."""
        digest = hashlib.blake2b(digest_size=16)
        for key, data in sorted(self._items.items()):
            digest.update(b"%d %d:" % (key, len(data)) + data)
        selected = hashlib.blake2b(self._data, digest_size=16).digest()
        return {
            "selected": selected + self._at.to_bytes(4, "little"),
            "contents": digest.digest(),
            "address": self._address,
        }

    def _select(self, key: int) -> None:
        self._data, self._at = self._items.get(key & ~WRITE_CHANNEL, b""), 0

    def _read(self, _offset: int, size: int) -> int:
        """The next byte of data; zeros behind its end, and for wider reads."""
        if size != 1 or self._at >= len(self._data):
            return 0
        self._at += 1
        return self._data[self._at - 1]

    def _write(self, _offset: int, size: int, value: int) -> None:
        if size == 2:
            self._select(value)

    # --- DMA ---

    def _write_address(self, offset: int, size: int, value: int) -> None:
        """The address of a request, big-endian: a quadword, or its high half and its low one."""
        swapped = int.from_bytes(value.to_bytes(size, "little"), "big")
        if size == 4 and offset == 0:
            self._address = swapped << 32
        elif (size == 4 and offset == 4) or (size == 8 and offset == 0):
            address, self._address = self._address | swapped, 0
            self._carry_out(address)

    def _carry_out(self, address: int) -> None:
        """A request, whose control word then says how it ended."""
        if self._dma.ram_at(address) is None:
            return
        request = self._dma.read(address, _DMA_REQUEST.size)
        control, length, where = _DMA_REQUEST.unpack(request)
        if control & DMA_SELECT:
            self._select(control >> 16)
        good = True
        if control & (DMA_READ | DMA_WRITE | DMA_SKIP):
            part = self._data[self._at : self._at + length]
            self._at += len(part)
            if control & DMA_READ:
                good = self._put(where, part, length - len(part))
            elif control & DMA_WRITE:
                good = length == 0  # no key can be written
        self._dma.write(address, (0 if good else DMA_ERROR).to_bytes(4, "big"))

    def _put(self, where: int, data: bytes, zeros: int) -> bool:
        """Put data into RAM, and zeros behind it; False where there is no RAM."""
        while data or zeros:
            ram = self._dma.ram_at(where)
            if ram is None:
                return False
            room = ram.start + ram.size - where
            part = data[:room] or bytes(min(zeros, room, _CHUNK))
            ram.write(where - ram.start, part)
            where += len(part)
            zeros -= 0 if data else len(part)
            data = data[room:]
        return True


def _read_signature(offset: int, size: int) -> int:
    return int.from_bytes(DMA_SIGNATURE[offset : offset + size], "little")

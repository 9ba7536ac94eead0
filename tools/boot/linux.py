"""Kernels of the Linux boot protocol: a BIOS starts them by the option ROM that QEMU has for it.

Where the parts lie follows QEMU's -kernel (documentation of the protocol: Documentation/arch/x86/
boot.rst of Linux). The ROM reads them from fw_cfg by DMA and enters the setup code in real mode.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from coalesced.devices import fw_cfg
from coalesced.tools.errors import BadInput
from coalesced.tools.runs import firmware

ROM: Final = "linuxboot_dma.bin"
_MAGIC_AT: Final = 0x202
_MAGIC: Final = b"HdrS"
_VERSION_AT: Final = 0x206
_OLDEST: Final = 0x202  # the first one that takes a command line anywhere
_SETUP_SECTORS_AT: Final = 0x1F1
_SETUP_SECTORS: Final = 4  # where the header says none
_HEADER_END: Final = 0x22C
_LOADER_AT: Final = 0x210
_LOADER: Final = 0xB0  # QEMU's number
_FLAGS_AT: Final = 0x211
_HIGH, _USE_HEAP = 0x01, 0x80
_HEAP_AT: Final = 0x224
_COMMAND_LINE_AT: Final = 0x228
_SECTOR: Final = 512

_SETUP: Final = 0x10000
_COMMAND_LINE: Final = 0x20000
_COMMAND_LINE_MAX: Final = 2048
_KERNEL: Final = 0x100000


@dataclass(frozen=True)
class Kernel:
    """The items of a kernel in fw_cfg: data by key, and files by name."""

    items: Mapping[int, bytes]
    files: Mapping[str, bytes]


def is_kernel(data: bytes) -> bool:
    """Whether a file has the header of the boot protocol."""
    return data[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC


def kernel(name: str, data: bytes, append: str, memory: int) -> Kernel:
    """A kernel with the command line `append` in `memory` bytes of RAM. Raises BadInput."""
    if len(data) < _HEADER_END:
        raise BadInput(f"{name}: the kernel's header is cut short")
    (version,) = struct.unpack_from("<H", data, _VERSION_AT)
    if version < _OLDEST or not data[_FLAGS_AT] & _HIGH:
        raise BadInput(f"{name}: expected a bzImage of boot protocol 2.02 or newer")
    size = (1 + (data[_SETUP_SECTORS_AT] or _SETUP_SECTORS)) * _SECTOR
    setup, rest = bytearray(data[:size]), data[size:]
    if not rest or len(rest) > memory - _KERNEL or size > _COMMAND_LINE - _SETUP:
        raise BadInput(f"{name}: the kernel is cut short, or does not fit into the RAM (--memory)")
    if not append.isascii() or len(append) >= _COMMAND_LINE_MAX:
        raise BadInput(f"--append: expected less than {_COMMAND_LINE_MAX} characters of ASCII")
    setup[_LOADER_AT] = _LOADER
    setup[_FLAGS_AT] |= _USE_HEAP
    struct.pack_into("<H", setup, _HEAP_AT, _COMMAND_LINE - _SETUP - _SECTOR)
    struct.pack_into("<I", setup, _COMMAND_LINE_AT, _COMMAND_LINE)
    parts = {
        fw_cfg.SETUP: (_SETUP, bytes(setup)),
        fw_cfg.KERNEL: (_KERNEL, rest),
        fw_cfg.COMMAND_LINE: (_COMMAND_LINE, append.encode() + b"\0"),
    }
    items = {key: part for keys, where in parts.items() for key, part in _items(keys, *where)}
    boot_order = f"/rom@genroms/{ROM}\n\0".encode()
    return Kernel(items, {f"genroms/{ROM}": _rom(), "bootorder": boot_order})


def _items(keys: fw_cfg.Part, address: int, data: bytes) -> list[tuple[int, bytes]]:
    return [
        (keys.address, struct.pack("<I", address)),
        (keys.size, struct.pack("<I", len(data))),
        (keys.data, data),
    ]


def _rom() -> bytes:
    path = firmware.find(ROM)
    if path is None:
        raise BadInput(
            f"no {ROM} in {', '.join(map(str, firmware.FOLDERS))}, which starts a kernel: "
            "apt install qemu-system-data"
        )
    return firmware.read(path)

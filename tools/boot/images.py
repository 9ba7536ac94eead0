"""Images to boot: a BIOS alone, boot sectors and floppies, kernels, flat binaries, ELF."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coalesced.tools.boot import linux, start
from coalesced.tools.errors import BadInput
from coalesced.tools.runs import files

SECTOR: Final = 512
_SIGNATURE: Final = b"\x55\xaa"
FLOPPIES: Final = tuple(kib << 10 for kib in (160, 180, 320, 360, 720, 1200, 1440, 2880))
_LARGEST: Final = 64  # MiB
_HIGH: Final = 1 << 20

_ELF: Final = b"\x7fELF"
_ELF_HEADER: Final = struct.Struct("<4sBBBBB7xHHIIIIIHHHHHH")
_PROGRAM_HEADER: Final = struct.Struct("<IIIIIIII")
_RELOCATABLE: Final = 1
_I386, _LOAD = 3, 1
_MULTIBOOT_MAGIC: Final = 0x1BADB002
_MULTIBOOT_LOADER: Final = 0x2BADB002
_MULTIBOOT_SEARCH: Final = 8192
_MULTIBOOT_ADDRESSES: Final = 1 << 16  # a flag
_ADDRESSES: Final = struct.Struct("<IIIII")  # header, load, load end, bss end, entry
_INFO_AT: Final = 0x500
_INFO_MEMORY: Final = 1


@dataclass(frozen=True)
class Image:
    """The contents of RAM or of a floppy when the machine starts.

    `start`: the ROM that starts it; None: a BIOS does. `floppy`: the disk in the first drive, of a
    standard size, empty for none. `kernel`: one of Linux's boot protocol, which the BIOS starts.
    """

    name: str
    start: bytes | None = None
    loaded: tuple[tuple[int, bytes], ...] = ()  # address, contents
    floppy: bytes = b""
    kernel: linux.Kernel | None = None


EXAMPLES: Final = Path(__file__).parent / "examples"


def examples() -> list[str]:
    """The names of the boot sectors that are installed with the program."""
    return sorted(path.stem for path in EXAMPLES.glob("*.bin"))


def load(name: str, at: int | None, bios: bool, memory: int, append: str = "") -> Image:
    """The image of a command line: a file, or one of `examples`. `at`: where a flat binary goes.

    `bios`: whether a BIOS starts it where that makes a difference; `memory`: bytes of RAM;
    `append`: a kernel's command line. Raises BadInput.
    """
    installed = EXAMPLES / f"{name}.bin"
    given = Path(name)
    use_installed = name in examples() and (given.is_dir() or not given.exists())
    data = _contents(installed if use_installed else given)
    if at is None and linux.is_kernel(data):
        if not bios:
            raise BadInput(f"{name}: this kernel needs a BIOS: omit --bios none")
        return Image(name, kernel=linux.kernel(name, data, append, memory))
    if append:
        raise BadInput(f"--append {append}: {name} is not a kernel with Linux's boot protocol")
    if at is not None:
        return _flat(name, data, at)
    if data[: len(_ELF)] == _ELF:
        return _elf(name, data, memory)
    if data[SECTOR - 2 : SECTOR] == _SIGNATURE:
        return _disk(name, data, bios)
    header = _multiboot(data)
    if header is not None and header.has_addresses:
        return _addressed(name, data, header, memory)
    raise BadInput(
        f"{name}: expected a boot sector with 55 aa at byte 510, a bzImage, an ELF file, a "
        "multiboot kernel, or --at ADDRESS for a flat binary"
    )


def _contents(path: Path) -> bytes:
    """Raises BadInput."""
    return _assembled(path) if path.suffix == ".asm" else files.read(path, _LARGEST)


def _assembled(path: Path) -> bytes:
    """Raises BadInput without nasm, or for what it refuses."""
    files.read(path, _LARGEST)  # it is there
    nasm = shutil.which("nasm")
    if nasm is None:
        raise BadInput(f"{path}: nasm is not installed (on Debian: apt install nasm)")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "image")
        done = subprocess.run(
            [nasm, "-f", "bin", "-i", f"{path.parent}/", "-o", output, path],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            raise BadInput((done.stderr or f"{path}: nasm failed").splitlines()[0])
        assembled = output.read_bytes()
    if not assembled:
        raise BadInput(f"{path}: expected 1 byte to {_LARGEST} MiB")
    return assembled


def _flat(name: str, data: bytes, at: int) -> Image:
    rom = start.real_mode(at) if at < _HIGH else start.protected_mode(at)
    return Image(name, rom, ((at, data),))


def _disk(name: str, data: bytes, bios: bool) -> Image:
    if not bios:
        return Image(
            name, start.real_mode(start.BOOT_SECTOR), ((start.BOOT_SECTOR, data[:SECTOR]),)
        )
    size = next((size for size in FLOPPIES[-2:] if len(data) <= size), None)
    size = len(data) if len(data) in FLOPPIES else size
    if size is None:
        raise BadInput(f"{name}: {len(data)} bytes: expected a floppy of at most {FLOPPIES[-1]}")
    return Image(name, floppy=data.ljust(size, b"\0"))


# --- ELF ---


def _elf(name: str, data: bytes, memory: int) -> Image:
    try:
        entry, segments = _segments(data, memory)
    except struct.error as error:
        raise BadInput(f"{name}: the ELF file is cut short") from error
    except ValueError as error:
        raise BadInput(f"{name}: {error}") from error
    if _multiboot(data) is None:
        return Image(name, start.protected_mode(entry), segments)
    return _started(name, entry, segments, memory)


def _segments(data: bytes, memory: int) -> tuple[int, tuple[tuple[int, bytes], ...]]:
    """The entry point and what is loaded where, without paging. Raises ValueError, struct.error."""
    header = _ELF_HEADER.unpack_from(data)
    bits, order, kind, machine = header[1], header[2], header[6], header[7]
    entry, table, size, count = header[9], header[10], header[14], header[15]
    if (bits, order, machine) != (1, 1, _I386):
        raise ValueError("expected an ELF file of 32 bits for the i386")
    if kind == _RELOCATABLE:
        raise ValueError("expected an executable ELF file, got one that is not linked")
    if size < _PROGRAM_HEADER.size:
        raise ValueError(f"expected program headers of 32 bytes, got {size}")
    loaded, linked = [], []
    for number in range(count):
        kind, offset, virtual, address, in_file, in_memory, _, _ = _PROGRAM_HEADER.unpack_from(
            data, table + number * size
        )
        if kind != _LOAD or not in_memory:
            continue
        memory -= in_memory
        if offset + in_file > len(data) or in_file > in_memory or memory < 0:
            raise ValueError(f"segment {number} lies outside the file, or is too large")
        loaded.append((address, data[offset : offset + in_file].ljust(in_memory, b"\0")))
        linked.append((virtual, address, in_memory))
    if not loaded:
        raise ValueError("no segment to load")
    # Most linkers give the entry where its segment is linked, some kernels where it is loaded.
    physical = [(address, address, len(contents)) for address, contents in loaded]
    for at, address, size in (*linked, *physical):
        if 0 <= entry - at < size:
            return address + entry - at, tuple(loaded)
    raise ValueError(f"the entry point {entry:#x} lies in no segment to load")


# --- multiboot ---


@dataclass(frozen=True)
class _Header:
    """A multiboot header: its offset in the file, and whether it says what is loaded where."""

    offset: int
    has_addresses: bool


def _multiboot(data: bytes) -> _Header | None:
    words = struct.unpack_from(f"<{min(len(data), _MULTIBOOT_SEARCH) // 4}I", data)
    for index, (magic, flags, checksum) in enumerate(
        zip(words, words[1:], words[2:], strict=False)
    ):
        if magic == _MULTIBOOT_MAGIC and (magic + flags + checksum) % (1 << 32) == 0:
            return _Header(4 * index, bool(flags & _MULTIBOOT_ADDRESSES))
    return None


def _addressed(name: str, data: bytes, header: _Header, memory: int) -> Image:
    """A kernel of no known format, by the addresses of its header. Raises BadInput."""
    fields = data[header.offset + 12 :][: _ADDRESSES.size]
    if len(fields) < _ADDRESSES.size:
        raise BadInput(f"{name}: the multiboot header is cut short")
    at, first, end, bss_end, entry = _ADDRESSES.unpack(fields)
    offset = header.offset - (at - first)
    in_file = (end or first + len(data) - offset) - first
    in_memory = max(in_file, bss_end - first)
    if not (0 <= offset < offset + in_file <= len(data)) or in_memory > memory:
        raise BadInput(
            f"{name}: the multiboot header asks for bytes outside the file, or for too many"
        )
    loaded = data[offset : offset + in_file].ljust(in_memory, b"\0")
    return _started(name, entry, ((first, loaded),), memory)


def _started(name: str, entry: int, loaded: tuple[tuple[int, bytes], ...], memory: int) -> Image:
    """A kernel that gets multiboot's magic number and the size of memory."""
    info = struct.pack("<III", _INFO_MEMORY, 640, (memory - _HIGH) >> 10)
    rom = start.protected_mode(entry, _MULTIBOOT_LOADER, _INFO_AT)
    return Image(name, rom, (*loaded, (_INFO_AT, info.ljust(128, b"\0"))))

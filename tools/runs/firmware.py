"""Firmware of the distribution: SeaBIOS, and the expansion ROMs that QEMU gives its cards."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from coalesced.tools.errors import BadInput
from coalesced.tools.runs import files

BIOS: Final = "bios-256k.bin"
FOLDERS: Final = tuple(
    map(
        Path,
        ("/usr/share/seabios", "/usr/share/qemu", "/usr/lib/ipxe/qemu", "/usr/share/ipxe/qemu"),
    )
)
ROMS: Final = {
    "VGA": "vgabios-stdvga.bin",
    "cirrus-vga": "vgabios-cirrus.bin",
    "e1000": "efi-e1000.rom",
}
"""The expansion ROM of a device, by its name."""


def find(name: str) -> Path | None:
    """The first of FOLDERS that has the file."""
    return next((folder / name for folder in FOLDERS if (folder / name).is_file()), None)


def bios(given: str | None) -> bytes:
    """The BIOS of --bios, or SeaBIOS where Debian has it. Raises BadInput."""
    path = Path(given) if given is not None else find(BIOS)
    if path is None:
        raise BadInput(
            f"no {BIOS} in {', '.join(map(str, FOLDERS))}: apt install seabios, or --bios FILE"
        )
    contents = read(path)
    if len(contents) % 0x10000:
        raise BadInput(f"--bios {path}: expected a multiple of 64 KiB, got {len(contents)} bytes")
    return contents


def read(path: Path) -> bytes:
    """A firmware file, 1 byte to 16 MiB. Raises BadInput."""
    return files.read(path, 16, " of firmware")

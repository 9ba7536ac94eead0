"""Images to boot, and the conditions on which a boot ends."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from coalesced.tools.boot import images, start
from coalesced.tools.boot.until import Until, parse
from coalesced.tools.errors import BadInput
from coalesced.tools.runs import firmware

MEMORY = 16 << 20


def written(folder: Path, data: bytes, name: str = "image") -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


def sector(size: int = 512) -> bytes:
    return (b"\xf4".ljust(510, b"\0") + b"\x55\xaa").ljust(size, b"\1")


def elf(
    entry: int,
    *segments: tuple[int, bytes, int],
    bits: int = 1,
    machine: int = 3,
    kind: int = 2,
    linked: int = 0,
) -> bytes:
    """An ELF file with segments of (address, contents, size in memory), linked that much higher."""
    header = struct.pack(
        "<4sBBBBB7xHHIIIIIHHHHHH",
        *(b"\x7fELF", bits, 1, 1, 0, 0, kind, machine, 1, entry, 52, 0, 0, 52, 32, len(segments)),
        *(0, 0, 0),
    )
    at, table, body = 52 + 32 * len(segments), b"", b""
    for address, contents, size in segments:
        table += struct.pack(
            "<8I", 1, at + len(body), address + linked, address, len(contents), size, 7, 4096
        )
        body += contents
    return header + table + body


def test_a_boot_sector_becomes_a_floppy_of_a_standard_size(tmp_path: Path) -> None:
    found = images.load(written(tmp_path, sector()), None, True, MEMORY)
    assert (found.start, found.loaded, len(found.floppy)) == (None, (), 1440 << 10)
    assert found.floppy[:512] == sector()
    small = images.load(written(tmp_path, sector(720 << 10)), None, True, MEMORY)
    assert len(small.floppy) == 720 << 10


def test_without_a_bios_the_first_sector_lies_at_0x7c00(tmp_path: Path) -> None:
    found = images.load(written(tmp_path, sector(2048)), None, False, MEMORY)
    assert found.start == start.real_mode(0x7C00)
    assert found.loaded == ((0x7C00, sector()),)


@pytest.mark.parametrize("at", [0x8000, 0x12345, 0x100000])
def test_a_flat_binary_starts_where_it_is_loaded(tmp_path: Path, at: int) -> None:
    found = images.load(written(tmp_path, b"\xf4"), at, True, MEMORY)
    expected = start.protected_mode(at) if at >= 0x100000 else start.real_mode(at)
    assert (found.start, found.loaded) == (expected, ((at, b"\xf4"),))


def test_an_elf_file_is_loaded_by_its_segments(tmp_path: Path) -> None:
    data = elf(0x100003, (0x100000, b"code", 4), (0x200000, b"data", 16))
    found = images.load(written(tmp_path, data), None, True, MEMORY)
    assert found.start == start.protected_mode(0x100003)
    assert found.loaded == ((0x100000, b"code"), (0x200000, b"data".ljust(16, b"\0")))


@pytest.mark.parametrize("entry", [0xC0200004, 0x200004])
def test_a_kernel_linked_high_starts_where_its_entry_is_loaded(tmp_path: Path, entry: int) -> None:
    data = elf(entry, (0x100000, b"data", 4), (0x200000, b"code", 8), linked=0xC0000000)
    found = images.load(written(tmp_path, data), None, True, MEMORY)
    assert found.start == start.protected_mode(0x200004)
    assert found.loaded == ((0x100000, b"data"), (0x200000, b"code\0\0\0\0"))


def test_an_entry_counts_as_linked_before_it_counts_as_loaded(tmp_path: Path) -> None:
    data = elf(0x200000, (0x200000, b"data", 4), (0x100000, b"code", 4), linked=0x100000)
    found = images.load(written(tmp_path, data), None, True, MEMORY)
    assert found.start == start.protected_mode(0x100000)


def test_a_multiboot_kernel_gets_its_magic_and_the_size_of_memory(tmp_path: Path) -> None:
    magic, flags = 0x1BADB002, 2
    head = struct.pack("<III", magic, flags, -(magic + flags) % (1 << 32))
    data = elf(0x100000, (0x100000, head, len(head)))
    found = images.load(written(tmp_path, data), None, True, MEMORY)
    assert found.start == start.protected_mode(0x100000, 0x2BADB002, 0x500)
    address, info = found.loaded[-1]
    assert (address, struct.unpack_from("<III", info)) == (0x500, (1, 640, 15 << 10))


def multiboot(*addresses: int) -> bytes:
    """A kernel of 64 bytes that is no ELF file, with its header 8 bytes from its begin."""
    magic, flags = 0x1BADB002, 1 << 16
    words = (0, 0, magic, flags, -(magic + flags) % (1 << 32), *addresses)
    return struct.pack(f"<{len(words)}I", *words).ljust(64, b"\xf4")


@pytest.mark.parametrize(
    ("end", "bss_end", "in_file", "in_memory"),
    [(0, 0, 64, 64), (0x100030, 0, 48, 48), (0x100030, 0x100100, 48, 256)],
)
def test_a_multiboot_kernel_may_give_its_addresses(
    tmp_path: Path, end: int, bss_end: int, in_file: int, in_memory: int
) -> None:
    data = multiboot(0x100008, 0x100000, end, bss_end, 0x100020)
    found = images.load(written(tmp_path, data), None, True, MEMORY)
    assert found.start == start.protected_mode(0x100020, 0x2BADB002, 0x500)
    assert found.loaded[0] == (0x100000, data[:in_file].ljust(in_memory, b"\0"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (multiboot(0x100008)[:28], "the multiboot header is cut short"),
        *(
            (multiboot(*addresses), "asks for bytes outside the file, or for too many")
            for addresses in (
                (0x100008, 0x100000, 0x100041, 0, 0x100000),
                (0x100000, 0x100000, 0x100000, 0, 0x100000),
                (0x100008, 0x200000, 0x100000, 0, 0x100000),
                (0x200008, 0x100000, 0, 0, 0x100000),
                (0x100008, 0x100000, 0, 0xFFFFFFFF, 0x100000),
                (8, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0),
            )
        ),
        (b"", "expected 1 byte to 64 MiB"),
        (b"text", "expected a boot sector with 55 aa at byte 510, a bzImage, an ELF file, a "),
        (sector(3 << 20), "3145728 bytes: expected a floppy of at most 2949120"),
        (elf(0)[:40], "the ELF file is cut short"),
        (elf(0, bits=2), "expected an ELF file of 32 bits for the i386"),
        (elf(0, machine=62), "expected an ELF file of 32 bits for the i386"),
        (elf(0), "no segment to load"),
        (elf(0, kind=1), "expected an executable ELF file, got one that is not linked"),
        *(
            (elf(entry, (0x100000, b"code", 8)), f"entry point {entry:#x} lies in no segment")
            for entry in (0, 0xFFFFF, 0x100008)
        ),
        (elf(0, (0, b"code", 2)), "segment 0 lies outside the file, or is too large"),
        (elf(0, (0, b"code", 1 << 31)), "segment 0 lies outside the file, or is too large"),
    ],
)
def test_an_image_that_cannot_be_booted_is_one_line(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(BadInput) as error:
        images.load(written(tmp_path, data), None, True, MEMORY)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_start_rom_has_segments_that_the_processor_need_not_mark_as_used() -> None:
    rom = start.protected_mode(0x100000)
    size, at = struct.unpack_from("<HI", rom, 0x100)
    table = rom[at & 0xFFFF :][: size + 1]
    assert [each >> 40 & 1 for each in struct.unpack("<3Q", table)] == [0, 1, 1]


def test_a_start_rom_begins_at_the_reset_vector() -> None:
    for rom in (start.real_mode(0x7C00), start.protected_mode(0x100000)):
        assert len(rom) == 0x10000
        assert rom[0xFFF0:0xFFF5] == bytes.fromhex("ea000000f0")


@pytest.mark.parametrize(
    ("given", "expected"),
    [("hlt", Until()), ("2.5", Until(seconds=2.5)), ("login:", Until(text="login:"))],
)
def test_until_is_a_halt_seconds_or_a_text(given: str, expected: Until) -> None:
    assert parse(given) == expected


@pytest.mark.parametrize("given", ["", " ", "0", "-1", "1e9", "nan"])
def test_until_refuses_what_is_none_of_them(given: str) -> None:
    with pytest.raises(BadInput, match=r"^--until"):
        parse(given)


def test_a_bios_has_whole_blocks(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected a multiple of 64 KiB, got 100 bytes"):
        firmware.bios(written(tmp_path, bytes(100)))
    assert firmware.bios(written(tmp_path, bytes(0x20000))) == bytes(0x20000)
    with pytest.raises(BadInput, match="No such file"):
        firmware.bios(str(tmp_path / "none"))

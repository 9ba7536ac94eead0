"""From lines of QEMU's log to the guest's accesses: what is joined, what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from coalesced.hv.abi import OP_IN, OP_LOAD, OP_OUT, OP_STORE
from coalesced.tools import traces
from coalesced.tools.traces.trace import Trace, read


def line(
    kind: str, address: int, value: int, size: int = 1, *, mr: int = 0x55D0, cpu: int = 0,
    name: str | None = "vga-lowmem",
) -> str:  # fmt: skip
    named = "" if name is None else f" name '{name}'"
    return (
        f"memory_region_ops_{kind} cpu {cpu} mr {mr:#x} addr {address:#x} value {value:#x} "
        f"size {size}{named}\n"
    )


def accesses(tmp_path: Path, *lines: str) -> Trace:
    path = tmp_path / "t.trace"
    path.write_text("".join(lines))
    return read(path)


# --- pieces ---


def test_the_two_bytes_of_a_text_cell_are_one_access(tmp_path: Path) -> None:
    trace = accesses(
        tmp_path,
        line("write", 0xB8000, 0x41),
        line("write", 0xB8001, 0x07),
        line("write", 0xB8002, 0x42),
        line("write", 0xB8003, 0x17),
        line("read", 0xB8002, 0x42),
        line("read", 0xB8003, 0x17),
    )
    assert trace.ops.tolist() == [
        (OP_STORE, 2, 0xB8000, 0x0741),
        (OP_STORE, 2, 0xB8002, 0x1742),
        (OP_LOAD, 2, 0xB8002, 0x1742),
    ]
    assert trace.lines.tolist() == [1, 3, 5]
    assert trace.counted.joined == 3


@pytest.mark.parametrize(
    "lines",
    [
        (line("write", 0xB8001, 1), line("write", 0xB8002, 2)),  # of two cells
        (line("write", 0xB8001, 1), line("write", 0xB8000, 2)),  # QEMU goes upwards
        (line("write", 0xB8000, 1), line("read", 0xB8001, 2)),
        (line("write", 0xB8000, 1), line("write", 0xB8001, 2, mr=0x66)),
        (line("write", 0xB8000, 1), line("write", 0xB8001, 2, cpu=1)),
        (line("write", 0xB8000, 1), line("write", 0xB8003, 2)),
        (line("write", 0xB8000, 1), line("write", 0x3C4, 2, name="vga"), line("write", 0xB8001, 2)),
        (line("write", 0xA0000, 1), line("write", 0xA0001, 2)),  # a font goes byte by byte
        (line("write", 0xB8000, 1, 2), line("write", 0xB8002, 2, 2)),
        (line("write", 0x20, 0x11, name="pic"), line("write", 0x21, 0x08, name="pic")),
        (line("write", 0x3C8, 0, name="cirrus-io"), line("write", 0x3C9, 0, name="cirrus-io")),
        (line("write", 0x3C4, 0, name="vga"), line("write", 0x3C5, 0, name="vga")),
        (line("write", 0xB8000, 1, name="x"), line("write", 0xB8001, 2, name="x")),
        (line("write", 0xB8000, 1, mr=1 << 63), line("write", 0xB8001, 2, mr=1 << 63)),
    ],
)
def test_neighbours_that_were_no_word_stay_apart(tmp_path: Path, lines: tuple[str, ...]) -> None:
    trace = accesses(tmp_path, *lines)
    assert len(trace.ops) == len(lines)
    assert trace.counted.joined == 0


@pytest.mark.parametrize(
    ("name", "address", "kind"),
    [
        ("vga-lowmem", 0xBFFFE, OP_STORE),
        ("vga-lowmem", 0xB0000, OP_STORE),
        ("cirrus-low-memory", 0xB8000, OP_STORE),
        (None, 0xB8000, OP_STORE),
        ("cirrus-io", 0x3C4, OP_OUT),
        ("cirrus-io", 0x3CE, OP_OUT),
        ("cirrus-io", 0x3D4, OP_OUT),
        ("cirrus-io", 0x3B4, OP_OUT),
    ],
)
def test_where_words_are_split(tmp_path: Path, name: str | None, address: int, kind: int) -> None:
    first, second = (line("write", address + n, n + 1, name=name) for n in range(2))
    assert accesses(tmp_path, first, second).ops.tolist() == [(kind, 2, address, 0x0201)]


def test_lines_of_another_vcpu_or_program_in_between_part_no_access(tmp_path: Path) -> None:
    trace = accesses(
        tmp_path,
        line("write", 0xB8000, 1),
        line("write", 0xB8100, 3, cpu=1),
        "qemu-system-x86_64: terminating on signal 15 from pid 1\n",
        line("write", 0xFEE00000, 0, 4, cpu=-1, name="apic-msi"),
        line("write", 0xB8001, 2),
        line("write", 0xB8101, 4, cpu=1),
    )
    assert trace.ops.tolist() == [(OP_STORE, 2, 0xB8000, 0x201), (OP_STORE, 2, 0xB8100, 0x403)]
    assert trace.lines.tolist() == [1, 2]
    assert (trace.counted.lines, trace.counted.no_vcpu, trace.counted.joined) == (5, 1, 2)


@pytest.mark.slow
def test_a_recorded_boot_has_as_many_accesses_as_its_guest_made() -> None:
    """Of 95,453 bytes in the window 87,002 are halves of cells; 8,192 are a font's."""
    trace = read(traces.find("boot"))
    assert len(trace.ops) == 55_242
    assert trace.counted.joined == 43_501
    font = (trace.ops["address"] >= 0xA0000) & (trace.ops["address"] < 0xB0000)
    assert font.sum() == (font & (trace.ops["size"] == 1)).sum() == 8_192


@pytest.mark.slow
def test_a_network_card_takes_its_registers_whole() -> None:
    trace = read(traces.find("e1000"))
    assert len(trace.ops) == trace.counted.lines == 153_069


# --- an access that was handed on ---

OUTER, INNER = 0x100, 0x200


def outer(kind: str, value: int, size: int, address: int = 0xFE00_0000) -> str:
    return line(kind, address, value, size, mr=OUTER, name="outer")


def inner(kind: str, value: int, size: int, address: int = 0xFE00_0000) -> str:
    return line(kind, address, value, size, mr=INNER, name="inner")


def test_an_access_that_was_handed_on_counts_once(tmp_path: Path) -> None:
    """The inner line comes after the outer one of a write, before that of a read."""
    trace = accesses(
        tmp_path,
        outer("write", 7, 4),
        inner("write", 7, 4),
        inner("read", 9, 4),
        outer("read", 9, 4),
    )
    assert trace.ops.tolist() == [(OP_STORE, 4, 0xFE00_0000, 7), (OP_LOAD, 4, 0xFE00_0000, 9)]
    assert [trace.names[n] for n in trace.region] == ["outer", "outer"]
    assert trace.counted.nested == 2


@pytest.mark.parametrize("size", [1, 2])
def test_the_inner_region_may_take_it_in_pieces(tmp_path: Path, size: int) -> None:
    value = 0x44332211
    pieces = [
        (value >> 8 * n & (1 << 8 * size) - 1, size, 0xFE00_0000 + n) for n in range(0, 4, size)
    ]
    trace = accesses(
        tmp_path,
        outer("write", value, 4),
        *(inner("write", *piece) for piece in pieces),
        *(inner("read", *piece) for piece in pieces),
        outer("read", value, 4),
    )
    assert trace.ops["value"].tolist() == [value, value]
    assert trace.counted.nested == 2 * len(pieces)


@pytest.mark.parametrize(
    "lines",
    [
        (outer("write", 7, 4), inner("write", 8, 4)),
        (outer("write", 7, 4), inner("write", 7, 2)),
        (outer("write", 7, 4), inner("write", 7, 4, 0xFE00_0004)),
        (outer("write", 7, 4), inner("read", 7, 4)),
        (outer("write", 7, 4), outer("write", 7, 4)),
        (
            line("write", 0x20, 0x11, mr=OUTER, name="pic"),
            line("write", 0xA0, 0x11, mr=INNER, name="pic"),
        ),
        (outer("write", 7, 4), line("write", 0xFE00_0000, 7, 4, mr=INNER, cpu=1)),
    ],
)
def test_two_accesses_stay_two(tmp_path: Path, lines: tuple[str, ...]) -> None:
    assert len(accesses(tmp_path, *lines).ops) == len(lines)


def test_ports_are_told_from_memory_by_address_and_width(tmp_path: Path) -> None:
    trace = accesses(
        tmp_path, line("read", 0xFFFC, 1, 4, name="io"), line("read", 0x10000, 1, 4, name="m")
    )
    assert trace.ops["kind"].tolist() == [OP_IN, OP_LOAD]

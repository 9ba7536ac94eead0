"""Reading QEMU's traces: every form of a line, and every way of being damaged."""

from __future__ import annotations

import codecs
import gzip
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from coalesced.hv.abi import OP_IN, OP_LOAD, OP_OUT, OP_STORE
from coalesced.tools import traces
from coalesced.tools.errors import BadInput
from coalesced.tools.traces import loads
from coalesced.tools.traces.source import Limits
from coalesced.tools.traces.trace import read, shown

GOOD = "memory_region_ops_write cpu 0 mr 0x55d0 addr 0xa0010 value 0x41 size 1 name 'vga-lowmem'"


def trace_of(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "t.trace"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- what a line may look like ---


@pytest.mark.parametrize(
    ("line", "op"),
    [
        (GOOD, (OP_STORE, 1, 0xA0010, 0x41)),
        (GOOD.replace("write", "read"), (OP_LOAD, 1, 0xA0010, 0x41)),
        ("1234@1700000000.123456:" + GOOD, (OP_STORE, 1, 0xA0010, 0x41)),
        (GOOD + "\r", (OP_STORE, 1, 0xA0010, 0x41)),
        (GOOD.partition(" name")[0], (OP_STORE, 1, 0xA0010, 0x41)),
        (GOOD.replace("cpu 0", "cpu 17"), (OP_STORE, 1, 0xA0010, 0x41)),
        (GOOD.replace("0x55d0", "(nil)"), (OP_STORE, 1, 0xA0010, 0x41)),
        (GOOD.replace("0xa0010", "0x3c4"), (OP_OUT, 1, 0x3C4, 0x41)),
        (GOOD.replace("0xa0010", "0x3c4").replace("write", "read"), (OP_IN, 1, 0x3C4, 0x41)),
        (GOOD.replace("0xa0010", "0xffff"), (OP_OUT, 1, 0xFFFF, 0x41)),
        (GOOD.replace("0xa0010", "0x10000"), (OP_STORE, 1, 0x10000, 0x41)),
        (GOOD.replace("0xa0010", "0x" + "f" * 16), (OP_STORE, 1, (1 << 64) - 1, 0x41)),
        (GOOD.replace("size 1", "size 8"), (OP_STORE, 8, 0xA0010, 0x41)),
        (GOOD.replace("vga-lowmem", "vga ioports remapped"), (OP_STORE, 1, 0xA0010, 0x41)),
        (
            GOOD.replace("0x41", "0xfedcba9876543210").replace("size 1", "size 8"),
            (OP_STORE, 8, 0xA0010, 0xFEDCBA9876543210),
        ),
        # A port takes no such access: a board may have memory there.
        (
            GOOD.replace("0xa0010", "0xffff").replace("size 1", "size 2"),
            (OP_STORE, 2, 0xFFFF, 0x41),
        ),
        (GOOD.replace("0xa0010", "0x3c4").replace("size 1", "size 8"), (OP_STORE, 8, 0x3C4, 0x41)),
    ],
)
def test_forms_of_a_line(tmp_path: Path, line: str, op: tuple[int, int, int, int]) -> None:
    assert read(trace_of(tmp_path, line + "\n")).ops.tolist() == [op]


@pytest.mark.parametrize(("size", "value"), [(1, 0xFF), (2, 0xFFFF), (4, 0xFFFFFFFF)])
def test_a_value_wider_than_the_access_is_cut_to_it(tmp_path: Path, size: int, value: int) -> None:
    """QEMU traces what the device returned before it masks it."""
    line = GOOD.replace("write", "read").replace("0x41", "0x" + "f" * 16)
    trace = read(trace_of(tmp_path, line.replace("size 1", f"size {size}")))
    assert trace.ops["value"].tolist() == [value]


def test_lines_names_and_kinds_are_kept(tmp_path: Path) -> None:
    port = GOOD.replace("0xa0010", "0x3c4").replace("vga-lowmem", "vga").replace("write", "read")
    trace = read(trace_of(tmp_path, f"{GOOD}\n\n  \r\n{port}\r\n{GOOD}"))
    assert trace.lines.tolist() == [1, 4, 5]
    assert [trace.names[index] for index in trace.region] == ["vga-lowmem", "vga", "vga-lowmem"]
    assert trace.reads.tolist() == [False, True, False]


def test_a_compressed_trace_is_the_same_whatever_its_name(tmp_path: Path) -> None:
    plain = read(trace_of(tmp_path, GOOD + "\n")).ops.tolist()
    assert read(trace_of(tmp_path, gzip.compress(GOOD.encode()))).ops.tolist() == plain
    halves = gzip.compress(GOOD.encode()[:20]) + gzip.compress(GOOD.encode()[20:])
    assert read(trace_of(tmp_path, halves)).ops.tolist() == plain


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_editors_mark_of_utf_8_and_its_ends_of_lines_change_nothing(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    text = f"{GOOD}\n{GOOD.replace('0xa0010', '0xa0011')}\n".encode()
    plain = read(trace_of(tmp_path, text))
    edited = read(trace_of(tmp_path, pack(codecs.BOM_UTF8 + text.replace(b"\n", b"\r\n"))))
    assert edited.ops.tolist() == plain.ops.tolist()
    assert edited.foreign == 0


@pytest.mark.parametrize(
    "wrapping",
    [
        "719585@1608130130.441188:",
        "2026-01-31T12:34:56.123456Z ",
        "2026-01-31T12:34:56Z",
        " qemu-system-x86-1490    [001] .....  4658.757784: tracing_mark_write: ",
        "       CPU 0/KVM-1490    (  1480) [001] .....  4658.757784: tracing_mark_write: ",
        "Jan  3 09:00:01 host qemu-system-x86_64[123]: ",
        "2026-01-31T12:34:56.1+02:00 host qemu-system-x86_64[123]: ",
        "my memory log: ",
        " ",
    ],
)
def test_a_wrapping_around_the_event_is_taken_off(tmp_path: Path, wrapping: str) -> None:
    trace = read(trace_of(tmp_path, f"{wrapping}{GOOD}\n{wrapping}{GOOD}\n"))
    assert trace.ops.tolist() == [(OP_STORE, 1, 0xA0010, 0x41)] * 2
    assert trace.names == ["vga-lowmem"]
    assert trace.foreign == 0


# --- lines that are no accesses ---


@pytest.mark.parametrize(
    "line",
    [
        "qemu-system-x86_64: terminating on signal 15 from pid 27188 (timeout)",
        "qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.01H:ECX.pni",
        "vga_std_write_io addr 0x3c4, val 0x1",
        "# tracer: nop",
        "hello",
        GOOD.replace("ops_write", "ops_wrote"),
        GOOD.replace("0xa0010", "a0010"),
        GOOD.replace("0xa0010", "0xA0010"),
        GOOD.replace("0xa0010", "0x1" + "0" * 16),
        GOOD.replace("0xa0010", "0x"),
        GOOD.replace("0x41", "0x1" + "0" * 16),
        GOOD.replace("0x41", "-1"),
        GOOD.replace("0x41", ""),
        *(GOOD.replace("size 1", f"size {size}") for size in ("0", "9", "16", "x", "-1", "11")),
        GOOD.replace("0xa0010", "0x" + "f" * 16).replace("size 1", "size 2"),
        GOOD.replace("cpu 0 ", ""),
        GOOD.replace("cpu 0", "cpu a"),
        GOOD.replace("mr 0x55d0 ", ""),
        GOOD.replace("name 'vga-lowmem'", "name 'vga"),
        GOOD.replace("name 'vga-lowmem'", "name ''vga'"),
        GOOD.replace("vga-lowmem", "v" * 1000),
        GOOD + " more",
        "x" + GOOD,
        GOOD[: len(GOOD) // 2],
        GOOD + GOOD,
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
        "\0\x1b[31m",
    ],
)
def test_what_is_no_access_is_skipped_counted_and_the_first_named(
    tmp_path: Path, line: str
) -> None:
    text = f"{GOOD}\n\n{line}\n{GOOD}\n{line}"
    trace = read(trace_of(tmp_path, text.encode("latin-1")))
    assert trace.ops.tolist() == [(OP_STORE, 1, 0xA0010, 0x41)] * 2
    assert trace.lines.tolist() == [1, 4]
    assert trace.foreign == 2
    assert trace.first_foreign == (3, line.encode("latin-1"))
    assert shown(trace.first_foreign).isprintable()


def test_of_a_long_line_only_the_beginning_is_shown(tmp_path: Path) -> None:
    trace = read(trace_of(tmp_path, "x" * 10000 + "\n" + GOOD))
    assert trace.first_foreign is not None
    assert shown(trace.first_foreign) == f"'{'x' * 80}' …"


def test_events_whose_addresses_are_offsets_are_counted_apart(tmp_path: Path) -> None:
    text = (
        "memory_region_ram_device_read cpu 0 mr 0x55d0c0a00000 addr 0x10 value 0x8 size 4\n"
        "memory_region_ram_device_write cpu 0 mr 0x55d0c0a00000 addr 0x14 value 0x1 size 4\n"
        "memory_region_subpage_write cpu 0 mr 0x55d0c0b00000 offset 0x40 value 0xff size 1\n"
    )
    trace = read(trace_of(tmp_path, text))
    assert len(trace.ops) == trace.foreign == 0
    assert trace.apart == {"memory_region_ram_device": 2, "memory_region_subpage": 1}


def test_what_no_vcpu_did_is_left_out(tmp_path: Path) -> None:
    alone = GOOD.replace("cpu 0", "cpu -1")
    trace = read(trace_of(tmp_path, f"{alone}\n{GOOD}\n{alone}\n"))
    assert trace.lines.tolist() == [2]
    assert (trace.counted.lines, trace.counted.no_vcpu) == (3, 2)
    with pytest.raises(BadInput, match=r"of a vCPU, got 2 of cpu -1, which is no vCPU$"):
        read(trace_of(tmp_path, f"{alone}\n{alone}\n"))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("vfio_region_write  (0000:01:00.0:region0+0x10, 0x1, 4)", "vfio"),
        ("cpu_in addr 0x3c4(b) value 1", "cpu_in"),
        ("\x7fELF", "binary"),
        ("PERFILE2h", "perf script"),
        ("\x17\x08Dtracing6", "trace-cmd report"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_its_name(
    tmp_path: Path, text: str, kind: str
) -> None:
    with pytest.raises(BadInput, match=rf"expected at least one line .*, found .*{kind}") as raised:
        read(trace_of(tmp_path, f"\n{text}\n"[1:]))
    assert "; line 1 is " in str(raised.value)


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_text_in_utf_16_is_refused_by_its_name(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "t"
    path.write_bytes(f"\ufeff{GOOD}\n".encode(codec))
    with pytest.raises(BadInput, match="found text in UTF-16, which is not read"):
        read(path)


# --- damage ---


@pytest.mark.parametrize("content", ["", "\n", " \r\n\n", gzip.compress(b"", mtime=0)])
def test_a_trace_without_an_access_is_refused(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(BadInput, match="expected at least one line"):
        read(trace_of(tmp_path, content))


def test_a_gzip_file_cut_or_changed_anywhere_is_refused_or_read_whole(tmp_path: Path) -> None:
    """Never an exception of another kind."""
    whole = gzip.compress((GOOD + "\n").encode() * 50)
    for end in range(2, len(whole)):
        with pytest.raises(BadInput, match="expected a whole gzip file"):
            read(trace_of(tmp_path, whole[:end]))
    choose = random.Random(5)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[choose.randrange(2, len(whole))] ^= 1 << choose.randrange(8)
        try:
            trace = read(trace_of(tmp_path, bytes(damaged)))
        except BadInput:
            continue
        assert len(trace.ops) == 50


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^trace .*nothing: No such file or directory$"):
        read(tmp_path / "nothing")
    with pytest.raises(BadInput, match=r": Is a directory$"):
        read(tmp_path)
    with pytest.raises(BadInput, match=r"expected a file or a pipe"):
        read(Path("/dev/zero"))


# --- what takes too much ---


def test_a_fifo_is_read_to_its_end_and_not_waited_for_without_a_writer(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(BadInput, match="nobody wrote to this FIFO"):
        read(fifo, Limits(writer=0.05))
    text = gzip.compress((GOOD + "\n").encode() * 100_000)
    writer = threading.Thread(target=fifo.write_bytes, args=(text,))
    writer.start()
    assert len(read(fifo, Limits(writer=60.0)).ops) == 100_000
    writer.join()


def test_a_line_without_an_end_is_refused_before_it_fills_memory(tmp_path: Path) -> None:
    bomb = gzip.compress(b"\0" * (1 << 26), 1)
    with pytest.raises(BadInput, match="line 2: expected a line of text, it does not end within"):
        read(trace_of(tmp_path, gzip.compress((GOOD + "\n").encode()) + bomb))


def test_more_text_than_the_limit_is_refused(tmp_path: Path) -> None:
    path = trace_of(tmp_path, gzip.compress(b"hello\n" * (1 << 20)))
    with pytest.raises(BadInput, match="expected at most 1 MiB of text, got more"):
        read(path, Limits(block=1 << 16, text=1 << 20))


def test_more_accesses_than_the_limit_are_refused(tmp_path: Path) -> None:
    assert len(read(trace_of(tmp_path, f"{GOOD}\n" * 3), Limits(accesses=3)).ops) == 3
    with pytest.raises(BadInput, match="expected at most 3 accesses, got more"):
        read(trace_of(tmp_path, f"{GOOD}\n" * 4), Limits(accesses=3))


@pytest.mark.parametrize("size", [1, 7, 64, 89, 90, 91, 4096])
def test_where_a_block_ends_makes_no_difference(tmp_path: Path, size: int) -> None:
    text = f"hello\n{GOOD}\n\n" * 20 + GOOD
    whole = read(trace_of(tmp_path, text))
    cut = read(trace_of(tmp_path, text), Limits(block=size))
    assert cut.ops.tolist() == whole.ops.tolist()
    assert cut.lines.tolist() == whole.lines.tolist()
    assert (cut.foreign, cut.first_foreign) == (20, (1, b"hello"))


# --- recorded traces, and what of a trace repeats ---


@pytest.mark.parametrize("name", list(traces.RECORDED))
def test_the_recorded_traces_are_whole(name: str) -> None:
    assert len(read(traces.find(name)).ops) > 10_000


def test_a_file_wins_over_a_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert traces.find("boot").suffix == ".gz"
    (tmp_path / "boot").write_text(GOOD)
    assert traces.find("boot") == Path("boot")


def test_only_reads_that_touch_a_status_register_depend_on_time(tmp_path: Path) -> None:
    lines = [
        ("read", 0x3DA, 1),  # status 1, colour
        ("read", 0x3D9, 2),  # its upper half is status 1
        ("read", 0x3D8, 2),
        ("read", 0x3BA, 1),  # status 1, monochrome
        ("write", 0x3DA, 1),  # a feature control register
        ("read", 0x3DB, 1),
        ("read", 0x1003DA, 1),  # memory
    ]
    text = "".join(
        GOOD.replace("write", kind).replace("0xa0010", f"{at:#x}").replace("size 1", f"size {size}")
        + "\n"
        for kind, at, size in lines
    )
    found = loads.unchecked(read(trace_of(tmp_path, text)))
    assert {name: mask.nonzero()[0].tolist() for name, mask in found.items()} == {
        "VGA status 1 (0x3da)": [0, 1],
        "VGA status 1 (0x3ba)": [3],
    }
    assert loads.unchecked(read(trace_of(tmp_path, GOOD))) == {}


def test_loads_of_a_network_card_are_left_out_as_a_whole_or_in_part(tmp_path: Path) -> None:
    line = "memory_region_ops_read cpu 0 mr 0x1 addr {:#x} value {:#x} size {} name '{}'\n"
    status, mdic = 0x8008_0783, 0x1820_0000  # of PHY 1, and ready
    reads = [
        (0x08, status, 4, "e1000-mmio"),
        (0x09, 0x83, 1, "e1000-mmio"),  # a part of a register shows its lowest byte
        (0xC0, 0, 4, "e1000-mmio"),
        (0xC4, 0, 4, "e1000-mmio"),
        (0xC8, 0, 2, "e1000-mmio"),
        (0x2810, 0, 4, "e1000-mmio"),
        (0x3810, 0, 4, "e1000-mmio"),
        (0x4000, 0, 4, "e1000-mmio"),
        (0x40FC, 0, 4, "e1000-mmio"),
        (0x4100, 0, 4, "e1000-mmio"),
        (0x20, mdic | 1 << 16, 4, "e1000-mmio"),
        (0x20, mdic | 5 << 16, 4, "e1000-mmio"),
        (0x20, mdic | 4 << 16, 4, "e1000-mmio"),
        (0x20, mdic | 3 << 21 | 1 << 16, 4, "e1000-mmio"),  # another PHY
        (0xC0, 0, 4, "vga"),
    ]
    text = "".join(line.format(0xFEBC_0000 + at, *rest) for at, *rest in reads)
    trace = read(
        trace_of(
            tmp_path, text + line.replace("read", "write").format(0xFEBC_0008, 0, 4, "e1000-mmio")
        )
    )
    whole = {name: mask.nonzero()[0].tolist() for name, mask in loads.unchecked(trace).items()}
    assert whole == {
        "e1000 ICR": [2],
        "e1000 ICS": [4],
        "e1000 RDH": [5],
        "e1000 TDH": [6],
        "e1000 statistics": [7, 8],
    }
    part = {
        name: (mask.nonzero()[0].tolist(), bits)
        for name, (mask, bits) in loads.masked(trace).items()
    }
    assert part == {
        "e1000 STATUS: link": ([0, 1], 0x2),
        "e1000 MDIC, PHY 1 BMSR: link": ([10], 0x24),
        "e1000 MDIC, PHY 1 ANLPAR: acknowledged": ([11], 0x4000),
    }

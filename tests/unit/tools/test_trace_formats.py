"""The formats of recordings: the lines of each, and the events read from them."""

from __future__ import annotations

import gzip
import lzma
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard

from coalesced.tools.errors import BadInput
from coalesced.tools.traces.events import Kind
from coalesced.tools.traces.formats import FORMATS
from coalesced.tools.traces.scan import scan
from coalesced.tools.traces.trace import Recording, read, read_events

QEMU = "memory_region_ops_write cpu 0 mr 0x55d0 addr 0xa0010 value 0x41 size 1 name 'vga-lowmem'"
FTRACE = " qemu-system-x86-375     [000] .....  3387.782553: "
MMIO_FIELDS = "len=0x2 (2) gpa=0xa1828 (661544) val=0x12 (18)"
PIO_FIELDS = "port=0x70 (112) size=0x1 (1) count=0x1 (1) val=0x8f (143)"
PERF = " qemu-system-x86 11183 [000]  1128.968390:            kvm:"
SIMPLE = "memory_region_ops_read 1.2 pid=7 cpu_index=0x1 mr=0x9 addr=0xa0010 value=0x41 size=0x1"
MMIOTRACE = "W 4 432.180211 1 0xb000005c 0xfa02003 0x0 0"


def recording(tmp_path: Path, *lines: str) -> Recording:
    path = tmp_path / "t.txt"
    path.write_bytes("\n".join(lines).encode())
    return read_events(path)


def rows(found: Recording) -> list[tuple[int, int, int, int, int]]:
    e = found.events
    return list(
        zip(
            e.kind.tolist(), e.thread.tolist(), e.address.tolist(), e.value.tolist(),
            e.size.tolist(), strict=True,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ("kvm_mmio: mmio write len 4 gpa 0xfebc0010 val 0x12", (Kind.STORE, 0xFEBC0010, 0x12, 4)),
        ("kvm_mmio: mmio read len 3 gpa 0xfebc0010 val 0x12", (Kind.LOAD, 0xFEBC0010, 0x12, 3)),
        (
            "kvm_mmio: mmio unsatisfied-read len 8 gpa 0xfebc0010 val 0x0",
            (Kind.LOAD_BEGINS, 0xFEBC0010, 0, 8),
        ),
        ("kvm_pio: pio_write at 0x3c2 size 1 count 1 val 0xe3 ", (Kind.OUT, 0x3C2, 0xE3, 1)),
        ("kvm_pio: pio_read at 0x1f0 size 2 count 256 val 0x1 (...)", (Kind.IN, 0x1F0, 1, 2)),
        ("kvm_fast_mmio: fast mmio at gpa 0xfe003000", (Kind.IOEVENTFD, 0xFE003000, 0, 0)),
        ("kvm_userspace_exit: reason KVM_EXIT_MMIO (6)", (Kind.EXIT_MMIO, 0, 0, 0)),
        ("kvm_userspace_exit: reason KVM_EXIT_IO (2)", (Kind.EXIT_IO, 0, 0, 0)),
        ("kvm_userspace_exit: reason restart (4)", (Kind.EXIT_OTHER, 0, 0, 0)),
        # ftrace's option fields
        (f"kvm_mmio: type=0x2 (2) {MMIO_FIELDS}", (Kind.STORE, 0xA1828, 0x12, 2)),
        (f"kvm_mmio: type=0x1 (1) {MMIO_FIELDS}", (Kind.LOAD, 0xA1828, 0x12, 2)),
        (f"kvm_mmio: type=0x0 (0) {MMIO_FIELDS}", (Kind.LOAD_BEGINS, 0xA1828, 0x12, 2)),
        (f"kvm_pio: rw=0x1 (1) {PIO_FIELDS}", (Kind.OUT, 0x70, 0x8F, 1)),
        (f"kvm_pio: rw=0x0 (0) {PIO_FIELDS}", (Kind.IN, 0x70, 0x8F, 1)),
        ("kvm_fast_mmio: gpa=0xfe003000 (4261425152)", (Kind.IOEVENTFD, 0xFE003000, 0, 0)),
        ("kvm_userspace_exit: reason=0x6 (6) errno=0x0 (0)", (Kind.EXIT_MMIO, 0, 0, 0)),
        ("kvm_userspace_exit: reason=0x2 (2) errno=0x0 (0)", (Kind.EXIT_IO, 0, 0, 0)),
        ("kvm_userspace_exit: reason=0x5 (5) errno=0x0 (0)", (Kind.EXIT_HLT, 0, 0, 0)),
        ("kvm_userspace_exit: reason=0x2 (2) errno=0xfffffffc (-4)", (Kind.EXIT_OTHER, 0, 0, 0)),
    ],
)
@pytest.mark.parametrize(
    ("prefix", "thread", "time"),
    [
        (FTRACE, 375, 3_387_782_553_000),
        ("       CPU 0/KVM-1490    (  1480) [001] ..... 1.25: ", 1490, 1_250_000_000),
        ("  qemu-kvm-17 [001]  1.000000001: ", 17, 1_000_000_001),
        # ftrace's option latency-format, and trace-cmd report -l
        ("qemu-sys-375     0..... 14756558146us+: ", 375, 14_756_558_146_000),
        ("   CPU 0-1490   12d..1.   17us : ", 1490, 17_000),
        ("qemu-sys-375     1..... 14756.558146:  ", 375, 14_756_558_146_000),
        (PERF, 11183, 1_128_968_390_000),
        (" CPU 0/KVM 7 [01] 12.000001:   kvm:", 7, 12_000_001_000),
        (" qemu 370/375 [001] 12.000001:   kvm:", 375, 12_000_001_000),
        (" qemu-kvm 375  12.000001:   kvm:", 375, 12_000_001_000),
        (" python3.11  375 [001]  kvm:", 375, -1),
        (" qemu-kvm-375 [001] ..... ", 375, -1),
        (" [k] 12 CPU 0/KVM 375   kvm:", 375, -1),
        ("", 0, -1),
    ],
)
def test_a_line_of_kvm_behind_every_prefix(
    tmp_path: Path, line: str, row: tuple[int, int, int, int], prefix: str, thread: int, time: int
) -> None:
    good = f"{prefix}kvm_pio: pio_write at 0x80 size 1 count 1 val 0x1 "
    found = recording(tmp_path, good, f"{prefix}{line}")
    kind, *rest = row
    assert rows(found)[1] == (kind, thread, *rest)
    assert found.events.time.tolist() == [time, time]
    assert found.reader.foreign == 0


@pytest.mark.parametrize(
    ("line", "row"),
    [
        (SIMPLE + " name=b'vga'", (Kind.LOAD, 1, 0xA0010, 0x41, 1)),
        (SIMPLE.replace("0xa0010", "0x3c4"), (Kind.IN, 1, 0x3C4, 0x41, 1)),
        (MMIOTRACE, (Kind.STORE, 0, 0xB000005C, 0xFA02003, 4)),
        ("R 8 1.000001 1 0x10 0x2 0xffffffffc0 0", (Kind.LOAD, 0, 0x10, 2, 8)),
    ],
)
def test_a_line_of_the_other_formats(
    tmp_path: Path, line: str, row: tuple[int, int, int, int, int]
) -> None:
    assert rows(recording(tmp_path, line)) == [row]


def test_times_of_qemus_log_are_read(tmp_path: Path) -> None:
    found = recording(tmp_path, f"12@1608130130.441188:{QEMU}", QEMU)
    assert found.events.time.tolist() == [1_608_130_130_441_188_000, -1]


def test_a_string_instruction_is_not_replayed(tmp_path: Path) -> None:
    """Only its first value is known."""
    pio = f"{FTRACE}kvm_pio: pio_write at 0x1f0 size 2 count "
    found = recording(tmp_path, f"{pio}256 val 0x1 (...)", f"{pio}1 val 0x2 ")
    assert found.events.count.tolist() == [256, 1]
    replayed = read(found.path)
    assert replayed.ops["value"].tolist() == [2]
    assert replayed.strings == {"0x1f0": 1}
    with pytest.raises(BadInput, match=r"and 1 string instructions, which have no values"):
        read(recording(tmp_path, f"{pio}256 val 0x1 (...)").path)


def test_lost_events_chatter_and_a_cut_line_are_counted(tmp_path: Path) -> None:
    found = recording(
        tmp_path,
        "# tracer: nop",
        f"{FTRACE}kvm_pio: pio_write at 0x80 size 1 count 1 val 0x1 ",
        "CPU:1 [LOST 45 EVENTS]",
        "CPU:0 [EVENTS DROPPED]",
        f"{FTRACE}sched_switch: prev_comm=x",
        f"{FTRACE}kvm_entry: vcpu 0, rip 0x1",
        f"{FTRACE}kvm_mmio: mmio write len 4 gpa 0xfe",
    )
    assert len(found.events) == 1
    assert found.reader.counts == {Kind.LOST: 2, Kind.KNOWN: 1}
    assert found.reader.foreign == 3
    assert found.reader.first_foreign == (1, b"# tracer: nop")


def test_marks_of_mmiotrace_are_no_accesses(tmp_path: Path) -> None:
    found = recording(
        tmp_path,
        "VERSION 20070824",
        "PCIDEV 0010 80860f31 61 b0000000 0 a0000008 0 e081 0 c0002 400000 0 0 0 8 0 20000 i915",
        "MAP 432.175965 1 0xb0000000 0xffffa524801ab000 0x1000 0x0 0",
        MMIOTRACE,
        "MARK 0.000000 Lost 12 events.",
        "MARK 1.000000 W 4 here",
        "UNKNOWN 432.180300 1 0xb0000060 0f,b6,00 0x0 0",
    )
    assert len(found.events) == 1
    assert found.reader.counts == {Kind.LOST: 1, Kind.NO_VALUE: 1, Kind.KNOWN: 4}
    assert found.reader.foreign == 0


def test_a_file_without_an_access_names_what_was_seen_and_how_to_record(tmp_path: Path) -> None:
    text = f"{FTRACE}kvm_userspace_exit: reason KVM_EXIT_IO (2)"
    seen = r"found KVM's tracepoints without an access; record with: perf record -e kvm:kvm_mmio"
    with pytest.raises(BadInput, match=seen):
        recording(tmp_path, text)
    with pytest.raises(BadInput) as raised:
        recording(tmp_path, "nothing")
    assert all(form.name in str(raised.value) for form in FORMATS)


@pytest.mark.parametrize("kind", ["gz", "xz", "zst"])
def test_a_packed_file_is_read_and_a_cut_one_refused(tmp_path: Path, kind: str) -> None:
    text = (QEMU + "\n").encode() * 3000
    packed = {
        "gz": lambda: gzip.compress(text),
        "xz": lambda: lzma.compress(text),
        "zst": lambda: zstd(text),
    }[kind]()
    path = tmp_path / "t"
    path.write_bytes(packed + packed)
    assert len(read_events(path).events) == 6000
    for end in (len(packed) - 1, len(packed) // 2, 10):
        path.write_bytes(packed[:end])
        with pytest.raises(BadInput, match=f"expected a whole {kind}"):
            read_events(path)


def zstd(text: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(text)


def test_standard_input_is_read(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from coalesced.tools.traces.trace import read;"
        "print(len(read(Path('-')).ops))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=f"{QEMU}\n" * 3, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "3\n"


def test_more_patterns_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 32"):
        scan(b"", ((0, "a", "b"),) * 33, np.empty(0, "u1"))

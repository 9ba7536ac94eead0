"""Exits of a guest by the kernel's tracepoints."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from coalesced.tools.boot.exits import Seen
from coalesced.tools.boot.recorded import events_of, log_of
from coalesced.tools.errors import BadInput

REAL = Path(__file__).parents[2] / "data/kvm-ipxe-e1000.perf.txt.xz"
IO = "kvm_userspace_exit: reason KVM_EXIT_IO (2)"
MMIO = "kvm_userspace_exit: reason KVM_EXIT_MMIO (6)"
STORE = "kvm_mmio: mmio write len 1 gpa 0xb8000 val 0x41"


def written(folder: Path, *events: str, threads: tuple[int, ...] = (7,)) -> Path:
    path = folder / "trace.txt"
    lines = [
        f" qemu-{threads[n % len(threads)]} [000] ..... {n}.000001: {text}\n"
        for n, text in enumerate(events)
    ]
    path.write_text("".join(lines))
    return path


def order(path: Path) -> list[Seen]:
    return log_of(events_of(path), lambda address: f"{address >> 12:#x}").order


def test_an_exit_between_an_out_and_an_in_is_the_in_s(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "kvm_pio: pio_write at 0x70 size 1 count 1 val 0x8f ",
        IO,
        "kvm_pio: pio_read at 0x71 size 1 count 1 val 0x0 ",
        "kvm_pio: pio_write at 0x92 size 1 count 1 val 0x2 ",
        IO,
        "kvm_pio: pio_write at 0x402 size 1 count 1 val 0x53 ",
        IO,
    )
    assert order(path) == [
        Seen("pio", "port 0x71", None, 1),
        Seen("pio", "port 0x92", 2, 0),
        Seen("pio", "port 0x402", 0x53, 0),
    ]


def test_a_store_that_exits_where_others_are_queued_found_the_ring_full(tmp_path: Path) -> None:
    other = "kvm_mmio: mmio write len 4 gpa 0xfebf0000 val 0x1"
    path = written(tmp_path, STORE, STORE, STORE, MMIO, other, MMIO)
    assert order(path) == [Seen("ring_full", "0xb8", 0x41, 2), Seen("no_zone", "0xfebf0", 1, 0)]


def test_loads_halts_and_strings_are_exits_and_a_restart_is_none(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "kvm_mmio: mmio unsatisfied-read len 4 gpa 0xfed00000 val 0x0",
        MMIO,
        "kvm_mmio: mmio read len 4 gpa 0xfed00000 val 0xffffffff",
        "kvm_userspace_exit: reason restart (4)",
        IO,
        "kvm_pio: pio_read at 0x511 size 1 count 4 val 0x51 (...)",
        "kvm_userspace_exit: reason KVM_EXIT_HLT (5)",
    )
    assert [each[:2] for each in order(path)] == [
        ("load", "0xfed00"),
        ("pio", "port 0x511"),
        ("hlt", ""),
    ]
    log = log_of(events_of(path), hex)
    assert log.counts["pio", "port 0x511"] == 4


def test_configuration_data_is_that_of_the_function_addressed_last(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "kvm_pio: pio_write at 0xcf8 size 4 count 1 val 0x80000930 ",
        IO,
        "kvm_pio: pio_write at 0xcfc size 4 count 1 val 0xfffffffe ",
        IO,
    )
    assert [each.place for each in order(path)] == ["port 0xcf8", "port 0xcfc of 00:01.1"]


def test_threads_are_told_apart(tmp_path: Path) -> None:
    out = "kvm_pio: pio_write at 0x80 size 1 count 1 val 0x1 "
    path = written(tmp_path, out, STORE, IO, MMIO, threads=(7, 8))
    assert [each.reason for each in order(path)] == ["pio", "no_zone"]


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([STORE], "expected lines of kvm_userspace_exit, got none"),
        ([STORE, MMIO, "CPU:1 [LOST 12 EVENTS]"], "events were lost"),
        (["memory_region_ops_read cpu 0 mr 0x1 addr 0x1ce value 0x0 size 2"], "KVM's tracepoints"),
    ],
)
def test_a_file_that_cannot_be_compared_is_refused(
    tmp_path: Path, events: list[str], said: str
) -> None:
    path = tmp_path / "trace.txt"
    path.write_text("".join(f" qemu-7 [000] ..... 1.000001: {text}\n" for text in events))
    with pytest.raises(BadInput, match=said):
        events_of(path)


@pytest.mark.slow
def test_every_exit_of_a_real_recording_belongs_to_an_access() -> None:
    found = log_of(events_of(REAL), lambda _address: "memory").order
    reasons = Counter(each.reason for each in found)
    # Its lines of KVM_EXIT_MMIO and KVM_EXIT_IO, but for 20 ins that a reset cut short.
    assert reasons == {"load": 4940, "ring_full": 1200, "pio": 97889 - 20}

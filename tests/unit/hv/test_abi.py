"""hv.abi and hv.core against the <linux/kvm.h> of this machine, and against each other."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from coalesced.hv import abi, core

NUMBERS = [
    "KVM_API_VERSION",
    "KVM_EXIT_IO",
    "KVM_EXIT_HLT",
    "KVM_EXIT_MMIO",
    "KVM_EXIT_SHUTDOWN",
    "KVM_EXIT_FAIL_ENTRY",
    "KVM_EXIT_INTR",
    "KVM_EXIT_INTERNAL_ERROR",
    "KVM_EXIT_SYSTEM_EVENT",
    "KVM_EXIT_IO_IN",
    "KVM_EXIT_IO_OUT",
    "KVM_SYSTEM_EVENT_CRASH",
    "KVMIO",
    "KVM_GET_API_VERSION",
    "KVM_CREATE_VM",
    "KVM_CHECK_EXTENSION",
    "KVM_GET_VCPU_MMAP_SIZE",
    "KVM_CREATE_VCPU",
    "KVM_RUN",
    "KVM_GET_REGS",
    "KVM_SET_REGS",
    "KVM_GET_SREGS",
    "KVM_SET_SREGS",
    "KVM_SET_USER_MEMORY_REGION",
    "KVM_REGISTER_COALESCED_MMIO",
    "KVM_UNREGISTER_COALESCED_MMIO",
    "KVM_CAP_COALESCED_MMIO",
    "KVM_CAP_IMMEDIATE_EXIT",
    "KVM_CAP_COALESCED_PIO",
    "KVM_COALESCED_MMIO_MAX",
]
WORDS = {
    "EXIT_SEQUENCE": 4,
    "VMM_NEED_WAKEUP": 4,
    "RESUME_SEQUENCE": 4,
    "HV_NEED_WAKEUP": 4,
    "REQUEST_SEQUENCE": 4,
    "IRQ_LINES": 8,
    "FIRST_OPERATION": 8,
}


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Names and numbers out of the header, by a program compiled now."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler on this machine")
    program = tmp_path_factory.mktemp("abi") / "probe"
    source = Path(__file__).with_name("abi_probe.c")
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-DPAGE_SIZE=4096"]

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=60, input=""
        )

    if run(compiler, "-include", "linux/kvm.h", "-E", "-").returncode != 0:
        pytest.skip("no <linux/kvm.h> on this machine")
    built = run(compiler, *flags, str(source), "-o", str(program))
    assert built.returncode == 0, built.stderr
    lines = [line.rpartition(" ") for line in run(str(program)).stdout.splitlines()]
    return {name: int(number) for name, _, number in lines}


def offsets(layout: struct.Struct, names: list[str]) -> dict[str, int]:
    """Where each field of a packed layout starts."""
    codes = [code for code in layout.format if code.isalpha()]
    counts = layout.format.replace("8s", "s")
    assert len(codes) == len(names), counts
    result, before = {}, "<"
    for code, name in zip(codes, names, strict=True):
        result[name] = struct.calcsize(before)
        before += "8s" if code == "s" else code
    return result


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_the_headers(header: dict[str, int], name: str) -> None:
    """Exit reasons, ioctls and capabilities."""
    assert getattr(abi, name) == header[name]


def test_kvm_run_is_where_the_header_has_it(header: dict[str, int]) -> None:
    """Its size, the fields in front of the union, and the union's members."""
    assert header["sizeof kvm_run"] == abi.KVM_RUN_SIZE
    assert header["kvm_run.immediate_exit"] == abi.KVM_RUN_IMMEDIATE_EXIT
    assert header["sizeof kvm_run.immediate_exit"] == 1
    assert header["kvm_run.exit_reason"] == abi.KVM_RUN_EXIT_REASON
    assert header["kvm_run.system_event.type"] == abi.KVM_RUN_UNION
    assert header["kvm_run.fail_entry.hardware_entry_failure_reason"] == abi.KVM_RUN_UNION
    assert header["kvm_run.internal.suberror"] == abi.KVM_RUN_UNION
    mmio = offsets(abi.KVM_RUN_MMIO, ["phys_addr", "data", "len", "is_write"])
    io = offsets(abi.KVM_RUN_IO, ["direction", "size", "port", "count", "data_offset"])
    for member, fields in (("mmio", mmio), ("io", io)):
        assert header[f"kvm_run.{member}"] == abi.KVM_RUN_UNION
        for field, offset in fields.items():
            assert header[f"kvm_run.{member}.{field}"] == abi.KVM_RUN_UNION + offset


def test_the_ring_is_where_the_header_has_it(header: dict[str, int]) -> None:
    """Header, entry, and how many fit in a page."""
    entry = abi.KVM_COALESCED_MMIO
    assert header["sizeof kvm_coalesced_mmio"] == entry.itemsize == 24
    fields = entry.fields
    assert fields is not None
    for name in ("phys_addr", "len", "pio", "data"):
        assert header[f"kvm_coalesced_mmio.{name}"] == fields[name][1]
    assert header["kvm_coalesced_mmio_ring.first"] == 0
    assert header["kvm_coalesced_mmio_ring.last"] == 4
    assert header["sizeof kvm_coalesced_mmio_ring"] == abi.KVM_COALESCED_MMIO_RING_HEADER
    assert header["kvm_coalesced_mmio_ring.coalesced_mmio"] == abi.KVM_COALESCED_MMIO_RING_HEADER
    assert header["KVM_COALESCED_MMIO_MAX"] == abi.ring_slots(1) == 170


def test_the_ioctls_arguments_are_the_headers(header: dict[str, int]) -> None:
    """Sizes, which the ioctl numbers hold, too, and offsets."""
    for name, layout, names in (
        ("kvm_coalesced_mmio_zone", abi.KVM_COALESCED_MMIO_ZONE, ["addr", "size", "pio"]),
        (
            "kvm_userspace_memory_region",
            abi.KVM_USERSPACE_MEMORY_REGION,
            ["slot", "flags", "guest_phys_addr", "memory_size", "userspace_addr"],
        ),
    ):
        assert header[f"sizeof {name}"] == layout.size
        for field, offset in offsets(layout, names).items():
            assert header[f"{name}.{field}"] == offset


def test_registers_are_where_the_header_has_them(header: dict[str, int]) -> None:
    """General ones in order, a segment's fields, and the special ones that are set."""
    assert header["sizeof kvm_regs"] == abi.KVM_REGS.size
    for place, name in enumerate(abi.KVM_REGS_NAMES):
        assert header[f"kvm_regs.{name}"] == 8 * place
    assert header["sizeof kvm_segment"] == abi.KVM_SEGMENT.size
    names = ["base", "limit", "selector", "type", "present", "dpl", "db", "s", "l", "g", "avl"]
    before = "<"
    for name, code in zip([*names, "unusable"], "QIHBBBBBBBBB", strict=True):
        assert header[f"kvm_segment.{name}"] == struct.calcsize(before)
        before += code
    assert abi.KVM_SEGMENT.format == before + "x"
    assert header["sizeof kvm_sregs"] == abi.KVM_SREGS_SIZE
    assert header["kvm_sregs.cs"] == abi.KVM_SREGS_CS
    for place, name in enumerate(("ds", "es", "fs", "gs", "ss")):
        assert header[f"kvm_sregs.{name}"] == abi.KVM_SREGS_DS + place * abi.KVM_SEGMENT.size
    assert header["kvm_sregs.cr0"] == abi.KVM_SREGS_CR0


def test_our_words_lie_past_kvm_run_each_in_a_cache_line() -> None:
    """In page 0 of the run segment, and nowhere near the header's fields."""
    places = {name: getattr(core, name) for name in WORDS}
    assert min(places.values()) == core.RUN_WORDS_OFFSET >= abi.KVM_RUN_SIZE
    assert all(place % 64 == 0 for place in places.values())
    assert len({place // 64 for place in places.values()}) == len(WORDS)
    assert all(place + WORDS[name] <= abi.PAGE_SIZE for name, place in places.items())


def test_a_ring_lies_behind_the_run_pages() -> None:
    """One page of kvm_run, one of port data, then the ring: the capability's answer."""
    assert abi.RUN_PAGES == 2
    assert abi.KVM_PIO_PAGE_OFFSET == 1


@pytest.mark.parametrize(("pages", "slots"), [(1, 170), (2, 341), (16, 2730), (4096, 699050)])
def test_slots_of_larger_rings(pages: int, slots: int) -> None:
    """The header stays 8 bytes, however many pages there are."""
    assert abi.ring_slots(pages) == slots


def test_a_bus_operation_has_24_bytes() -> None:
    """As the extension reads it."""
    assert abi.OP.itemsize == 24
    array = np.array([(1, 2, 3, 4)], dtype=abi.OP)
    assert array.tobytes() == struct.pack("<IIQQ", 1, 2, 3, 4)

"""`coalesced replay`: a real driver's accesses, and damaged traces."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from PIL import Image

from coalesced.hv.abi import OP_IN, OP_LOAD
from coalesced.hv.ring import usable
from coalesced.tools import traces
from coalesced.tools.traces.trace import read
from helpers.vmm_cli import json_of, one_line, run

READ = "memory_region_ops_read cpu 0 mr 0x1 addr 0x3ce value {:#x} size 1 name 'vga'\n"
WRITE = "memory_region_ops_write cpu 0 mr 0x1 addr 0x3ce value {:#x} size 1 name 'vga'\n"

CROSSES = """
from coalesced.tools.guests.mode12h import set_mode

def main(vcpu):
    set_mode(vcpu, bytes(range(48)))
    vcpu.store32(0xA0FFD, 0x11223344)
    vcpu.store64(0xA1FFB, 0x1122334455667788)
    vcpu.store64(0xA2FFE, 0x99AABBCCDDEEFF01)
    for page in (1, 2):
        vcpu.load64(0xA0FFB + 0x1000 * page)
    vcpu.load8(0xA3001)
"""


def test_a_boot_replays_with_every_checked_load_equal(tmp_path: Path) -> None:
    result = json_of("replay", "boot", "--text", cwd=tmp_path)
    trace = read(traces.find("boot"))
    assert result["accesses"] == len(trace.ops)
    assert result["reads"] == sum(kind in (OP_LOAD, OP_IN) for kind in trace.ops["kind"].tolist())
    assert result["writes"] == result["accesses"] - result["reads"]
    assert result["reads_matching"] == result["reads_checked"] == 5695
    assert result["unchecked"] == {"VGA status 1 (0x3da)": 60}
    assert result["mismatches"] == []
    assert result["missing_regions"] == {}
    assert (result["lines"], result["joined"]) == (98_743, 43_501)
    assert result["accesses"] == 55_242
    assert result["exits_without_coalescing"] == result["accesses"] + 1  # the halt
    assert result["exits"] == 8_928
    assert result["exits"] + result["coalesced"] == result["exits_without_coalescing"]
    assert result["stale_drains"] == 0
    text = result["text"]
    assert "SeaBIOS (version 1.16.2-debian-1.16.2-1)" in text
    assert any(line.startswith("iPXE (http://ipxe.org)") for line in text)
    assert "Booting from ROM..." in text
    with Image.open(tmp_path / result["png"]) as screen:
        assert screen.size == (720, 400)


def test_direct_replays_to_the_same_state(tmp_path: Path) -> None:
    direct = json_of("replay", "boot", "--accel", "direct", cwd=tmp_path)
    queued = json_of("replay", "boot", "--ring-pages", "16", cwd=tmp_path)
    assert direct["state"] == queued["state"]
    assert direct["reads_matching"] == queued["reads_matching"] == 5695
    assert direct["coalesced"] == 0
    assert queued["exits_by"]["ring_full"] < 494 * usable(1) // usable(16)


@pytest.mark.heavy
def test_a_network_card_s_driver_replays_with_every_checked_load_equal(tmp_path: Path) -> None:
    result = json_of("replay", "e1000", cwd=tmp_path)
    assert result["accesses"] == result["lines"] == 153_069
    assert result["reads_matching"] == result["reads_checked"] == 46_608
    assert result["unchecked"] == {"e1000 ICR": 19_729, "e1000 statistics": 696}
    assert result["masked"] == {
        "e1000 STATUS: link": 44_831,
        "e1000 MDIC, PHY 1 BMSR: link": 52,
        "e1000 MDIC, PHY 1 ANLPAR: acknowledged": 1,
    }
    assert result["mismatches"] == []
    assert result["missing_regions"] == {}
    assert result["coalesced"] == 26_326  # all but the registers that must be heard at once
    assert result["exits"] + result["coalesced"] == result["exits_without_coalescing"] == 153_070


def test_the_table_shows_the_text_screen_when_asked(tmp_path: Path) -> None:
    done = run("replay", "boot", "--text", "--png", "s.png", cwd=tmp_path)
    assert done.returncode == 0
    assert "5,695 of 5,695 checked" in done.stdout
    assert "not checked: VGA status 1 (0x3da)" in done.stdout
    assert "43,501 of 98,743 lines joined to another one: QEMU logs each byte" in done.stdout
    assert "Booting from ROM..." in done.stdout.splitlines()


def test_a_load_that_differs_is_named_and_fails_the_check(tmp_path: Path) -> None:
    (tmp_path / "t.trace").write_text(WRITE.format(5) + READ.format(5) + READ.format(6))
    done = run("replay", "t.trace", cwd=tmp_path)
    assert done.returncode == 1
    assert "line 3: vga 0x3ce size 1: recorded 0x6, got 0x5" in done.stdout
    assert "more reads differ" not in done.stdout
    assert "Traceback" not in done.stderr


def test_of_many_loads_that_differ_ten_are_shown_and_the_rest_is_counted(tmp_path: Path) -> None:
    (tmp_path / "t.trace").write_text(WRITE.format(5) + READ.format(6) * 12)
    done = run("replay", "t.trace", cwd=tmp_path)
    assert done.stdout.count("recorded 0x6, got 0x5") == 10
    assert done.stdout.splitlines()[-1] == "2 more reads differ"


def test_a_region_that_the_machine_lacks_is_counted_not_checked(tmp_path: Path) -> None:
    line = "memory_region_ops_read cpu 0 mr 0x9 addr 0x3f4 value 0x55 size 1 name 'fdc'\n"
    (tmp_path / "t.trace").write_text(WRITE.format(5) + READ.format(5) + line)
    result = json_of("replay", "t.trace", cwd=tmp_path)
    assert result["reads_checked"] == result["reads_matching"] == 1
    assert result["unchecked"] == {"fdc (not on this machine)": 1}
    assert result["missing_regions"] == {"fdc": 1}


def test_lines_that_are_no_accesses_are_skipped_and_the_first_is_named(tmp_path: Path) -> None:
    end = "qemu-system-x86_64: terminating on signal 15 from pid 1\x1b[2J (timeout)\n"
    (tmp_path / "t.trace").write_text(WRITE.format(5) + end + READ.format(5) + READ.format(5)[:50])
    done = run("replay", "t.trace", cwd=tmp_path)
    assert done.returncode == 0
    assert "1 of 1 checked" in done.stdout
    assert "2 lines skipped that are not accesses; the first is line 2: 'qemu-system" in done.stdout
    assert "\x1b" not in done.stdout
    result = json_of("replay", "t.trace", cwd=tmp_path)
    assert result["skipped"] == 2
    assert result["first_skipped"]["line"] == 2


def test_string_instructions_are_left_out_counted_and_named(tmp_path: Path) -> None:
    out = " q-7 [000] ..... 1.000000: kvm_pio: pio_write at {:#x} size 2 count {} val 0x1 {}\n"
    text = out.format(0x1F0, 256, "(...)") * 2 + out.format(0x170, 9, "(...)")
    (tmp_path / "t").write_text(text + out.format(0x80, 1, ""))
    done = run("replay", "t", "--png", "none", cwd=tmp_path)
    assert "3 string instructions left out (ports 0x170: 1, 0x1f0: 2)" in done.stdout
    result = json_of("replay", "t", cwd=tmp_path)
    assert (result["writes"], result["string_accesses"]) == (1, {"0x170": 1, "0x1f0": 2})


CONFIG = (
    "memory_region_ops_write cpu 0 mr 0x2 addr 0xcf8 value {:#x} size 4 name 'pci-conf-idx'\n"
    "memory_region_ops_read cpu 0 mr 0x3 addr 0xcfc value {:#x} size 4 name 'pci-conf-data'\n"
)


def test_a_function_of_pci_that_the_machine_lacks_is_run_not_checked_and_named(
    tmp_path: Path,
) -> None:
    """The slot is empty, or another function is in it."""
    text = (
        CONFIG.format(0x8000_0000, 0x1237_8086)
        + CONFIG.format(0x8000_0900, 0x7010_8086)
        + CONFIG.format(0x8000_0904, 0x0280_0000)
        + CONFIG.format(0x8000_1800, 0x1000_1AF4)
        + CONFIG.format(0x8000_2000, 0xFFFF_FFFF)
    )
    (tmp_path / "t.trace").write_text(text)
    result = json_of("replay", "t.trace", cwd=tmp_path)
    assert result["reads"] == 5
    assert result["reads_checked"] == result["reads_matching"] == 2
    assert result["missing_functions"] == {
        "PCI function 00:01.1 8086:7010": 2,
        "PCI function 00:03.0 1af4:1000": 1,
    }
    assert result["unchecked"] == {
        "PCI function 00:01.1 8086:7010 (not on this machine)": 2,
        "PCI function 00:03.0 1af4:1000 (not on this machine)": 1,
    }


def test_another_card_at_the_same_ports_is_not_the_recorded_one(tmp_path: Path) -> None:
    line = "memory_region_ops_read cpu 0 mr 0x9 addr 0x3cf value 0x55 size 1 name 'cirrus-io'\n"
    (tmp_path / "t.trace").write_text(WRITE.format(5) + READ.format(5) + line)
    result = json_of("replay", "t.trace", cwd=tmp_path)
    assert result["unchecked"] == {"cirrus-io (not on this machine)": 1}
    assert result["mismatches"] == []


def test_long_names_fit_a_narrow_table_whole(tmp_path: Path) -> None:
    """Names that differ only in their last characters stay distinct."""
    name = f"{'region-' * 12}{{}}"
    line = "memory_region_ops_read cpu 0 mr 0x9 addr {:#x} value 0x5 size 4 name '{}'\n"
    lines = [line.format(0xF0000000 + n * 4, name.format(n)) for n in (1, 2)]
    (tmp_path / "t.trace").write_text("".join(lines))
    _, *table = run("replay", "t.trace", "--png", "none", cwd=tmp_path).stdout.splitlines()
    rows = [row for row in table if row.startswith("│")]
    assert all(len(row) <= 80 for row in rows)
    shown = "".join(row.split("│")[1].strip() for row in rows).replace(" ", "")
    assert all(name.format(n) in shown for n in (1, 2))


def test_a_bar_that_the_guest_places_itself_reads_as_in_the_recording(tmp_path: Path) -> None:
    bar = 0x8000_1810
    move = (
        "memory_region_ops_write cpu 0 mr 0x3 addr 0xcfc value 0xfebc0000 size 4 "
        "name 'pci-conf-data'\n"
        "memory_region_ops_read cpu 0 mr 0x4 addr 0xfebc0008 value 0x80080783 size 4 "
        "name 'e1000-mmio'\n"
    )
    (tmp_path / "t.trace").write_text(CONFIG.format(bar, 0) + move)
    result = json_of("replay", "t.trace", cwd=tmp_path)
    assert result["reads_checked"] == result["reads_matching"] == 1
    # Nothing turned its decoding on: that access finds nothing.
    assert result["missing_regions"] == {"e1000-mmio": 1}


def boot_cut(share: float) -> bytes:
    data = traces.find("boot").read_bytes()
    return data[: int(len(data) * share)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "t: expected at least one line with an access (QEMU"),
        (b"\n \n", "t: expected at least one line"),
        (READ.replace("size 1", "size 9").format(1).encode(), "t: expected at least one line"),
        (b"\xff\xfe\0", "t: expected at least one line with an access (QEMU"),
        (boot_cut(0.5), "trace t: expected a whole gzip file: "),
        (boot_cut(0.00001), "trace t: expected a whole gzip file: "),
        (gzip.compress(b"x" * 100)[:-1] + b"?", "trace t: expected a whole gzip file: "),
    ],
    ids=["empty", "blank", "size 9", "bytes", "half gzip", "gzip head", "gzip sum"],
)
def test_a_damaged_trace_is_named_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t").write_bytes(content)
    assert one_line(run("replay", "t", cwd=tmp_path), 2).startswith(message)


def test_a_missing_trace_and_a_folder_are_named(tmp_path: Path) -> None:
    said = one_line(run("replay", "no.trace", cwd=tmp_path), 2)
    assert said == "trace no.trace: No such file or directory"
    (tmp_path / "folder").mkdir()
    assert one_line(run("replay", "folder", cwd=tmp_path), 2) == "trace folder: Is a directory"


def test_accesses_that_cross_a_page_replay_from_this_program_s_own_trace(tmp_path: Path) -> None:
    (tmp_path / "crosses.py").write_text(CROSSES)
    recorded = json_of("run", "crosses.py:main", "--png", "none", "--trace", "t", cwd=tmp_path)
    result = json_of("replay", "t", "--png", "none", "--device", "VGA,addr=02.0", cwd=tmp_path)
    assert {run["state"] for run in recorded["runs"]} == {result["state"]}
    assert (result["skipped"], result["joined"]) == (0, 5)
    # A run counts the parts that its devices see.
    assert result["writes"] == recorded["runs"][0]["writes"] - 3
    assert result["reads_matching"] == result["reads_checked"] == 3


def test_a_folder_named_like_a_recording_does_not_hide_it(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    assert json_of("replay", "boot", "--png", "none", cwd=tmp_path)["accesses"] == 55_242

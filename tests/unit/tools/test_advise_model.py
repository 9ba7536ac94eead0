"""The model of what happened: zones in force, the ring behind them, and each write's prediction."""

from __future__ import annotations

import codecs
import json
import random
from pathlib import Path

import pytest

from coalesced.tools import traces
from coalesced.tools.advise.advice import Advice, ExitCost, Options, advise
from coalesced.tools.advise.names import Map
from coalesced.tools.advise.recording import read
from coalesced.tools.advise.report import lines, zones_as
from coalesced.tools.advise.verdicts import Verdict
from coalesced.tools.errors import BadInput
from coalesced.tools.runs.ranges import zone_of
from coalesced.vmm.zone import Zone
from helpers.kvm_trace import Tape

RECORDED = Path(__file__).parents[2] / "data"
IPXE = RECORDED / "kvm-ipxe-e1000.perf.txt.xz"
AHCI = RECORDED / "kvm-ahci-smp2.ftrace.txt.xz"
VGA = 0xB8000
# MDIC, ICR, ICS, IMS, IMC, TCTL, TDT: the registers that QEMU's e1000 left out in 2008.
EXCLUDED = (0x20, 0xC0, 0xC8, 0xD0, 0xD8, 0x400, 0x3818)


def of(path: Path, options: Options | None = None) -> Advice:
    return advise(read(path), options or Options())


@pytest.mark.slow
@pytest.mark.parametrize(
    "zones", [None, [Zone(False, 0xA0000, 0x20000), Zone(False, 0xFEBC0000, 0x80)]]
)
def test_every_write_of_a_recorded_boot_is_predicted(zones: list[Zone] | None) -> None:
    """1,200 of 210,650 writes in zones exit, as the ring was full; and 0xcf8 was not queued."""
    advice = of(IPXE, Options(zones))
    agreed = advice.agreement
    assert agreed is not None
    assert (agreed.writes, agreed.exits, agreed.predicted, agreed.agreed) == (
        210_650, 1_200, 1_200, 210_650,
    )  # fmt: skip
    assert advice.exits == 97_889 + 6_140 + 22
    address = next(each for each in advice.ranges if each.zone == Zone(True, 0xCF8, 4))
    assert address in advice.ranges[:2]
    assert (address.writes, address.exits) == (9_878, 9_878)
    assert address.verdict is Verdict.COALESCE
    assert address.saves == 9_898  # as fewer exits of full rings are needed, too
    assert any("pio:0xcf8+0x4" in line for line in list(lines(advice))[:24])


@pytest.mark.slow
def test_a_boot_of_two_vcpus_has_no_zone() -> None:
    advice = of(AHCI)
    assert (advice.threads, list(advice.zones_in_force)) == (2, [])
    assert [str(zone) for zone in advice.advised] == ["pio:0xcf8+0x4"]


@pytest.mark.slow
def test_the_window_of_a_vga_is_found_and_its_exits_are_those_of_a_replay() -> None:
    """`replay boot` has 8,928 exits, one of them by hlt."""
    advice = of(traces.find("boot"))
    assert list(advice.advised) == [Zone(False, 0xA0000, 0x1FF0), Zone(False, 0xB8000, 0x8000)]
    assert (advice.exits, advice.exits_advised) == (55_242, 8_927)


@pytest.mark.slow
def test_no_register_of_a_network_card_that_must_exit_is_advised() -> None:
    advice = of(traces.find("e1000"))
    assert advice.advised
    for register in EXCLUDED:
        assert not any(zone.holds(Zone(False, 0xFEBC0000 + register, 4)) for zone in advice.advised)


def queued(tape: Tape, count: int) -> None:
    for number in range(count):
        tape.store(VGA + 2 * number, number, exits=False, size=2)


def test_a_write_that_the_rules_do_not_explain_is_named(tmp_path: Path) -> None:
    tape = Tape()
    queued(tape, 100)
    tape.load(VGA, 0)
    queued(tape, 50)
    tape.store(VGA + 100, 7, exits=True, size=2)
    line = len(tape.lines) - 1
    queued(tape, 20)
    agreed = tape.advice(tmp_path).agreement
    assert agreed is not None
    assert (agreed.writes, agreed.agreed, list(agreed.disagreements)) == (171, 170, [line])


def test_a_full_ring_makes_a_write_exit_and_is_inferred_as_such(tmp_path: Path) -> None:
    """Also where the write that exits is the only one at its address."""
    tape = Tape()
    queued(tape, 169)
    tape.store(VGA + 2 * 169, 1, size=2)
    queued(tape, 10)
    tape.load(VGA, 0)
    advice = tape.advice(tmp_path)
    assert list(advice.zones_in_force) == [Zone(False, VGA, 2 * 170)]
    assert advice.agreement is not None
    assert (advice.agreement.predicted, advice.agreement.agreed) == (1, 180)
    assert advice.exits == advice.exits_advised == 2


def test_an_exit_of_any_vcpu_drains_the_ring(tmp_path: Path) -> None:
    tape = Tape()
    queued(tape, 169)
    tape.load(0xFEB00000, 0, thread=8)
    queued(tape, 169)
    tape.store(VGA, 1, size=2)
    agreed = tape.advice(tmp_path).agreement
    assert agreed is not None
    assert (agreed.writes, agreed.agreed, agreed.exits) == (339, 339, 1)


def test_drains_that_no_line_shows_are_found_and_counted(tmp_path: Path) -> None:
    """A display's refresh drains in another thread: after 100 writes the ring holds 169 again."""
    tape = Tape()
    tape.load(VGA, 0)
    queued(tape, 100)
    queued(tape, 169)
    tape.store(VGA, 1, size=2)
    tape.out(0xCF8, 0, 4)
    queued(tape, 169 + 100)
    tape.load(VGA, 0)
    advice = tape.advice(tmp_path)
    agreed = advice.agreement
    assert agreed is not None
    assert (agreed.writes, agreed.exits, agreed.agreed) == (539, 1, 539 - 200)
    assert (agreed.unseen_drains, agreed.explained, list(agreed.disagreements)) == (2, 200, [])
    assert advice.exits == advice.exits_advised == 4
    assert "200 more agree with drains that no line shows (2)" in " ".join(lines(advice))


def test_a_range_in_force_saves_nothing_more(tmp_path: Path) -> None:
    tape = Tape()
    queued(tape, 168)
    tape.load(VGA, 0, 2)
    queued(tape, 300)
    tape.load(VGA, 0, 2)
    found = tape.advice(tmp_path).ranges[0]
    assert (found.verdict, found.in_force, found.saves) == (Verdict.COALESCE, True, None)


def test_devices_in_the_kernel_are_in_no_zone(tmp_path: Path) -> None:
    tape = Tape()
    for _ in range(300):
        tape.store(0xFEE000B0, 0, exits=False)
    tape.out(0x80, 1)
    advice = tape.advice(tmp_path)
    assert (advice.in_kernel, list(advice.zones_in_force)) == (300, [])
    assert [each.zone for each in advice.ranges] == [Zone(True, 0x80, 1)]


@pytest.mark.parametrize("text", ["", "1", "0xa0000+", "0xa0000+0", "x+1", "-1+4", "pio:+1"])
def test_a_zone_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--zone"):
        zone_of("--zone", text)


def test_zones_are_written_for_c_python_and_as_json() -> None:
    zones = [Zone(False, 0xA0000, 0x20000), Zone(True, 0x70, 1)]
    assert "memory_region_add_coalescing(mr, 0x70 - base, 0x1); /* ports */" in zones_as("c", zones)
    memory, ports = zones_as("python", zones).splitlines()
    assert (memory, ports) == (
        "coalesced=((0xa0000 - base, 0x20000),)  # memory",
        "coalesced=((0x70 - base, 0x1),)  # ports",
    )
    assert eval(f"dict({memory}\n)", {"base": 0xA0000}) == {"coalesced": ((0, 0x20000),)}
    assert json.loads(zones_as("json", zones))[1] == {"addr": 112, "size": 1, "pio": 1}


def test_a_map_names_the_smallest_range(tmp_path: Path) -> None:
    path = tmp_path / "map"
    path.write_text(
        "FlatView #0\n AS \"memory\", root: system\n"
        "  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem\n"
        "feb00000-febfffff : PCI Bus 0000:00\n  feb00000-feb1ffff : e1000\n"
        "FlatView #1\n AS \"I/O\", root: io\n"
        "  0000000000000070-0000000000000071 (prio 0, i/o): rtc\n"
        "  00000000000003d4-00000000000003d5 (prio 0, i/o): vga @0000000000000020 KVM\n"
        "  0000000000000cf8-0000000000000cf8 (prio 0, i/o): pci-conf-idx\n"
        "  0000000000000cf9-0000000000000cf9 (prio 1, i/o): piix3-reset-control\n"
    )  # fmt: skip
    names = Map.read(path)
    assert names.name(Zone(False, 0xA0010, 4)) == "vga-lowmem+0x10"
    assert names.name(Zone(False, 0xFEB00010, 4)) == "e1000+0x10"
    assert names.name(Zone(True, 0x71, 1)) == "rtc+0x1"
    assert names.name(Zone(True, 0x3D5, 1)) == "vga+0x21"
    assert names.name(Zone(True, 0xCF8, 4)) == "pci-conf-idx+0x0"
    assert names.name(Zone(False, 0x70, 1)) is None
    path.write_bytes(codecs.BOM_UTF8 + b"feb00000-feb1ffff : e1000\r\n")
    assert Map.read(path).name(Zone(False, 0xFEB00010, 4)) == "e1000+0x10"
    path.write_text("nothing\n")
    with pytest.raises(BadInput, match=r"--map .*: expected lines as of"):
        Map.read(path)


def test_the_report_fits_80_columns(tmp_path: Path) -> None:
    tape = Tape()
    queued(tape, 200)
    tape.out(0x80, 1)
    text = list(lines(tape.advice(tmp_path, Options(exit_cost=ExitCost(2500.0, "given")))))
    assert max(map(len, text)) < 80
    assert any("agree on" in line for line in text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "memory_region_ram_device_write cpu 0 mr 0x1 addr 0x14 value 0x1 size 4",
            "1 lines whose addresses are offsets",
        ),
        (
            "memory_region_ops_write cpu -1 mr 0x1 addr 0xfee00000 value 0x1 size 4 name 'apic'",
            "those of cpu -1",
        ),
    ],
)
def test_accesses_at_offsets_or_of_no_vcpu_are_refused(
    tmp_path: Path, text: str, found: str
) -> None:
    path = tmp_path / "t"
    path.write_text(f"{text}\n")
    with pytest.raises(BadInput, match=f"accesses of a vCPU at absolute .* found only {found}$"):
        of(path)


@pytest.mark.parametrize("seed", range(20))
def test_any_part_of_a_recording_is_advised_on(tmp_path: Path, seed: int) -> None:
    """Seeds 0 to 19: a few lines, in any order, with one access among them."""
    choose = random.Random(seed)
    tape = Tape()
    queued(tape, 3)
    tape.load(VGA, 1)
    tape.out(0x1F0, 1, 2, count=4)
    tape.in_(0x71, 3)
    tape.store((1 << 64) - 4, 1)
    tape.store(0xFEE000B0, 1, exits=False, thread=9)
    tape.lines = choose.sample(tape.lines, choose.randrange(1, len(tape.lines)))
    tape.lines.append(" q-1 [000] ..... 1.000000: kvm_pio: pio_read at 0x80 size 1 count 1 val 0x1")
    found = tape.advice(tmp_path)
    assert found.lines.events == len(tape.lines)
    assert found.exits_advised <= found.exits
    assert list(lines(found))

"""Boards from device SPECs, and the clock that their devices go by."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coalesced.devices.bus.pci import PciFunction
from coalesced.devices.e1000 import E1000
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.board import Board
from coalesced.vmm.clock import Clock
from coalesced.vmm.devicespec import MODELS, SpecError, create, parse_spec
from coalesced.vmm.loop import Loop
from coalesced.vmm.machine import Machine


@pytest.fixture
def board() -> Iterator[Board]:
    with Machine(DirectAccelerator()) as machine:
        yield Board(machine, 16 << 20)


def add(board: Board, text: str) -> None:
    spec = parse_spec(text)
    board.add(create(spec), spec)


def config_read(board: Board, slot: int, offset: int) -> int:
    board.machine.ports.write(0xCF8, 4, 0x8000_0000 | slot << 11 | offset)
    return board.machine.ports.read(0xCFC, 4)


def test_pci_devices_are_found_in_their_slots(board: Board) -> None:
    add(board, "VGA,addr=04.0")
    add(board, "cirrus-vga")
    assert config_read(board, 0, 0) == 0x1237_8086
    assert config_read(board, 4, 0) == 0x1111_1234
    assert config_read(board, 2, 0) == 0x00B8_1013
    assert config_read(board, 3, 0) == 0xFFFF_FFFF
    assert [type(display).__name__ for display in board.displays] == ["PciVga", "CirrusVga"]


@pytest.mark.parametrize("name", ["isa-vga", "isa-cirrus-vga", "VGA", "cirrus-vga"])
def test_a_display_answers_at_its_legacy_addresses(board: Board, name: str) -> None:
    add(board, name)
    board.machine.ports.write(0x3CE, 2, 0x0506)
    assert board.machine.ports.read(0x3CF, 1) == 5
    assert board.machine.memory.region_at(0xA0000) is not None


def test_a_memory_mapped_display(board: Board) -> None:
    add(board, "vga_mm,ctrl_base=0xe0000000,vram_base=0xd0000000,it_shift=2")
    board.machine.memory.write(0xE0000000 + (0x3CE << 2), 1, 6)
    board.machine.memory.write(0xE0000000 + (0x3CF << 2), 1, 5)
    assert board.machine.memory.read(0xE0000000 + (0x3CF << 2), 1) == 5
    assert board.machine.memory.region_at(0xD00A0000) is not None


def test_properties_reach_the_device(board: Board) -> None:
    add(board, "VGA,addr=2,vgamem_mb=8")
    function = board.bus.functions()[2, 0]
    assert len(memoryview(function.state()["vram"])) == 8 << 20  # type: ignore[arg-type]


ROM_64K, HEADER = 0xFFFF_0001, 0x0000_0000


@pytest.mark.parametrize(
    ("properties", "rom", "header"),
    [
        ("id=video0,bus=pci.0", ROM_64K, HEADER),
        ("multifunction=on", ROM_64K, 0x0080_0000),
        ("multifunction=off,rombar=1,romfile=vgabios.bin,global-vmstate=yes", ROM_64K, HEADER),
        ("rombar=0", 0, HEADER),
        ("romfile=", 0, HEADER),
        ("romsize=0x40000", 0xFFFC_0001, HEADER),
        ("edid=on,mmio=true,qemu-extended-regs=y,xres=0,acpi-index=3", ROM_64K, HEADER),
    ],
)
def test_properties_of_every_pci_function(
    board: Board, properties: str, rom: int, header: int
) -> None:
    """The numbers are QEMU's."""
    add(board, f"VGA,addr=5,{properties}")
    assert config_read(board, 5, 0x0C) == header
    board.machine.ports.write(0xCFC, 4, 0)
    config_read(board, 5, 0x30)
    board.machine.ports.write(0xCFC, 4, 0xFFFF_FFFF)
    assert config_read(board, 5, 0x30) == rom


def test_an_id_is_taken_once(board: Board) -> None:
    add(board, "isa-vga,id=a.b-c_1,bus=isa.0")
    with pytest.raises(SpecError, match="another device already has the id"):
        add(board, "VGA,id=a.b-c_1")
    add(board, "VGA,id=another")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "device '': expected NAME,property=value,..."),
        ("toaster", "device 'toaster': unknown device 'toaster'; known: VGA, isa-vga"),
        ("VGA,colour=red", "device 'VGA,colour=red': unknown property 'colour'; known: addr"),
        ("VGA,addr", "device 'VGA,addr': expected property=value, got 'addr'"),
        ("VGA,addr=2,addr=3", "property 'addr' is given twice"),
        ("VGA,addr=20.0", "expected addr=SLOT.0, 00.0 to 1f.0, got '20.0'"),
        ("VGA,addr=-1", "expected addr=SLOT.0, 00.0 to 1f.0, got '-1'"),
        ("VGA,addr=two", "expected addr=SLOT.0, 00.0 to 1f.0, got 'two'"),
        ("VGA,addr=02.1", "function 1: every device here is a function 0"),
        ("VGA,addr=00.0", "VGA: PCI slot 00 already holds 'i440FX'"),
        ("VGA,vgamem_mb=some", "vgamem_mb: expected a power of two from 1 to 256, got 'some'"),
        ("VGA,vgamem_mb=3", "vgamem_mb: expected a power of two from 1 to 256, got '3'"),
        ("VGA,vgamem_mb=512", "vgamem_mb: expected a power of two from 1 to 256, got '512'"),
        ("cirrus-vga,vgamem_mb=2", "vgamem_mb: expected 4, 8 or 16, got '2'"),
        ("cirrus-vga,it_shift=1", "unknown property 'it_shift'"),
        ("VGA,mmio=off", "mmio: expected on, the only value that this device has, got 'off'"),
        ("VGA,xres=800", "xres: expected 0, the only value that this device has, got '800'"),
        ("e1000,mitigation=no", "mitigation: expected on, the only value that this device has"),
        ("isa-vga,rombar=0", "unknown property 'rombar'; known: addr, bus, id, netdev, vgamem_mb"),
        ("VGA,multifunction=2", "multifunction: expected on or off, got '2'"),
        (
            "VGA,romsize=3000",
            "romsize: expected a power of two from 2048 to 1073741824, got '3000'",
        ),
        ("VGA,id=", "id: expected a letter, then letters, digits, '-', '.' or '_', got ''"),
        ("VGA,id=9a", "id: expected a letter, then letters, digits, '-', '.' or '_', got '9a'"),
        ("VGA,bus=pci.1", "bus: expected pci.0 or isa.0, got 'pci.1'"),
        ("VGA,bus=isa.0", "bus: expected pci.0 for VGA, got 'isa.0'"),
        ("isa-vga,bus=pci.0", "bus: expected isa.0 for isa-vga, got 'pci.0'"),
        ("vga_mm", "missing 2 required positional arguments: 'ctrl_base' and 'vram_base'"),
        ("isa-vga,addr=02.0", "isa-vga is no PCI device and takes no addr"),
    ],
)
def test_what_is_wrong_with_a_spec(board: Board, text: str, reason: str) -> None:
    with pytest.raises(SpecError) as error:
        add(board, text)
    assert reason in str(error.value)
    assert str(error.value).startswith(f"device {text!r}: ")
    assert "\n" not in str(error.value)


def test_a_slot_is_taken_once(board: Board) -> None:
    add(board, "VGA,addr=02.0")
    with pytest.raises(SpecError, match="PCI slot 02 already holds 'VGA'"):
        add(board, "cirrus-vga,addr=2")


def test_there_are_32_slots(board: Board) -> None:
    for _ in range(30):
        add(board, "VGA,vgamem_mb=1")
    with pytest.raises(SpecError, match="no PCI slot is free"):
        add(board, "VGA,vgamem_mb=1")


def test_a_network_card_is_plugged_into_its_back_end(board: Board) -> None:
    board.machine.network.add("hubport,id=p0,hubid=0")
    board.machine.network.add("hubport,id=p1,hubid=0")
    for text in ("e1000,netdev=p1", "e1000", "e1000,netdev=p0,mac=52:54:00:12:34:58", "e1000"):
        spec = parse_spec(text)
        board.add(create(spec, board.addresses), spec)
    cards = [device for device in board.machine.devices if isinstance(device, E1000)]
    assert [card.mac[-1] for card in cards] == [0x56, 0x57, 0x58, 0x59]
    assert [card.wire is not None for card in cards] == [True, False, True, False]
    assert board.machine.network.unused() == []
    assert cards[0].wire is not None
    assert cards[0].wire.send([bytes(60)]) == 1
    assert board.machine.network.report()["p1"].sent == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("e1000,netdev=n9", "there is no netdev 'n9'; known: p0, p1"),
        ("e1000,netdev=p0", "netdev 'p0' is already used by e1000"),
        ("e1000,mac=12", "mac: expected six bytes like 52:54:00:12:34:56, got '12'"),
        ("e1000,vlan=1", "unknown property 'vlan'; known: addr, bus, id, netdev, mac"),
        ("VGA,netdev=p1", "VGA is no network card and takes no netdev"),
    ],
)
def test_what_is_wrong_with_a_cards_network(board: Board, text: str, reason: str) -> None:
    for name in ("p0", "p1"):
        board.machine.network.add(f"hubport,id={name},hubid=0")
    add(board, "e1000,netdev=p0")
    with pytest.raises(SpecError) as error:
        add(board, text)
    assert str(error.value).startswith(f"device {text!r}: {reason}")


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_there(name: str) -> None:
    assert isinstance(MODELS[name].load(), type)


def test_interrupts_are_told_by_line_and_by_device(board: Board) -> None:
    class Bell(PciFunction):
        pass

    told: list[tuple[object, bool]] = []
    bell = Bell(name="bell", vendor_id=1, device_id=1, class_code=0, interrupt_pin=1)
    board.add(bell, parse_spec("bell,addr=05.0"))
    board.on_irq = lambda irq, level: told.append((irq, level))
    board.on_pin = lambda name, level: told.append((name, level))
    bell.set_interrupt(True)
    bell.set_interrupt(True)
    bell.set_interrupt(False)
    assert [what for what in told if what[0] == "bell"] == [("bell", True), ("bell", False)]
    assert [level for what, level in told if what != "bell"] == [True, False]


def test_the_reset_port_resets_every_device(board: Board) -> None:
    add(board, "VGA,addr=02.0")
    ports = board.machine.ports
    ports.write(0x3CE, 2, 0x0506)
    ports.write(0xCF9, 1, 0x06)
    ports.write(0x3CE, 1, 6)
    assert ports.read(0x3CF, 1) == 0


# --- the clock ---


def test_timers_come_due_in_order_and_at_their_time() -> None:
    clock = Clock(Loop())
    start = clock.step(0)
    seen: list[tuple[int, str]] = []
    for name, due in (("late", 30), ("early", 10), ("also early", 10), ("never", 99)):
        clock.call_at(start + due, lambda name=name: seen.append((clock.now() - start, name)))  # type: ignore[misc]
    clock.call_at(start + 5, lambda: None).cancel()
    assert clock.deadline() == start + 10
    assert clock.step(20) == start + 20
    assert seen == [(10, "early"), (10, "also early")]
    assert clock.step() == start + 30
    assert seen[-1] == (30, "late")


def test_a_timer_set_by_a_timer_comes_due_in_the_same_step() -> None:
    clock = Clock(Loop())
    start = clock.step(0)
    seen: list[int] = []

    def again() -> None:
        seen.append(clock.now() - start)
        clock.call_at(clock.now() + 10, again)

    clock.call_at(start + 10, again)
    clock.step(35)
    assert seen == [10, 20, 30]


def test_the_clock_never_goes_back_and_stands_still_once_stepped() -> None:
    clock = Clock(Loop())
    assert clock.now() <= clock.now()
    at = clock.step(100)
    assert clock.set(5) == at
    assert clock.now() == at
    assert clock.step() == at


def test_in_real_time_the_loop_makes_the_calls() -> None:
    loop = Loop()
    clock = Clock(loop)
    seen: list[int] = []
    due = clock.now() + 2_000_000
    clock.call_at(due, lambda: seen.append(clock.now()))
    while not seen:
        loop.wait(loop.timeout())
        loop.run_timers()
    assert seen[0] >= due
    loop.close()


def test_the_loop_hears_of_the_first_timer_alone() -> None:
    """A device that sets and cancels timers all the time leaves nothing behind."""
    loop = Loop()
    clock = Clock(loop)
    hour = clock.now() + 3600 * 10**9
    clock.call_at(hour, lambda: None)
    seen: list[int] = []
    for step in range(50):
        clock.call_at(hour + step, lambda: None).cancel()
        clock.call_at(clock.now() + 100_000, lambda step=step: seen.append(step))  # type: ignore[misc]
        clock.call_at(clock.now() + 100_001, lambda: None).cancel()
        while len(seen) <= step:
            loop.wait(loop.timeout())
            loop.run_timers()
    assert seen == list(range(50))
    assert len(loop.timers) == 1
    loop.close()


def test_a_call_that_raises_keeps_none_of_the_others() -> None:
    """In real time and in steps; the clock's `failed` callback gets the error."""
    loop = Loop()
    told: list[str] = []
    clock = Clock(loop, lambda call, error: told.append(f"{call.__name__}: {error}"))
    seen: list[str] = []

    def fail() -> None:
        raise SystemExit("it is broken")

    clock.call_at(clock.now(), fail)
    clock.call_at(clock.now() + 1, lambda: seen.append("in real time"))
    while not seen:
        loop.wait(loop.timeout())
        loop.run_timers()
    clock.call_at(clock.now() + 1000, fail)
    clock.call_at(clock.now() + 1000, lambda: seen.append("in steps"))
    clock.step(10**9)
    assert seen == ["in real time", "in steps"]
    assert told == ["fail: it is broken"] * 2
    loop.close()


def test_a_stepped_clock_makes_no_call_by_itself() -> None:
    loop = Loop()
    clock = Clock(loop)
    due = clock.now() + 1_000_000
    clock.call_at(due, lambda: pytest.fail("called by itself"))
    clock.set(due - 1)
    clock.call_at(due + 1, lambda: None)
    loop.wait(loop.timeout())
    loop.run_timers()
    assert loop.timeout() is None
    loop.close()

"""`coalesced qtest` as a tester meets it: replies, their order, interrupts, the clock, the end."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from coalesced.hv.abi import PAGE_SIZE
from coalesced.tools.guests import qtest as guest
from helpers import qtest_devices
from helpers.qtest_peer import LIMIT, MODES, Peer, coalesced, result_of
from helpers.vmm_cli import one_line, run

DEVICES = Path(qtest_devices.__file__)
ADDER = f"{DEVICES}:Adder,addr=05.0"
BELL = f"{DEVICES}:Bell,addr=05.0"
BAR = qtest_devices.BAR
MAP_SLOT_5 = [
    "outl 0xcf8 0x80002810",
    f"outl 0xcfc {BAR:#x}",
    "outl 0xcf8 0x80002804",
    "outl 0xcfc 0x2",
]

every_mode = pytest.mark.parametrize("mode", MODES)


@every_mode
def test_each_command_is_answered_in_order(mode: str) -> None:
    with coalesced(["isa-vga"], *MODES[mode]) as peer:
        commands = ["endianness", "writel 0x1000 0x11223344", "readl 0x1000", "what", "inb 0x80"]
        replies = ["OK little", "OK", "OK 0x0000000011223344", "FAIL Unknown command 'what'"]
        assert peer.ask_all(commands * 50) == [*replies, "OK 0x00ff"] * 50
        assert peer.end()[0] == 0


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("", "FAIL Unknown command ''"),
        ("inb", "FAIL inb: expected a number for the port, got ''"),
        ("inb 0x10000", "FAIL inb: expected a port of 0 to 0xffff, got 0x10000"),
        ("outb 0x80", "FAIL outb: expected a number for the value, got ''"),
        ("readb 09", "FAIL readb: expected a number for the address, got '09'"),
        ("readb 0x1_0", "FAIL readb: expected a number for the address, got '0x1_0'"),
        (f"readb {1 << 64}", f"FAIL readb: the address {1 << 64} does not fit in 64 bits"),
        ("readb 0x" + "f" * 99, "FAIL readb: the address does not fit in 64 bits"),
        ("read 0x1000 0", "FAIL read: expected a size of 1 to 67108864 bytes, got 0"),
        ("read 0 -1", f"FAIL read: expected a size of 1 to 67108864 bytes, got {(1 << 64) - 1}"),
        ("write 0x1000 4", "ERR invalid argument size"),
        ("write 0x1000 4 0xzz", "FAIL write: expected hexadecimal data"),
        ("b64write 0x1000 3 A!!", "FAIL b64write: expected base64 data"),
        ("memset 0x1000 4", "FAIL memset: expected a number for the value, got ''"),
        ("irq_intercept_in", "FAIL irq_intercept_in: expected a device"),
        ("irq_intercept_in nobody", "FAIL Unknown device"),
        ("clock_set", "FAIL clock_set: expected a number for the time, got ''"),
        ("clock_step soon", "FAIL clock_step: expected a number for the time, got 'soon'"),
    ],
)
def test_what_cannot_be_done_fails_with_a_reason(command: str, reason: str) -> None:
    with coalesced([], "--accel", "direct") as peer:
        assert peer.ask(command).startswith(reason)
        assert peer.ask("readb 0") == "OK 0x0000000000000000"


def test_a_line_of_many_mebibytes_fails_and_the_next_is_served() -> None:
    with coalesced([], "--accel", "direct") as peer:
        peer.send(b"write 0x1000 4 0x" + b"0" * (20 << 20) + b"\nendianness\n")
        assert peer.line() == "FAIL expected a line of at most 8388608 bytes"
        assert peer.line() == "OK little"


@pytest.mark.parametrize(
    "mode", ["coalesced", "direct", pytest.param("uncoalesced", marks=pytest.mark.heavy)]
)
def test_blocks_larger_than_the_mailbox(mode: str) -> None:
    data = random.Random(1).randbytes(1 << 20)
    with coalesced(["isa-vga"], "--memory", "8M", *MODES[mode]) as peer:
        assert peer.ask(f"write 0x200001 {len(data):#x} 0x{data.hex()}") == "OK"
        assert peer.ask("memset 0x300001 0x300000 0x5a") == "OK"
        assert peer.ask(f"read 0x200001 {len(data) + 2:#x}") == f"OK 0x{data.hex()}5a5a"
        assert peer.ask("read 0x5fffff 4") == "OK 0x5a5a0000"
        assert peer.ask("memset 0xa0000 0x20000 0x5a") == "OK"
        assert len(peer.ask("read 0x90000 0x40000")) == len("OK 0x") + (0x40000 << 1)


def test_the_mailbox_is_no_part_of_the_machine() -> None:
    with coalesced([]) as peer:
        hidden = guest.MAILBOX
        size = guest.REGISTERS + PAGE_SIZE - hidden + 32
        assert peer.ask(f"memset {hidden - 16:#x} {size:#x} 0xff") == "OK"
        assert peer.ask(f"writeq {hidden - 4:#x} 0x1122334455667788") == "OK"
        assert peer.ask(f"readq {hidden - 4:#x}") == "OK 0x0000000000000000"
        assert peer.ask(f"read {hidden - 2:#x} 8") == "OK 0x0000000000000000"
        assert peer.ask("readl 0") == "OK 0x0000000000000000"
        assert peer.end()[0] == 0


@pytest.mark.parametrize("cut", range(1, 24, 3))
def test_commands_in_pieces(cut: int) -> None:
    stream = b"writel 0x1000 0x77\nreadl 0x1000\r\nendianness\n"
    with coalesced([], "--accel", "direct") as peer:
        for start in range(0, len(stream), cut):
            peer.send(stream[start : start + cut])
        assert [peer.line() for _ in range(3)] == ["OK", "OK 0x0000000000000077", "OK little"]


def test_an_end_in_the_middle_of_a_line() -> None:
    with coalesced([], "--json") as peer:
        peer.send(b"endianness\nwritel 0x10")
        assert peer.line() == "OK little"
        assert result_of(peer.end())["commands"] == 1


@pytest.mark.parametrize("listens", [True, pytest.param(False, marks=pytest.mark.heavy)])
def test_what_was_queued_reaches_the_devices_when_the_peer_has_gone(listens: bool) -> None:
    """Every command that was sent is carried out, whether or not the peer reads the replies."""
    states = []
    for options in (["--staleness", "off"], ["--accel", "direct"]):
        with coalesced([ADDER], "--json", *options) as peer:
            peer.ask_all(MAP_SLOT_5)
            if not listens:
                peer.socket.shutdown(socket.SHUT_RD)
            peer.send(f"writel {BAR:#x} 3\n".encode() * 50_000)
            peer.socket.shutdown(socket.SHUT_WR)
            result = result_of(peer.end())
        assert result["commands"] == len(MAP_SLOT_5) + 50_000
        states.append(result["state"])
    assert states[0] == states[1]


def test_a_peer_that_takes_no_replies_until_it_has_sent_all() -> None:
    count = 60_000
    with coalesced([], "--accel", "direct") as peer:
        peer.send(b"readq 0x1000\n" * count)
        assert [peer.line() for _ in range(count)] == ["OK 0x0000000000000000"] * count


def test_memory_is_seen_after_what_was_queued() -> None:
    """A command on RAM drains the ring first."""
    with coalesced([ADDER], "--staleness", "off", "--json") as peer:
        peer.ask_all(MAP_SLOT_5)
        peer.ask_all([f"writel {BAR:#x} 1", "readb 0", "readb 1"] * 10)
        result = result_of(peer.end())
    assert result["coalesced"] == 10 + 2
    assert result["exits_by"]["no_zone"] == 10
    assert result["exits_by"]["hlt"] == 1


@pytest.mark.parametrize(
    "options",
    [
        ("--wait", "block"),
        ("--wait", "poll"),
        ("--ring-pages", "16"),
        ("--cpus", "same"),
        ("--staleness", "0.1"),
        ("--trace", os.devnull),
    ],
    ids=" ".join,
)
def test_other_ways_to_run_it(options: tuple[str, ...]) -> None:
    with coalesced([ADDER], *options) as peer:
        peer.ask_all(MAP_SLOT_5)
        peer.ask_all([f"writel {BAR:#x} 2"] * 1000)
        assert peer.ask(f"readl {BAR:#x}") == "OK 0x00000000000007d0"
        for turn in range(20):
            assert peer.ask(f"writel {BAR:#x} 1") == "OK"
            assert peer.ask(f"readl {BAR:#x}") == f"OK {2001 + turn:#018x}"
        assert peer.end()[0] == 0


# --- interrupts ---


@every_mode
def test_interrupt_lines_come_before_the_reply(mode: str) -> None:
    ring = [f"writel {BAR + 0x20:#x} {level}" for level in (1, 1, 0, 1)]
    with coalesced([BELL], *MODES[mode]) as peer:
        peer.ask_all(MAP_SLOT_5)
        assert peer.ask("irq_intercept_in ioapic") == "OK"
        assert peer.ask("irq_intercept_in ioapic") == "OK"
        assert peer.ask("irq_intercept_in bell") == "FAIL IRQ intercept already enabled"
        peer.send("".join(f"{command}\n" for command in [*ring, "endianness"]).encode())
        lines = [peer.line() for _ in range(8)]
    number = lines[0].rpartition(" ")[2]
    raised, lowered = f"IRQ raise {number}", f"IRQ lower {number}"
    assert lines == [raised, "OK", "OK", lowered, "OK", raised, "OK", "OK little"]


def test_the_line_of_a_queued_write_may_follow_a_later_reply() -> None:
    with coalesced([BELL], "--staleness", "off") as peer:
        peer.ask_all(MAP_SLOT_5)
        assert peer.ask("irq_intercept_out bell") == "OK"
        assert peer.ask(f"writel {BAR:#x} 1") == "OK"
        assert peer.ask(f"writel {BAR:#x} 3") == "OK"
        assert peer.ask(f"readl {BAR + 4:#x}") == "IRQ raise 0"
        assert peer.line() == "OK 0x0000000000000004"


def test_a_queued_write_raises_its_line_when_it_is_stale() -> None:
    with coalesced([BELL]) as peer:
        peer.ask_all(MAP_SLOT_5)
        assert peer.ask("irq_intercept_out bell") == "OK"
        said = [peer.ask(f"writel {BAR:#x} 1"), peer.line()]
    assert sorted(said) == ["IRQ raise 0", "OK"]  # on a busy machine the timer may be first


def test_lines_of_a_long_batch_are_not_early() -> None:
    """In a long batch, an IRQ line does not come before the reply to an earlier write."""
    ring = [f"writel {BAR + 0x20:#x} {turn & 1}" for turn in range(1, 201)]
    with coalesced([BELL], "--no-coalesce") as peer:
        peer.ask_all([*MAP_SLOT_5, "irq_intercept_out bell"])
        peer.send("".join(f"{command}\n" for command in ring).encode())
        lines = [peer.line() for _ in range(400)]
    assert lines == ["IRQ raise 0", "OK", "IRQ lower 0", "OK"] * 100


# --- the clock ---


def test_the_clock_moves_by_steps_only_after_the_first() -> None:
    def seconds(peer: Peer) -> int:
        peer.ask("outb 0x70 0")
        return int(peer.ask("inb 0x71").split()[1][2:], 10)

    with coalesced([]) as peer:
        first = int(peer.ask("clock_step 1").split()[1])
        assert peer.ask("clock_step 0") == f"OK {first}"
        before = seconds(peer)
        assert peer.ask("clock_step 7000000000") == f"OK {first + 7_000_000_000}"
        assert (seconds(peer) - before) % 60 == 7
        assert peer.ask(f"clock_set {first + 9_000_000_000}") == f"OK {first + 9_000_000_000}"
        assert (seconds(peer) - before) % 60 == 9
        assert peer.ask("clock_set 5") == f"OK {first + 9_000_000_000}"
        assert peer.ask("clock_step") == f"OK {first + 9_000_000_000}"


# --- the end ---


def test_a_device_that_raises_is_reported_and_serving_goes_on() -> None:
    with coalesced([BELL]) as peer:
        peer.ask_all(MAP_SLOT_5)
        assert peer.ask(f"readb {BAR + 0x13:#x}") == "OK 0x0000000000000000"
        assert peer.ask(f"readb {BAR + 0x14:#x}") == "OK 0x0000000000000014"
        status, _, err = peer.end()
    assert status == 1
    assert "RuntimeError: no such bell" in err


def test_a_peer_that_is_killed(tmp_path: Path) -> None:
    """The server ends well when its peer dies with commands under way."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(LIMIT)
        program = [str(Path(sys.executable).parent / "coalesced"), "qtest", "--socket", str(path)]
        server = subprocess.Popen(program, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        peer, _ = listener.accept()
    child = os.fork()
    if child == 0:
        peer.sendall(b"readq 0x1000\n" * 50_000)
        os.kill(os.getpid(), 9)
    peer.close()
    os.waitpid(child, 0)
    _, err = server.communicate(timeout=LIMIT)
    assert server.returncode == 0, err


def test_a_guest_process_that_is_killed() -> None:
    with coalesced([]) as peer:
        assert peer.ask("endianness") == "OK little"
        assert peer.ask("readb 0") == "OK 0x0000000000000000"
        (child,) = psutil.Process(peer.process.pid).children()
        child.kill()
        assert peer.line() == ""
        status, _, err = peer.end()
    assert status == 1
    assert err == "coalesced: the guest process ended: killed by SIGKILL\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--socket", "nowhere"], "--socket nowhere: cannot connect: No such file or directory"),
        (["--socket", "x" * 200], f"--socket {'x' * 200}: cannot connect: AF_UNIX path too long"),
        (["--socket", "s", "--memory", "1M"], "--memory 1M: expected 2M to 3G"),
        (["--socket", "s", "--memory", "lots"], "--memory lots: expected 2M to 3G"),
        (["--socket", "s", "--staleness", "-1"], "--staleness -1: expected above 0"),
        ([], "Missing option '--socket'"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], reason: str, tmp_path: Path) -> None:
    assert reason in one_line(run("qtest", *arguments, cwd=tmp_path), 2)

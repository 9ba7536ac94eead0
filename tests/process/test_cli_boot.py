"""`coalesced boot`: examples, the BIOS of the distribution, endings, and what is left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from coalesced.hv.cpu.guest import GUEST
from coalesced.hv.errors import GuestError
from coalesced.tools.boot import images
from coalesced.tools.runs import firmware
from helpers.kvm_sides import needs_kvm
from helpers.machine_code import needs_nasm, needs_unicorn, pc
from helpers.vmm_cli import Running, json_of, one_line, run

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "examples"
SPIN = b"\xeb\xfe"  # jmp $
COUNT = bytes.fromhex("baf803eefec0ebfb")  # counts on COM1 for ever
TRIES = 20  # of two runs that time stops, now and then at the same point
needs_seabios = pytest.mark.skipif(
    firmware.find(firmware.BIOS) is None, reason="no SeaBIOS on this machine (apt install seabios)"
)
ACCELERATORS = [
    pytest.param("process", marks=needs_unicorn),
    pytest.param("kvm", marks=[needs_kvm, pytest.mark.heavy]),
]


SLEEP = ("--wait", "block")  # each side leaves its CPU to others; to spin would cost as much again


def booted(*arguments: object, cwd: Path) -> dict[str, Any]:
    return json_of("boot", *arguments, cwd=cwd)


@pytest.mark.parametrize("accel", ACCELERATORS)
def test_a_plasma_is_drawn_with_the_exits_of_the_rules(tmp_path: Path, accel: str) -> None:
    result = booted(
        *("plasma", "--bios", "none", "--accel", accel, "--staleness", "off"),
        *(SLEEP if accel == "process" else ()),
        *("--png", tmp_path / "plasma.png"),
        cwd=tmp_path,
    )
    coalesced, plain = result["runs"]
    pixels, ports = 64_000, coalesced["exits_by"]["pio"]
    # The last mode and palette access drains the ring; then every 170th store exits.
    assert coalesced["exits_by"]["ring_full"] == pixels // 170
    assert coalesced["coalesced"] == pixels - pixels // 170
    assert plain["exits_by"]["no_zone"] == pixels
    assert plain["exits_by"]["pio"] == ports
    assert coalesced["exits"] == ports + pixels // 170 + 1
    assert (result["identical"], result["stopped_by"], result["text"]) == (True, "hlt", "")
    assert coalesced["state"] == plain["state"]
    assert (tmp_path / "plasma.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("accel", ACCELERATORS)
@needs_seabios
def test_seabios_reaches_its_prompt(tmp_path: Path, accel: str) -> None:
    options = ("--accel", accel, "--staleness", "off", *(SLEEP if accel == "process" else ()))
    result = booted("seabios", *options, cwd=tmp_path)
    assert result["text"].startswith("SeaBIOS (version ")
    assert result["text"].endswith("No bootable device.  Retrying in 60 seconds.")
    assert (result["identical"], result["stopped_by"]) == (True, "text")
    coalesced, plain = result["runs"]
    assert coalesced["exits_by"]["ring_full"] == 120
    assert coalesced["exits_by"]["load"] == plain["exits_by"]["load"]
    assert coalesced["exits"] < plain["exits"] / 4


@needs_unicorn
@needs_kvm
@pytest.mark.parametrize(
    "image",
    ["lines", pytest.param("seabios", marks=[needs_seabios, pytest.mark.heavy])],
)
def test_both_worlds_have_the_same_exits_but_for_time(tmp_path: Path, image: str) -> None:
    options = ["--staleness", "off", *([] if image == "seabios" else ["--bios", "none"])]
    result = booted(image, *options, "--against", "kvm", cwd=tmp_path)
    found = result["against"]
    assert (found["worlds"], found["ok"], result["identical"]) == (["process", "kvm"], True, True)
    assert found["first_difference"] is None
    differing = [row for row in found["rows"] if len(set(row["exits"])) > 1]
    assert all(row["cause"] == "depends on time" for row in differing)
    assert len(found["rows"]) - len(differing) >= (5 if image == "lines" else 40)


@needs_unicorn
@needs_seabios
def test_the_bios_loads_a_boot_sector_from_a_floppy(tmp_path: Path) -> None:
    result = booted("hello", "--until", "boot sector", *SLEEP, cwd=tmp_path)
    assert result["text"].splitlines()[-1] == "Hello from a boot sector"
    assert result["identical"]


@needs_unicorn
def test_the_timer_s_interrupts_come_and_their_ends_exit(tmp_path: Path) -> None:
    for ran in booted("timer", "--bios", "none", cwd=tmp_path)["runs"]:
        assert ran["exits_by"]["pio"] >= 8 + 50
        assert 1 <= ran["exits_by"]["hlt"] <= 52


KERNEL = """
bits 32
org 0x100000
    dd 0x1badb002, 1 << 16, -(0x1badb002 + (1 << 16)), $$, $$, 0, 0, begin
begin:
    mov dx, 0x3f8
    cmp eax, 0x2badb002
    sete al
    add al, "0"
    out dx, al
    cli
    hlt
"""


@needs_unicorn
@needs_nasm
def test_a_multiboot_kernel_without_elf_is_started_with_its_magic_number(tmp_path: Path) -> None:
    (tmp_path / "kernel.asm").write_text(KERNEL)
    found = booted("kernel.asm", cwd=tmp_path)
    assert (found["serial"], found["stopped_by"]) == ("1", "hlt")


@needs_nasm
@pytest.mark.parametrize("name", images.examples())
def test_an_installed_example_is_its_source_assembled(name: str) -> None:
    found = images.load(str(SOURCES / f"{name}.asm"), None, True, 16 << 20)
    assert found.floppy[:512] == (images.EXAMPLES / f"{name}.bin").read_bytes()


@needs_nasm
def test_the_first_error_of_the_assembler_is_the_one_line(tmp_path: Path) -> None:
    (tmp_path / "wrong.asm").write_text("nop\nmove ax, 1\n")
    done = run("boot", "wrong.asm", cwd=tmp_path)
    assert one_line(done, 2).startswith("wrong.asm:2: error: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.img"], "none.img: No such file or directory"),
        (["plasma", "--accel", "direct"], "--accel direct: machine code needs a processor"),
        (
            ["seabios", "--bios", "none"],
            "seabios: this is the BIOS: omit --bios none, --at and --append",
        ),
        (["plasma", "--against", "kvm", "--ring-pages", "2"], "--against kvm: compares --accel"),
        (["plasma", "--against", "kvm", "--serial", "stdio"], "--against kvm: it makes two runs"),
        (["plasma", "--at", "high"], "--at high: expected an address of 0 to 0xffffffff"),
        (
            ["plasma", "--at", "0xa0000"],
            "512 bytes at 0xa0000: expected RAM there, which is 0x0..0x9ffff and "
            "0x100000..0xffffff (--memory)",
        ),
        (["plasma", "--until", "-1"], "--until -1: expected above 0 to 86400 seconds"),
        (["plasma", "--memory", "1M"], "--memory 1M: expected 2M to 3G"),
        (["plasma", "--bios", "none.bin"], "none.bin: No such file or directory"),
        (["plasma", "--rom", "none.rom"], "none.rom: No such file or directory"),
    ],
)
@needs_unicorn
def test_wrong_usage_is_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    assert said in one_line(run("boot", *arguments, cwd=tmp_path), 2)


@needs_unicorn
def test_a_guest_that_spins_ends_by_time_or_by_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "spin.bin").write_bytes(SPIN)
    spin = ("boot", "spin.bin", "--at", "0x8000")
    result = json_of(*spin, "--until", "0.2", cwd=tmp_path)
    assert (result["stopped_by"], result["runs"][0]["exits"]) == ("time", 0)
    with Running(*spin, cwd=tmp_path) as running:
        running.wait_for_guest()
        running.interrupt()
        status, _, err = running.end()
    assert (status, err.count("\n")) == (130, 1)
    assert err.startswith("coalesced: interrupted")


@needs_unicorn
def test_runs_that_time_stopped_at_different_points_are_not_compared(tmp_path: Path) -> None:
    (tmp_path / "count.bin").write_bytes(COUNT)
    count = ("boot", "count.bin", "--at", "0x8000", "--until", "0.2")
    for _ in range(TRIES):
        result = json_of(*count, cwd=tmp_path)
        first, second = (run_["exits"] for run_ in result["runs"])
        assert (result["stopped_by"], result["identical"]) == ("time", first == second or None)
        assert result["savings"] == {"exits": None, "time": None}
        if first != second:
            break
    else:
        pytest.fail(f"{TRIES} times both runs were stopped at the same point")
    for _ in range(TRIES):
        shown = run(*count, cwd=tmp_path)
        assert shown.returncode == 0
        assert "saved" not in shown.stdout
        if "All runs showed the same." not in shown.stdout:
            break
    assert "The runs were stopped after 0.2 s, each at another point" in shown.stdout


@needs_unicorn
@pytest.mark.parametrize("victim", ["guest", "vmm"])
def test_nothing_is_left_of_a_processor_killed_in_the_middle(tmp_path: Path, victim: str) -> None:
    (tmp_path / "spin.bin").write_bytes(SPIN)
    with Running("boot", "spin.bin", "--at", "0x8000", cwd=tmp_path) as running:
        guest = running.wait_for_guest()
        os.kill(guest.pid if victim == "guest" else running.pid, signal.SIGKILL)
        status, _, err = running.end()
    assert status == (1 if victim == "guest" else -signal.SIGKILL)
    if victim == "guest":
        assert "killed by SIGKILL" in err
    running.nothing_left()


@needs_unicorn
@pytest.mark.heavy
def test_noise_as_machine_code_harms_nobody(tmp_path: Path) -> None:
    """At most the guest's processor shuts down; both processes live on."""
    seed = int(os.environ.get("NOISE_SEED", random.randrange(1 << 32)))
    print(f"NOISE_SEED={seed}")
    source = random.Random(seed)
    for _ in range(int(os.environ.get("NOISE_RUNS", "12"))):
        with pc("process", "VGA,addr=02.0") as found:
            found.latest = 0.3
            with suppress(GuestError):
                found.run(source.randbytes(0x4000))


def test_the_extra_is_named_where_unicorn_is_missing(tmp_path: Path) -> None:
    code = (
        "import importlib.util, ctypes.util, sys\n"
        "importlib.util.find_spec = lambda name: None\n"
        "ctypes.util.find_library = lambda name: None\n"
        "from coalesced.tools.main import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "boot", "plasma", "--bios", "none"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    expected = "machine code needs the processor of Unicorn: pip install 'coalesced-mmio[cpu]'"
    assert one_line(done, 2) == expected


def test_the_guest_of_machine_code_is_a_function_that_can_be_loaded() -> None:
    assert GUEST == "coalesced.hv.cpu.guest:run"


READ_KEYS = """
bits 16
org 0x7c00
next:
    xor ah, ah
    int 0x16
    mov ah, 0x0e
    mov bx, 7
    int 0x10
    cmp al, 13
    jne next
    cli
    hlt
times 510 - ($ - $$) db 0
    dw 0xaa55
"""


@needs_unicorn
@needs_seabios
@needs_nasm
@pytest.mark.heavy
def test_what_is_typed_comes_from_the_keyboard(tmp_path: Path) -> None:
    (tmp_path / "keys.asm").write_text(READ_KEYS)
    text = 'Hello, "World"! {1+2}~'
    result = booted("keys.asm", "--type", text + r"\n", cwd=tmp_path)
    assert result["text"].splitlines()[-1] == text
    assert (result["identical"], result["stopped_by"]) == (True, "hlt")

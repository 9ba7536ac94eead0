"""`coalesced boot --against qemu`: equal exits, repeatably, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from coalesced.tools.boot import qemu, tracefs
from coalesced.tools.boot.live import check
from coalesced.tools.errors import BadInput
from coalesced.tools.runs import firmware
from helpers.machine_code import needs_unicorn
from helpers.vmm_cli import Running, json_of, one_line, run


def why_not() -> str:
    """Why there is no comparison with QEMU here; empty: there is."""
    try:
        check()
    except BadInput as error:
        return str(error)
    return ""


needs_tracepoints = pytest.mark.skipif(bool(why_not()), reason=why_not())
needs_seabios = pytest.mark.skipif(
    firmware.find(firmware.BIOS) is None, reason="no SeaBIOS on this machine (apt install seabios)"
)
AGAINST = ("--staleness", "off", "--against", "qemu")


def instances() -> set[str]:
    return {path.name for path in (tracefs.root() / "instances").glob("coalesced-*")}


@needs_unicorn
@needs_tracepoints
@pytest.mark.heavy
def test_planar_lines_have_the_same_exits_in_qemu_in_the_same_order(tmp_path: Path) -> None:
    for _ in range(4):  # whatever QEMU's other threads do meanwhile
        found = json_of("boot", "lines", "--bios", "none", *AGAINST, cwd=tmp_path)["against"]
        assert found["worlds"] == ["process", "qemu"]
        assert [row for row in found["rows"] if row["cause"] != "depends on time"]
        assert all(row["exits"][0] == row["exits"][1] for row in found["rows"] if row["place"])
        assert found["full_rings"] == [{"169": 224}, {"169": 224}]
        assert (found["ok"], found["first_difference"]) == (True, None)
    assert not instances()


@needs_unicorn
@needs_tracepoints
@needs_seabios
@pytest.mark.heavy
def test_seabios_has_the_exits_of_qemu_but_for_what_has_a_cause_each_time(tmp_path: Path) -> None:
    for _ in range(2):
        found = json_of("boot", "seabios", *AGAINST, cwd=tmp_path)["against"]
        assert (found["ok"], found["first_difference"]) == (True, None)
        assert found["full_rings"] == [{"169": 120}, {"169": 120}]
        equal = [row for row in found["rows"] if row["exits"][0] == row["exits"][1]]
        assert len(equal) >= 80


@needs_unicorn
@needs_tracepoints
@pytest.mark.parametrize(
    "sent", [pytest.param(signal.SIGKILL, marks=pytest.mark.heavy), signal.SIGINT]
)
def test_neither_qemu_nor_the_instance_outlives_the_command(tmp_path: Path, sent: int) -> None:
    # The timer's 50 interrupts take a while, then QEMU is watched for a second at least.
    with Running("boot", "timer", "--bios", "none", *AGAINST, cwd=tmp_path) as running:
        deadline = time.monotonic() + 30
        while not (
            mine := [name for name in instances() if name.split("-")[1] == str(running.pid)]
        ):
            assert time.monotonic() < deadline
        qemus = [
            pid for pid in os.listdir("/proc") if pid.isdecimal() and is_child(pid, running.pid)
        ]
        os.kill(running.pid, sent)
        status, _, _ = running.end()
        assert status == (130 if sent == signal.SIGINT else -sent)
        assert len(qemus) == 1
        while mine[0] in instances() or Path("/proc", qemus[0]).exists():
            assert time.monotonic() < deadline


def is_child(pid: str, parent: int) -> bool:
    try:
        name, _, rest = Path("/proc", pid, "stat").read_text().rpartition(")")
    except OSError:
        return False
    return rest.split()[1] == str(parent) and "qemu" in name


@needs_unicorn
@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("qemu", f"--against qemu: no {qemu.PROGRAM} on the PATH (apt install qemu-system-x86)"),
        ("root", "--against qemu: only root can read the kernel's tracepoints"),
        ("tracefs", "--against qemu: no tracefs at /sys/kernel/tracing: mount -t tracefs"),
        ("kvm", "--against qemu: QEMU needs /dev/kvm"),
    ],
)
def test_what_the_comparison_lacks_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str, said: str
) -> None:
    kvm = "/dev/kvm"
    access = os.access
    which = {"qemu": None}.get(missing, "/usr/bin/true")
    monkeypatch.setattr(shutil, "which", lambda _name: which)
    monkeypatch.setattr(
        os, "access", lambda path, mode: missing != "kvm" if path == kvm else access(path, mode)
    )
    monkeypatch.setattr(os, "geteuid", lambda: 1000 if missing == "root" else 0)
    if missing == "tracefs":
        monkeypatch.setattr(tracefs, "ROOTS", (Path("/sys/kernel/tracing/none"),))
    with pytest.raises(BadInput) as found:
        check()
    assert said.replace("/sys/kernel/tracing:", "/sys/kernel/tracing/none:") in str(found.value)
    assert "\n" not in str(found.value)


@needs_unicorn
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--against", "none.txt"], "trace none.txt: No such file or directory"),
        (["--against", "other.txt"], "expected at least one line with an access"),
        (["--against", "kvm.txt", "--netdev", "dgram,id=n0"], "--netdev does not reach QEMU"),
    ],
)
def test_a_file_to_compare_with_is_checked_first(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "other.txt").write_text("nothing\n")
    assert said in one_line(run("boot", "plasma", "--bios", "none", *arguments, cwd=tmp_path), 2)


@needs_unicorn
def test_a_recording_of_another_machine_can_be_compared(tmp_path: Path) -> None:
    (tmp_path / "kvm.txt").write_text(
        " qemu-7 [000] ..... 1.000001: kvm_pio: pio_write at 0x3f9 size 1 count 1 val 0x0 \n"
        " qemu-7 [000] ..... 1.000002: kvm_userspace_exit: reason KVM_EXIT_IO (2)\n"
    )
    done = run("boot", "plasma", "--bios", "none", "--against", "kvm.txt", cwd=tmp_path)
    assert done.returncode == 1
    assert "process 0; kvm.txt 1\n" in done.stdout
    assert "In order, exit 1 of those without a cause to differ is another one:" in done.stdout

"""A command gives its result whatever it inherits and others do to its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coalesced.hv import abi
from coalesced.hv.process import GuestProcess
from coalesced.vmm.accel.process import ProcessAccelerator, place, put_back
from helpers.hv_processes import machine, within
from helpers.tiers import every, some_heavy
from helpers.vmm_cli import run

IGNORING = """\
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""
FORKS = """\
import os, sys

def main(vcpu):
    child = os.fork()
    if child == 0:
        {child}
        return
    vcpu.out32(0x20, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def started_anew(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("coalesced")), *arguments]
    return subprocess.run(
        command, cwd=folder, check=False, capture_output=True, text=True, timeout=60
    )


def test_a_command_started_with_sigchld_ignored_gives_its_result(tmp_path: Path) -> None:
    (tmp_path / "guest.py").write_text("def main(vcpu):\n    vcpu.out8(0x3d4, 1)\n")
    program = str(Path(sys.executable).with_name("coalesced"))
    command = [sys.executable, "-c", IGNORING, program, "run", "guest.py:main", "--json"]
    done = subprocess.run(
        command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["identical"]


def test_a_guest_process_whose_status_somebody_else_took_is_reported_all_the_same() -> None:
    process = GuestProcess()
    os.kill(process.pid, signal.SIGKILL)
    os.waitpid(process.pid, 0)
    assert process.reap() == "its exit status is lost"
    process.close()


@pytest.mark.parametrize(
    ("child", "status"), [("pass", 0), ("vcpu.in8(0x20)", 1), ("sys.exit(5)", 5)]
)
def test_a_fork_of_the_guest_neither_halts_it_nor_reaches_its_vcpu(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], child: str, status: int
) -> None:
    path = tmp_path / "forks.py"
    path.write_text(FORKS.format(child=child))
    with machine(f"{path}:main") as vm, within(20):
        assert vm.vcpus[0].run() == (abi.KVM_EXIT_IO, 0x20, 4, True, status)
        got = vm.vcpus[0].run()
        assert isinstance(got, tuple)
        assert got[0] == abi.KVM_EXIT_HLT
    assert ("the vCPU belongs to the guest process" in capfd.readouterr().err) is (status == 1)


@pytest.mark.parametrize(
    ("child", "status"), [("pass", 0), ("vcpu.in8(0x20)", 1), ("vcpu.read_memory(0, 1)", 1)]
)
@pytest.mark.parametrize("accel", ["direct", "kvm"])
def test_a_fork_of_a_guest_in_the_vmm_s_process_is_no_second_vmm(
    tmp_path: Path, accel: str, child: str, status: int
) -> None:
    if accel == "kvm" and not os.access("/dev/kvm", os.W_OK):
        pytest.skip("needs /dev/kvm")
    (tmp_path / "forks.py").write_text(FORKS.format(child=child))
    done = run("run", "forks.py:main", "--accel", accel, "--json", cwd=tmp_path)
    assert done.returncode == 0, done
    assert json.loads(done.stdout)["identical"]
    said = "the vCPU belongs to the guest process, and this is a fork of it" in done.stderr
    assert said is (status == 1)
    runs = json.loads(done.stdout)["runs"]
    assert [run["writes"] for run in runs] == [1] * len(runs)


SPAWNS = """import multiprocessing

def work(number):
    return number + 1

def main(vcpu):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        vcpu.out8(0x3d4, pool.apply(work, (4,)))
"""


@some_heavy(
    "stem, accel",
    every(
        ["spawns", "json", "numpy", "hv", "in.two", "multiprocessing", "types"],
        ["process", "direct"],
    ),
    lambda stem, accel: (
        (stem, accel) in (("json", "direct"), ("spawns", "process"), ("in.two", "process"))
    ),
)
def test_a_guest_s_functions_run_in_processes_that_are_spawned(
    tmp_path: Path, stem: str, accel: str
) -> None:
    """Also when its file has the name of a module that such a process needs."""
    (tmp_path / f"{stem}.py").write_text(SPAWNS)
    arguments = ("run", f"{stem}.py:main", "--json", "--accel", accel, "--no-coalesce")
    done = started_anew(tmp_path, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["identical"]


def test_a_guest_file_takes_no_other_module_s_name(tmp_path: Path) -> None:
    (tmp_path / "signal.py").write_text("def main(vcpu):\n    vcpu.out8(0x3d4, 1)\n")
    done = started_anew(tmp_path, "run", "signal.py:main", "--json")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_sent_sigbus_leaves_the_guard_against_truncation_in_place(tmp_path: Path) -> None:
    code = (
        "import os, signal\nfrom coalesced.hv import core, shm\n"
        "from coalesced.hv.errors import SegmentError\n"
        "segment = shm.create('ring', 8192)\nmapping = shm.mapped(segment)\n"
        "os.kill(os.getpid(), signal.SIGBUS)\nsignal.raise_signal(signal.SIGBUS)\n"
        "os.ftruncate(segment.fd, 0)\n"
        "try:\n    mapping.read(4096, 8)\nexcept SegmentError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done
    assert "'ring' was truncated by another process" in done.stdout


def test_cpus_that_somebody_else_set_meanwhile_stay(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("needs two CPUs")
    other = {max(before)}
    try:
        accel = ProcessAccelerator(GuestProcess(), cpus="same")
        os.sched_setaffinity(0, other)
        accel.close()
        assert os.sched_getaffinity(0) == other
        os.sched_setaffinity(0, before)
        accel = ProcessAccelerator(GuestProcess(), cpus="same")
        accel.close()
        assert os.sched_getaffinity(0) == before
        accel = ProcessAccelerator(GuestProcess(), cpus="same")
        accel.put_cpus_back()
        assert os.sched_getaffinity(0) == before
        os.sched_setaffinity(0, other)
        accel.close()
        assert os.sched_getaffinity(0) == other
        os.sched_setaffinity(0, before)
        placed = place(os.getpid(), "same")
        put_back(placed, {4095})  # CPUs that this machine has no more
        assert os.sched_getaffinity(0) == placed
    finally:
        os.sched_setaffinity(0, before)


def test_moments_past_a_billion_seconds_are_told() -> None:
    """A machine or a time namespace may have such a clock."""
    code = (
        "import time\nfrom helpers.hv_pair import Pair\nfrom coalesced.hv.outcome import Event\n"
        "with Pair() as pair:\n"
        "    assert time.monotonic() > 1e9\n"
        "    print(pair.handle.wait(10, 0, time.monotonic() + 0.01) == Event.TIMED_OUT)\n"
        "    started = time.monotonic()\n"
        "    pair.handle.wait(20, 0, started + 0.01)\n"
        "    print(time.monotonic() - started < 10)\n"
    )
    clocks = ["unshare", "-T", "--monotonic", "1000000000", "--boottime", "1000000000"]
    if subprocess.run([*clocks, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no right to make a time namespace")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [*clocks, sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )
    assert done.stdout.split() == ["True", "True"], done

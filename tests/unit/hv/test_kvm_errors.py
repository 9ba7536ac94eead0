"""Machines whose /dev/kvm cannot be used: one line that says why."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import signal
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coalesced.hv import abi, kvm
from coalesced.hv.errors import KvmUnusable
from helpers.command_line import status_of
from helpers.descriptors import descriptors
from helpers.kvm_sides import needs_kvm

Answers = dict[int, int]
GOOD: Answers = {
    abi.KVM_CAP_COALESCED_MMIO: 2,
    abi.KVM_CAP_COALESCED_PIO: 1,
    abi.KVM_CAP_IMMEDIATE_EXIT: 1,
}


def said(device: str = kvm.DEVICE) -> str:
    with pytest.raises(KvmUnusable) as raised:
        kvm.capabilities(device)
    return str(raised.value)


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Answers], None]:
    """Have something answer as KVM of that version with those capabilities."""

    def answer(version: int, extensions: Answers) -> None:
        def ioctl(_fd: int, number: int, argument: int = 0) -> int:
            if number == abi.KVM_GET_API_VERSION:
                return version
            if number == abi.KVM_CHECK_EXTENSION:
                return extensions.get(argument, 0)
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

        monkeypatch.setattr(fcntl, "ioctl", ioctl)

    return answer


def test_no_device(tmp_path: Path) -> None:
    missing = str(tmp_path / "kvm")
    assert said(missing).startswith(f"{missing}: no such device here: its file is missing")


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENODEV, "no KVM in this kernel: "),
        (errno.ENXIO, "no KVM in this kernel: "),
        (errno.EACCES, "no permission to open it for reading and writing "),
        (errno.EPERM, "not allowed to open it: "),
        (errno.EBUSY, "Device or resource busy"),
    ],
    ids=errno.errorcode.get,
)
def test_why_the_device_does_not_open(
    monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    def refuse(path: str, _flags: int) -> int:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "open", refuse)
    assert said().startswith(f"/dev/kvm: {reason}")


@pytest.mark.skipif(os.geteuid() != 0, reason="no right to make a device file")
def test_a_device_file_that_no_driver_answers(tmp_path: Path) -> None:
    """The real thing: a number of the misc devices that nothing has taken."""
    path = tmp_path / "kvm"
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(10, 254))
    except PermissionError:
        pytest.skip("no right to make a device file")
    assert said(str(path)).startswith(f"{path}: no")


def test_another_device() -> None:
    assert (
        said(os.devnull) == "/dev/null: it does not answer as KVM: Inappropriate ioctl for device"
    )


def test_another_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert said() == "/dev/kvm: expected an x86-64 machine, got aarch64"


def test_another_version(answering: Callable[[int, Answers], None]) -> None:
    answering(11, GOOD)
    assert said(os.devnull) == f"{os.devnull}: expected version 12 of KVM's interface, got 11"


@pytest.mark.parametrize(
    ("lacking", "name"),
    [
        (abi.KVM_CAP_COALESCED_MMIO, "coalesced MMIO (KVM_CAP_COALESCED_MMIO)"),
        (abi.KVM_CAP_IMMEDIATE_EXIT, "immediate_exit (KVM_CAP_IMMEDIATE_EXIT)"),
    ],
)
def test_a_capability_that_is_not_there(
    answering: Callable[[int, Answers], None], lacking: int, name: str
) -> None:
    answering(12, {**GOOD, lacking: 0})
    assert said(os.devnull) == f"{os.devnull}: KVM lacks {name}"


def test_ports_may_be_without(answering: Callable[[int, Answers], None]) -> None:
    answering(12, {**GOOD, abi.KVM_CAP_COALESCED_PIO: 0})
    assert kvm.capabilities(os.devnull) == kvm.Capabilities(coalesced_mmio=2, coalesced_pio=False)


def test_a_vm_that_cannot_be_made_leaves_nothing_open(
    answering: Callable[[int, Answers], None],
) -> None:
    answering(12, GOOD)
    before = descriptors()
    with pytest.raises(KvmUnusable, match="no VM can be created: Device or resource busy"):
        kvm.KvmVm(os.devnull)
    assert descriptors() - before == set()


@needs_kvm
def test_signals_do_not_keep_a_vm_from_being_made() -> None:
    """KVM_CREATE_VM is among the calls that a signal ends; these come faster than it succeeds."""
    came = 0

    def count(_number: int, _frame: object) -> None:
        nonlocal came
        came += 1

    signal.signal(signal.SIGALRM, count)
    done, thread = threading.Event(), threading.get_ident()

    def send() -> None:
        # To this thread alone: one that came to another thread could be handled after the test.
        while not done.wait(1e-5):
            signal.pthread_kill(thread, signal.SIGALRM)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        while came < 100:
            kvm.KvmVm().close()
    finally:
        done.set()
        sender.join()


@needs_kvm
def test_a_closed_vcpu_has_no_timer() -> None:
    """Or it would end some call of this thread long after the run."""
    vm = kvm.KvmVm()
    vcpu = vm.create_vcpu()
    memory = vm.set_user_memory_region(0, 0x100000, abi.PAGE_SIZE)
    assert memory is not None
    memory.mapping.write(0, b"\xf4")
    vcpu.start_at(0x100000, 0x101000)
    before = Path("/proc/self/timers").read_text()
    got = vcpu.run(None)
    assert isinstance(got, tuple)
    assert got[0] == abi.KVM_EXIT_HLT
    assert Path("/proc/self/timers").read_text() != before
    vm.close()
    assert Path("/proc/self/timers").read_text() == before


@pytest.mark.parametrize("release", ["6.11.0-9-generic", "5.4", "6.2-rc1", "5", "6-mine", "kernel"])
def test_several_vcpus_need_a_ring_that_can_be_drained_meanwhile(
    monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    kvm.check_several(1)
    with pytest.raises(KvmUnusable) as raised:
        kvm.check_several(2)
    assert str(raised.value).startswith(f"2 vCPUs: expected Linux 6.12 or newer, got {release}: ")


@pytest.mark.parametrize("release", ["6.12", "6.18.44-fc", "7.0-rc1", "7-mine", "10.1"])
def test_newer_kernels_have_one(monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    kvm.check_several(8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["demo", "vga"], ["replay", "boot"], ["run", "g.py:f"], ["bench", "vga"]]
)
def test_every_command_says_it_with_status_2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str]
) -> None:
    lines: list[str] = []
    monkeypatch.chdir(tmp_path)
    opened = os.open

    def no_kvm(path: str, flags: int, *rest: Any, **named: Any) -> int:
        if path == kvm.DEVICE:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return opened(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", no_kvm)
    assert status_of([*command, "--accel", "kvm", "--json"], lines.append) == 2
    (line,) = lines
    assert line.startswith("--accel kvm: /dev/kvm: no such device here: ")
    assert list(tmp_path.iterdir()) == []

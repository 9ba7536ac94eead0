"""A user's device that raises in a timer or in a signal handler."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.qtest_peer import MODES, coalesced
from helpers.vmm_cli import one_line, run

BAR = 0xE0000000
DEVICE = """\
import signal
from coalesced.devices.bus.pci import Bar, PciFunction
from coalesced.devices.bus.region import Region

class Given(Exception):
    pass

def give_up(*_):
    raise Given("late")

class Raises(PciFunction):
    def __init__(self):
        self.value = self.ticks = 0
        region = Region("raises", 4096, lambda _at, _size: self.value, self.write)
        super().__init__(name="raises", vendor_id=0x1234, device_id=0xADD1, class_code=0xFF0000,
                         bars={0: Bar(region)})

    def write(self, _at, _size, value):
        self.value = value
        if value == 1:
            signal.signal(signal.SIGALRM, give_up)
            signal.setitimer(signal.ITIMER_REAL, 0.02, 0.001)
        if value == 3:
            raise Given("at once")
        if value == 2:
            self.bus.clock.call_at(self.bus.clock.now() + 1000000, self.tick)
            self.bus.clock.call_at(self.bus.clock.now() + 1000001, self.tick)

    def tick(self):
        self.ticks += 1
        self.value = 0x70 + self.ticks
        raise Given("in time")

    def state(self):
        return super().state()
"""
GUEST = f"""\
import time

def place(vcpu):
    for register, value in ((0x10, {BAR}), (4, 2)):
        vcpu.out32(0xcf8, 0x80002800 | register)
        vcpu.out32(0xcfc, value)

def signals(vcpu):
    place(vcpu)
    vcpu.store32({BAR}, 1)
    time.sleep(10)
    while True:
        vcpu.load32({BAR})

def timers(vcpu):
    place(vcpu)
    vcpu.store32({BAR}, 2)
    until = time.monotonic() + 20
    while vcpu.load32({BAR}) != 0x72 and time.monotonic() < until:
        pass
    assert vcpu.load32({BAR}) == 0x72

def writes(vcpu):
    place(vcpu)
    for _ in range(12):
        vcpu.store32({BAR}, 3)
"""
MAP = ["outl 0xcf8 0x80002810", f"outl 0xcfc {BAR}", "outl 0xcf8 0x80002804", "outl 0xcfc 2"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "device.py").write_text(DEVICE)
    (tmp_path / "guest.py").write_text(GUEST)
    return tmp_path


IN_TIME, LATE = (
    1 + next(n for n, line in enumerate(DEVICE.splitlines()) if line.endswith(end))
    for end in ('Given("in time")', 'Given("late")')
)


@pytest.mark.parametrize("accel", ["process", "direct"])
def test_a_timer_that_raises_is_reported_and_the_next_one_is_called(
    folder: Path, accel: str
) -> None:
    device = f"{folder / 'device.py'}:Raises,addr=05.0"
    done = run("run", "guest.py:timers", "--device", device, "--accel", accel, "--json", cwd=folder)
    told = f"timer Raises.tick: {folder / 'device.py'}:{IN_TIME}: Given: in time"
    for each in json.loads(done.stdout)["runs"]:
        assert (each["failed_writes"], each["failures"]) == (2, [told, told])
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_of_many_accesses_whose_device_raises_ten_are_shown_and_the_rest_is_counted(
    folder: Path,
) -> None:
    device = f"{folder / 'device.py'}:Raises,addr=05.0"
    done = run("run", "guest.py:writes", "--device", device, "--accel", "direct", cwd=folder)
    *shown, last = done.stderr.splitlines()
    assert len(shown) == 10
    assert all(line.endswith(": Given: at once") for line in shown)
    assert last == "direct: 2 more failed"


@pytest.mark.parametrize("accel", ["process", "direct"])
def test_a_signal_handler_of_a_device_ends_the_run_with_one_line(folder: Path, accel: str) -> None:
    """It goes on raising while the error is reported, and when the program ends."""
    device = f"{folder / 'device.py'}:Raises,addr=05.0"
    done = run("run", "guest.py:signals", "--device", device, "--accel", accel, cwd=folder)
    assert one_line(done, 1) == f"{folder / 'device.py'}:{LATE}: Given: late"


@pytest.mark.parametrize("mode", MODES)
def test_a_qtest_server_survives_a_timer_that_raises(folder: Path, mode: str) -> None:
    device = f"{folder / 'device.py'}:Raises,addr=05.0"
    with coalesced([device], *MODES[mode], "--json") as peer:
        assert peer.ask_all([*MAP, f"writel {BAR} 2"]) == ["OK"] * 5
        assert peer.ask("clock_step 2000000").startswith("OK ")
        assert peer.ask(f"readl {BAR}") == "OK 0x0000000000000072"
        status, out, err = peer.end()
    assert (status, "Traceback" in err) == (1, False)
    assert len(json.loads(out)["failures"]) == 2


@pytest.mark.parametrize("mode", MODES)
def test_a_qtest_server_whose_device_s_signal_handler_raises_ends_with_one_line(
    folder: Path, mode: str
) -> None:
    device = f"{folder / 'device.py'}:Raises,addr=05.0"
    with coalesced([device], *MODES[mode]) as peer:
        assert peer.ask_all([*MAP, f"writel {BAR} 1"]) == ["OK"] * 5
        assert peer.line() == ""
        status, out, err = peer.end()
    assert (status, out) == (1, "")
    assert err == f"coalesced: {folder / 'device.py'}:{LATE}: Given: late\n"

"""Devices of one's own, in `run` and `qtest`; what is wrong with one is said in one line."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from helpers import qtest_devices
from helpers.vmm_cli import json_of, one_line, run

DEVICES = Path(qtest_devices.__file__)


def test_a_guest_drives_a_device_of_ones_own(tmp_path: Path) -> None:
    """The same state with the ring, without, and in one process; the declared half is queued."""
    result = json_of(
        "run", f"{DEVICES}:add", "--device", f"{DEVICES}:Adder,addr=05.0", cwd=tmp_path
    )
    assert result["identical"]
    queued, every, direct = result["runs"]
    assert queued["coalesced"] >= 500
    assert every["coalesced"] == direct["coalesced"] == 0
    assert every["exits"] - queued["exits"] >= 490


def test_a_device_takes_properties(tmp_path: Path) -> None:
    done = run(
        *("run", f"{DEVICES}:add", "--device", f"{DEVICES}:Bell,addr=05.0,size=0x30"),
        *("--accel", "direct"),
        cwd=tmp_path,
    )
    assert "expected a power of two from 16" in one_line(done, 2)


def test_a_picture_needs_a_display(tmp_path: Path) -> None:
    device = f"{DEVICES}:Adder,addr=05.0"
    done = run(
        *("run", f"{DEVICES}:add", "--device", device, "--png", "x.png", "--accel", "direct"),
        cwd=tmp_path,
    )
    assert one_line(done, 2) == "--png x.png: no device of this machine has a screen"


PRELUDE = """
from coalesced.devices.bus.pci import Bar, PciFunction
from coalesced.devices.bus.region import Region

def made(region, **more):
    return {"name": "x", "vendor_id": 1, "device_id": 1, "class_code": 0, "bars": {0: Bar(region)}}

"""

WRONG = {
    "a syntax error": ("def", "import of x.py: line"),
    "an import that fails": ("import no_such_thing", "ModuleNotFoundError: No module named"),
    "no such class": ("Y = 1", "x.py has no class 'X'"),
    "no class": ("X = 1", "'X' in x.py is not a class"),
    "no PCI function": (
        "class X: pass",
        "X is not derived from coalesced.devices.bus.pci.PciFunction",
    ),
    "a class that raises": (
        """
        class X(PciFunction):
            def __init__(self):
                raise RuntimeError("out of\\nsmoke")
        """,
        "X(): line 11: RuntimeError: out of smoke",
    ),
    "no call of the base class": (
        """
        class X(PciFunction):
            def __init__(self):
                pass
        """,
        "X.__init__ does not call super().__init__()",
    ),
    "a method is missing": (
        """
        class X(PciFunction):
            def __init__(self):
                super().__init__(**made(Region("r", 16, self.read, self.write)))
            def read(self, offset, size):
                return 0
        """,
        "X(): line 11: AttributeError: 'X' object has no attribute 'write'",
    ),
    "a handler is not a function": (
        """
        class X(PciFunction):
            def __init__(self):
                super().__init__(**made(Region("r", 16, 1, 2)))
        """,
        "region 'r': read: expected a function, got 1",
    ),
    "a range outside the BAR": (
        """
        class X(PciFunction):
            def __init__(self):
                nothing = lambda *_: 0
                region = Region("r", 16, nothing, nothing, coalesced=((8, 16),))
                super().__init__(**made(region))
        """,
        "ValueError: region 'r': coalesced range 0x8+0x10 does not lie in its 0x10 bytes",
    ),
    "a BAR of a size that cannot be": (
        """
        class X(PciFunction):
            def __init__(self):
                nothing = lambda *_: 0
                super().__init__(**made(Region("r", 48, nothing, nothing)))
        """,
        "ValueError: BAR 'r': expected a power of two from 16 to 0x80000000 bytes, got 0x30",
    ),
    "a state that cannot be compared": (
        """
        class X(PciFunction):
            def __init__(self):
                nothing = lambda *_: 0
                super().__init__(**made(Region("r", 16, nothing, nothing)))
            def state(self):
                return {"mood": "fine"}
        """,
        "X.state(): 'mood' is str, expected int, bytes or memoryview",
    ),
    "a reset that raises": (
        """
        class X(PciFunction):
            def __init__(self):
                nothing = lambda *_: 0
                super().__init__(**made(Region("r", 16, nothing, nothing)))
            def reset(self):
                self.gone += 1
        """,
        "X.reset(): line 14: AttributeError: 'X' object has no attribute 'gone'",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_a_device(what: str, tmp_path: Path) -> None:
    source, reason = WRONG[what]
    (tmp_path / "x.py").write_text(PRELUDE + textwrap.dedent(source))
    done = run(
        *("run", f"{DEVICES}:add", "--device", "x.py:X,addr=05.0", "--accel", "direct"),
        cwd=tmp_path,
    )
    line = one_line(done, 2)
    assert line.startswith("device 'x.py:X': ")
    assert reason in line


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = run("run", f"{DEVICES}:add", "--device", "x.py:X", "--accel", "direct", cwd=tmp_path)
    assert one_line(done, 2) == "device 'x.py:X': there is no file x.py"

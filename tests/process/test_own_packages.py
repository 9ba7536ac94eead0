"""A user's own packages called tools, devices, hv or vmm do not clash with this program's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coalesced.tools.bench.spawn import Spawned
from helpers.vmm_cli import json_of, run

if TYPE_CHECKING:
    from coalesced.tools.bench.spawn import Control

NAMES = ("tools", "devices", "hv", "vmm")
GUEST = """\
import devices, hv, tools, vmm
from tools.inner import VALUE

def main(vcpu):
    owners = {module.OWNER for module in (devices, hv, tools, vmm)}
    assert owners == {"the user"}, owners
    vcpu.store8(0xa0000, VALUE)
"""
CARD = """\
from coalesced.devices.bus.pci import PciFunction
from tools.inner import VALUE
import devices

class Card(PciFunction):
    def __init__(self):
        super().__init__(name="card", vendor_id=0x1234, device_id=VALUE, class_code=0xff0000)
        assert devices.OWNER == "the user"

    def state(self):
        return {}

    def reset(self):
        pass
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with four packages; importing the program's modules from them would fail."""
    folder = tmp_path / "packages"
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("OWNER = 'the user'\n")
    (folder / "tools" / "inner.py").write_text("VALUE = 7\n")
    return folder


@pytest.mark.parametrize("accel", ["process", "direct"])
def test_a_guest_imports_the_packages_beside_its_file(packages: Path, accel: str) -> None:
    (packages / "guest.py").write_text(GUEST)
    for cwd, guest in ((packages, "guest.py"), (packages.parent, "packages/guest.py")):
        assert json_of("run", f"{guest}:main", "--accel", accel, cwd=cwd)["identical"]


def test_a_guest_imports_packages_on_pythonpath(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(packages))
    (tmp_path / "guest.py").write_text(GUEST)
    assert json_of("run", "guest.py:main", cwd=tmp_path)["identical"]


def test_a_users_device_imports_the_packages_beside_its_file(packages: Path) -> None:
    (packages / "card.py").write_text(CARD)
    (packages / "guest.py").write_text(GUEST)
    found = json_of(
        "run", "guest.py:main", "--device", "card.py:Card,addr=05.0", "--device", "VGA",
        "--accel", "process", cwd=packages,
    )  # fmt: skip
    assert found["identical"]


@pytest.mark.parametrize(
    "arguments",
    [["info"], pytest.param(["demo", "e1000", "--frames", "10"], marks=pytest.mark.heavy)],
)
def test_packages_on_pythonpath_and_in_the_working_directory_change_no_command(
    packages: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    for name in NAMES:  # an import of one of them would be an error
        (packages / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    monkeypatch.setenv("PYTHONPATH", str(packages))
    done = run(*arguments, cwd=packages)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def _ready(control: Control) -> None:
    control.send("ready")


def test_processes_of_a_benchmark_import_nothing_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "multiprocessing.py").write_text("raise SystemExit('the wrong module')\n")
    monkeypatch.chdir(tmp_path)
    Spawned(_ready).close()

"""The sdist and the wheel of `make dist`, each installed into a fresh environment and run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.heavy

ABOUT = """
import json
from importlib.metadata import files
from pathlib import Path
import coalesced
print(json.dumps({
    "installed": sorted(str(path) for path in files("coalesced-mmio")),
    "where": coalesced.__file__,
    "headers": sorted(path.name for path in Path(coalesced.get_include()).glob("*.h")),
}))
"""


def run(*command: object, cwd: Path) -> str:
    """Run a command to its end without this process's PYTHON variables; what it printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that `make dist` fills in a copy of the checkout, and what the build printed."""
    if shutil.which("make") is None or shutil.which("git") is None:
        pytest.skip("no make or no git on this machine")
    copy = tmp_path_factory.mktemp("checkout")
    listed = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"]
    names = run(*listed, "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, names):
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name, follow_symlinks=False)
    said = run("make", f"PYTHON={sys.executable}", "dist", cwd=copy)
    return copy / "dist", said


def test_the_build_warns_of_nothing_deprecated(dist: tuple[Path, str]) -> None:
    _, said = dist
    assert not [line for line in said.splitlines() if re.search("deprecat", line, re.IGNORECASE)]


@pytest.mark.parametrize("minor", [11, 12, 13, 14])
def test_the_wheel_installs_and_runs(dist: tuple[Path, str], minor: int, tmp_path: Path) -> None:
    python = interpreter(minor)
    if python is None:
        pytest.skip(f"no Python 3.{minor} on this machine")
    (wheel,) = dist[0].glob("coalesced_mmio-*-cp311-abi3-manylinux_*.whl")
    check(python, wheel, tmp_path)


def test_the_sdist_installs_and_runs(dist: tuple[Path, str], tmp_path: Path) -> None:
    (sdist,) = dist[0].glob("coalesced_mmio-*.tar.gz")
    check(sys.executable, sdist, tmp_path)


def interpreter(minor: int) -> str | None:
    """A Python of this version: this one, one on the PATH, or one that pyenv installed."""
    if sys.version_info.minor == minor:
        return sys.executable
    versions = Path.home() / ".pyenv" / "versions"
    found = sorted(versions.glob(f"3.{minor}.*/bin/python"))
    return str(found[-1]) if found else shutil.which(f"python3.{minor}")


def check(python: str, package: Path, tmp_path: Path) -> None:
    """Install a distribution into a fresh environment of this Python, and run it."""
    run(python, "-m", "venv", "venv", cwd=tmp_path)
    binaries = tmp_path / "venv" / "bin"
    run(
        binaries / "pip", "install", "--quiet", "--disable-pip-version-check", package, cwd=tmp_path
    )

    about = json.loads(run(binaries / "python", "-c", ABOUT, cwd=tmp_path))
    tops = {path.split("/")[0] for path in about["installed"] if not path.endswith("bin/coalesced")}
    (metadata,) = tops - {"coalesced"}
    assert re.fullmatch(r"coalesced_mmio-[\d.]+\.dist-info", metadata)
    assert Path(about["where"]).is_relative_to(tmp_path)
    assert about["headers"] == ["exit.h", "ring.h", "shared_ring.h", "user_ring.h"]
    page = {Path(path).name for path in about["installed"] if "/live/page/" in path}
    assert page == {path.name for path in (ROOT / "tools" / "live" / "page").iterdir()}
    sources = [path for path in about["installed"] if path.endswith(".c")]
    assert sources  # the explorer of `litmus FILE`, compiled with the user's program
    assert all("/litmus/checker/" in path for path in sources)

    version = metadata.removeprefix("coalesced_mmio-").removesuffix(".dist-info")
    program = binaries / "coalesced"
    assert run(program, "--version", cwd=tmp_path) == f"coalesced {version}\n"
    assert "Usage: coalesced" in run(program, "-h", cwd=tmp_path)
    assert "page_size" in json.loads(run(program, "info", "--json", cwd=tmp_path))
    shown = json.loads(run(program, "demo", "vga", "--png", "none", "--json", cwd=tmp_path))
    assert shown["identical"]
    assert [each["exits"] for each in shown["runs"]] == [5439, 130562, 1]

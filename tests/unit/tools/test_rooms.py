"""The rooms of tools/ import downwards only, and only commands/ knows the command line."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import coalesced.tools

TOOLS = Path(coalesced.tools.__file__ or "").parent
FLOORS = [
    {"commands"},
    {"advise", "bench", "boot", "litmus", "live", "qtest", "stress"},
    {"rings", "runs"},
    {"guests", "traces"},
]
ROOMS = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


@cache
def imports(path: Path) -> set[str]:
    """The modules that a file imports, also inside functions and for types only."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(module: str) -> str | None:
    """The room that a module is in; None outside the rooms of tools/."""
    parts = module.removeprefix("coalesced.tools.").split(".")
    return parts[0] if module.startswith("coalesced.tools.") and parts[0] in ROOMS else None


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_no_room_above_or_beside_it(room: str) -> None:
    files = list((TOOLS / room).rglob("*.py"))
    assert files
    for path in files:
        for module in imports(path):
            other = room_of(module)
            assert other in (None, room) or ROOMS[other] > ROOMS[room], (path, module)


def test_only_commands_know_typer() -> None:
    users = {path for path in TOOLS.rglob("*.py") if any("typer" in m for m in imports(path))}
    assert users
    assert {path.parent for path in users} == {TOOLS / "commands"}


def test_a_vga_demonstration_imports_no_network_card() -> None:
    program = (
        "import sys; from coalesced.tools.commands import app; app.application(['demo', 'vga']);"
        "print(*(name for name in sys.modules if 'e1000' in name or 'network' in name))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) <= {
        "coalesced.tools.commands.demo_e1000",
        "coalesced.vmm.netdev.network",
    }

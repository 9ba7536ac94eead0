"""Files and functions stay short enough to be read at once, and have no line that never runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("hv", "vmm", "devices", "tools", "src")
FUNCTION, MEDIAN = 60, 10  # lines
FILE, TEST_FILE = 400, 500


def sources(folder: str, *suffixes: str) -> list[Path]:
    """The files of a folder that are read, not made."""
    found = (path for suffix in suffixes for path in (ROOT / folder).rglob(f"*{suffix}"))
    return [path for path in found if "__pycache__" not in path.parts]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """The name and the lines of each function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield f"{path}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def unreachable(path: Path) -> Iterator[str]:
    """Statements behind one that leaves their block."""
    for node in ast.walk(ast.parse(path.read_text())):
        for _, block in ast.iter_fields(node):
            if isinstance(block, list):
                for one, after in pairwise(block):
                    if isinstance(one, ast.Return | ast.Raise | ast.Continue | ast.Break):
                        yield f"{path}:{after.lineno}"


def test_a_statement_behind_a_return_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f(x):\n    if x:\n        return 1\n        x = 2\n")
    assert list(unreachable(tmp_path / "a.py")) == [f"{tmp_path / 'a.py'}:4"]


@pytest.mark.slow
def test_no_statement_is_unreachable() -> None:
    files = [path for folder in (*PRODUCT, "tests", "examples") for path in sources(folder, ".py")]
    assert len(files) > 500
    assert [place for path in files for place in unreachable(path)] == []


@pytest.mark.slow
def test_no_function_is_long_and_most_are_short() -> None:
    lines = {
        name: count
        for folder in PRODUCT
        for path in sources(folder, ".py")
        for name, count in functions(path)
    }
    assert len(lines) > 3000
    assert [name for name, count in lines.items() if count > FUNCTION] == []
    assert median(lines.values()) <= MEDIAN


@pytest.mark.parametrize(
    ("folders", "most"), [(PRODUCT, FILE), (("tests", "examples", "docs"), TEST_FILE)]
)
def test_no_file_is_long(folders: tuple[str, ...], most: int) -> None:
    files = [path for folder in folders for path in sources(folder, ".py", ".c", ".h", ".pyi")]
    assert len(files) > 100
    long = {path: count for path in files if (count := path.read_text().count("\n")) > most}
    assert long == {}

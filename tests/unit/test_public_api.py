"""`from coalesced import ...`: each public name, its documentation and its types."""

from __future__ import annotations

import ast
import inspect
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import coalesced

NAMES = sorted(coalesced._HOMES)
C_TYPES = {"Producer"}  # typed in hv/core.pyi


@pytest.mark.parametrize("name", [*NAMES, "get_include"])
def test_a_public_name_is_documented_and_typed(name: str) -> None:
    value = getattr(coalesced, name)
    assert value.__doc__
    if name in C_TYPES:
        return
    for function in _functions(value):
        signature = inspect.signature(function)
        parameters = [p for p in signature.parameters.values() if p.name not in {"self", "cls"}]
        untyped = [p.name for p in parameters if p.annotation is inspect.Parameter.empty]
        assert untyped == [], function
        assert signature.return_annotation is not inspect.Signature.empty, function


def _functions(value: Callable[..., Any]) -> list[Callable[..., Any]]:
    """A function, or the public methods that a class defines itself."""
    if not isinstance(value, type):
        return [value]
    public = [v for k, v in vars(value).items() if k == "__init__" or not k.startswith("_")]
    return [v for v in public if inspect.isfunction(v)]


def test_a_type_checker_sees_the_names_that_are_there() -> None:
    tree = ast.parse(Path(coalesced.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: f"{node.module}:{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    homes = {name: home.partition(":") for name, home in coalesced._HOMES.items()}
    assert seen == {
        name: f"coalesced.{module}:{original or name}"
        for name, (module, _, original) in homes.items()
    }


def test_the_import_loads_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import coalesced; "
        "print(sorted(set(sys.modules) - before)); "
        "print(sorted(set(vars(coalesced)) & set(coalesced._HOMES)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['coalesced']", "[]"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = coalesced.nothing  # type: ignore[attr-defined]
    assert set(NAMES) <= set(dir(coalesced))


def test_the_headers_compile_from_the_include_folder(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler on this machine")
    source = tmp_path / "user.c"
    source.write_text("#include <ring.h>\n#include <exit.h>\nint main(void) { return 0; }\n")
    command = [
        compiler,
        "-std=gnu11",
        "-D_GNU_SOURCE",
        "-fsyntax-only",
        f"-I{coalesced.get_include()}",
        str(source),
    ]
    subprocess.run(command, check=True)

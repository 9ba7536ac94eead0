"""Scripts as parameters of tests."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from _pytest.mark import ParameterSet
from conformance_script import Script


def parameter(value: object, *more: object, script: Script, name: str) -> ParameterSet:
    """A parameter of a script; all tests of it run in one worker: QEMU carries it out once."""
    return pytest.param(value, *more, id=name, marks=pytest.mark.xdist_group(script.name))


def parameters(scripts: Iterable[Script]) -> list[ParameterSet]:
    """Each script as a parameter, under its name."""
    return [parameter(script, script=script, name=script.name) for script in scripts]

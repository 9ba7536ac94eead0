"""What the README says about guests and devices of one's own, run as it is printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from helpers.vmm_cli import json_of

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize("title", ["**A guest of your own**", "**A device of your own**"])
def test_the_readmes_program_runs_as_printed(title: str, tmp_path: Path) -> None:
    """Its code, its command, and the exits that the text gives."""
    text = README.read_text()
    section = text[text.index(title) :]
    code = re.search(r"into\s`(\w+\.py)`:\n\n```python\n(.*?)```", section, re.DOTALL)
    command = re.search(r"run it with\n\n {4}(.*)\n", section)
    figures = re.search(r"([\d,]+) exits with the ring, ([\d,]+) without", section)
    assert code is not None
    assert command is not None
    assert figures is not None
    (tmp_path / code[1]).write_text(code[2])
    program, *arguments = shlex.split(command[1])
    assert program == "coalesced"

    result = json_of(*arguments, cwd=tmp_path)
    with_ring, without, _direct = result["runs"]
    assert result["identical"]
    assert [with_ring["exits"], without["exits"]] == [
        int(number.replace(",", "")) for number in figures.groups()
    ]

"""What the README says about a guest of one's own, run as it is printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from helpers.vmm_cli import json_of

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_guest_runs_as_printed(tmp_path: Path) -> None:
    """Its code, its command, and the figures that the text gives."""
    text = README.read_text()
    section = text[text.index("**A guest of your own**") :]
    code = re.search(r"into `(\w+\.py)`:\n\n```python\n(.*?)```", section, re.DOTALL)
    command = re.search(r"run it with\n\n {4}(.*)\n", section)
    figures = re.search(r"([\d,]+) writes: ([\d,]+) exits with the ring, ([\d,]+) without", section)
    assert code is not None
    assert command is not None
    assert figures is not None
    (tmp_path / code[1]).write_text(code[2])
    program, *arguments = shlex.split(command[1])
    assert program == "coalesced"

    result = json_of(*arguments, cwd=tmp_path)
    with_ring, without, _direct = result["runs"]
    assert result["identical"]
    assert (tmp_path / "bars.png").is_file()
    to_the_window = with_ring["coalesced"] + with_ring["exits_by"]["ring_full"]
    assert [to_the_window, with_ring["exits"], without["exits"]] == [
        int(number.replace(",", "")) for number in figures.groups()
    ]

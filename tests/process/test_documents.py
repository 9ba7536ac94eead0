"""README, docs/ and CONTRIBUTING: code blocks are run as printed, and links lead to files.

A console block shows commands behind `$` and what they print; in it `…` stands for any text, on a
line of its own for any lines. A Python block with a title is the file of that name.
"""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from coalesced.tools.runs import firmware
from helpers.vmm_cli import LIMIT, run

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
REASONS = {
    "builds the checkout",
    "builds the checkout and runs its tests",
    "installs packages",
    "measures for minutes on an idle machine",
    "needs /dev/kvm",
    "needs GRUB's rescue floppy",
    "needs QEMU and a disk image",
    "needs SeaBIOS",
    "needs a peer that listens on the socket",
    "needs memtest86+ and QEMU's option ROM",
    "needs nasm, passt, iPXE and a TFTP server",
    "needs root, dnsmasq and iPXE",
    "needs root",
    "serves a page until Ctrl-C",
}
# Of these, the blocks that run on this machine after all.
POSSIBLE = {"needs SeaBIOS"} if firmware.find(firmware.BIOS) else set()
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>.*?) -->\n)?"
    r'```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A fenced block of a page."""

    reason: str | None
    language: str
    title: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(**match.groupdict()) for match in BLOCK.finditer(page.read_text())]


def commands(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console block with the lines that it prints."""
    text = block.text.replace("\\\n", "")  # a command may go on in the next line
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *output = part.splitlines()
        yield command, output


def pattern(lines: list[str]) -> str:
    """A regular expression for what a command prints, less the padding of columns."""
    return "".join(
        r"(?:.*\n)*?" if line == "…" else r"[^\n]*".join(map(re.escape, line.split("…"))) + r"\n"
        for line in unpadded("\n".join(lines)).splitlines()
    )


def unpadded(text: str) -> str:
    """Columns are as wide as their widest figure, which varies."""
    return re.sub(" +", " ", text)


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    """Output by command, of those that take no file and are on several pages."""
    return {}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[] if page.parent == ROOT else [pytest.mark.heavy])
        for page in PAGES
    ],
    ids=NAMES,
)
def test_a_page_runs_as_printed(page: Path, tmp_path: Path, printed: dict[str, str]) -> None:
    for block in blocks(page):
        if block.reason is not None and block.reason not in POSSIBLE:
            assert block.reason in REASONS
        elif block.language == "python":
            path = tmp_path / (block.title or "unnamed.py")
            path.write_text(block.text)
            if block.title is None:
                output_of(f"python {path.name}", tmp_path)
        elif block.language == "c":
            assert block.title is not None
            (tmp_path / block.title).write_text(block.text)
        elif block.language == "console":
            for command, expected in commands(block):
                output = printed.get(command) or output_of(command, tmp_path)
                if "." not in command:
                    printed[command] = output
                assert re.fullmatch(pattern(expected), unpadded(output)), f"{command}\n{output}"
        else:
            assert block.language == "text"


def output_of(command: str, folder: Path) -> str:
    """Run a command, which must succeed: its output on both streams."""
    program, *arguments = shlex.split(command)
    if program == "coalesced":
        done = run(*arguments, cwd=folder, variables={"COLUMNS": "80"})
    else:
        assert program == "python"
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def test_the_options_of_commands_that_are_not_run_exist(tmp_path: Path) -> None:
    """Those of blocks that cannot run, and those within sentences and tables."""
    named = [
        command
        for page in PAGES
        for block in blocks(page)
        if block.reason is not None
        for command, _ in commands(block)
    ]
    for page in PAGES:
        named += re.findall(r"`(coalesced [^`]+)`", page.read_text())
    helps: dict[str, str] = {}
    for command in named:
        program, *words = shlex.split(command, comments=True)
        if program != "coalesced":
            continue
        levels = 2 if words[0] in {"demo", "bench"} else 1
        path = shlex.join(itertools.takewhile(str.isalnum, words[:levels]))
        if path not in helps:
            helps[path] = output_of(f"coalesced {path} --help", tmp_path)
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        assert [option for option in options if option not in helps[path]] == [], command
    assert len(helps) >= 8


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    outside = ("http://", "https://")
    broken = [to for to in links if not to.startswith(outside) and not (page.parent / to).exists()]
    assert broken == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 1200

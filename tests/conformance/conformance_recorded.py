"""QEMU's replies, recorded for where it is not installed.

Record them anew, with QEMU 7.2 installed, after a script has changed:

    PYTHONPATH=tests .venv/bin/python tests/conformance/conformance_recorded.py [SCRIPT...]

A file per script: the digest of its commands, then a reply per line. A long reply is recorded as
a digest of its own.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
from pathlib import Path

from conformance_script import Script

FOLDER = Path(__file__).parent / "recorded"
LONGEST = 48


def condensed(reply: str) -> str:
    """A reply as it is recorded."""
    if len(reply) <= LONGEST:
        return reply
    return f"#{hashlib.blake2b(reply.encode(), digest_size=8).hexdigest()} {len(reply)}"


def digest(commands: list[str]) -> str:
    """A hash of a script's commands: a recording is of one version of them."""
    return hashlib.blake2b("\n".join(commands).encode(), digest_size=16).hexdigest()


def read(script: Script, commands: list[str]) -> list[str]:
    """The recorded replies, condensed. The recording must be of these commands."""
    text = gzip.decompress((FOLDER / f"{script.name}.gz").read_bytes()).decode()
    recorded, *replies = text.split("\n")
    assert recorded == digest(commands), f"{script.name}: the recording is of another version"
    assert len(replies) == len(commands)
    return replies


def write(script: Script, commands: list[str], replies: list[str]) -> None:
    """Record replies."""
    text = "\n".join([digest(commands), *map(condensed, replies)])
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{script.name}.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def main() -> None:
    """Record the scripts that are named as arguments, or all of them."""
    from conformance_reference import replies_of_qemu  # noqa: PLC0415
    from conformance_scripts import SCRIPTS  # noqa: PLC0415

    from helpers.qtest_peer import has_qemu  # noqa: PLC0415

    if not has_qemu():
        sys.exit("expected QEMU 7.2, not found")
    wanted = sys.argv[1:] or [script.name for script in SCRIPTS]
    for script in [script for script in SCRIPTS if script.name in wanted]:
        write(script, script.lines(), replies_of_qemu(script))


if __name__ == "__main__":
    main()

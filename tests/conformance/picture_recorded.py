"""QEMU's pictures, recorded for where it is not installed.

Record them anew, with QEMU 7.2 installed, after a script has changed:

    PYTHONPATH=tests .venv/bin/python tests/conformance/picture_recorded.py [SCRIPT...]

A file per script: the digest of its commands, width, height and number of colours; the colours;
then a byte per pixel that counts them, or the pixels themselves where there are too many.
"""

from __future__ import annotations

import lzma
import sys
from pathlib import Path

import numpy as np
from conformance_recorded import digest
from conformance_script import Script
from picture_reference import Picture, picture_of_qemu

FOLDER = Path(__file__).parent / "recorded_pictures"
MOST_COLORS = 256


def packed(picture: Picture, commands: list[str]) -> bytes:
    """A picture as it is recorded."""
    height, width, _ = picture.shape
    colors, places = np.unique(picture.reshape(-1, 3), axis=0, return_inverse=True)
    if len(colors) > MOST_COLORS:
        count, data = 0, picture.tobytes()
    else:
        count, data = len(colors), colors.tobytes() + places.astype(np.uint8).tobytes()
    head = f"{digest(commands)} {width} {height} {count}\n"
    return lzma.compress(head.encode() + data, preset=9)


def unpacked(recording: bytes, commands: list[str]) -> Picture:
    """The recorded picture. The recording must be of these commands."""
    head, data = lzma.decompress(recording).split(b"\n", 1)
    recorded, *numbers = head.decode().split()
    assert recorded == digest(commands), "the recording is of another version of the script"
    width, height, count = map(int, numbers)
    pixels = np.frombuffer(data, np.uint8)
    if count:
        pixels = pixels[: 3 * count].reshape(count, 3)[pixels[3 * count :]]
    return pixels.reshape(height, width, 3)


def read(script: Script) -> Picture:
    """The picture that was recorded for a script."""
    return unpacked(_path(script).read_bytes(), script.lines())


def _path(script: Script) -> Path:
    return FOLDER / f"{script.name}.xz"


def main() -> None:
    """Record the scripts that are named as arguments, or all of them."""
    from picture_scripts import SCRIPTS  # noqa: PLC0415

    from helpers.qtest_peer import has_qemu  # noqa: PLC0415

    if not has_qemu():
        sys.exit("expected QEMU 7.2, not found")
    wanted = sys.argv[1:] or [script.name for script in SCRIPTS]
    FOLDER.mkdir(exist_ok=True)
    for script in [script for script in SCRIPTS if script.name in wanted]:
        _path(script).write_bytes(packed(picture_of_qemu(script), script.lines()))


if __name__ == "__main__":
    main()

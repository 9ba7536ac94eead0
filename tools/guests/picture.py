"""A user's picture as a 640 x 480 screen of 16 colours."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coalesced.devices.vga.palette import expand_6bit
from coalesced.tools.errors import BadInput
from coalesced.vmm.accel.base import GuestMemory

if TYPE_CHECKING:
    from PIL import Image

WIDTH, HEIGHT, COLOURS = 640, 480, 16
PIXELS_MAX = 1 << 25  # to be decoded; four bytes each
ADDRESS = 0x100000  # guest-physical: palette, then pixels, see Picture.write_to


@dataclass(frozen=True)
class Picture:
    """`palette`: (16, 3) DAC values of 6 bits; `pixels`: (480, 640) indices into it."""

    palette: NDArray[np.uint8]
    pixels: NDArray[np.uint8]

    def rgb(self) -> NDArray[np.uint8]:
        """The picture as a VGA shows it, shape (480, 640, 3)."""
        return expand_6bit(self.palette)[self.pixels]

    def write_to(self, ram: Sequence[GuestMemory]) -> None:
        """Put it into guest RAM at ADDRESS, as a loader does: 48 bytes of palette, red green
        blue, then four planes of 80 x 480 bytes, leftmost pixel in bit 7."""
        planes = [np.packbits((self.pixels >> plane) & 1, axis=1).tobytes() for plane in range(4)]
        memory = next(m for m in ram if m.start <= ADDRESS < m.start + m.size)
        memory.write(ADDRESS - memory.start, self.palette.tobytes() + b"".join(planes))


def load(path: Path, pixels_max: int = PIXELS_MAX) -> Picture:
    """Read a picture, fit it on the screen (black around it) and quantise it to 16 colours.

    A picture of at most 640 x 480 keeps its size; one of at most 16 colours keeps them, as far as
    the DAC has them: 6 bits each. Raises BadInput when it cannot be read, or is too big.
    """
    from PIL import Image  # noqa: PLC0415 - only who draws a picture pays for it

    try:
        image = _decoded(path, pixels_max)
    except FileNotFoundError as error:
        raise BadInput(f"--image {path}: no such file") from error
    except Image.DecompressionBombError as error:
        raise BadInput(f"--image {path}: expected at most {pixels_max:,} pixels") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise BadInput(f"--image {path}: not a picture that can be read: {error}") from error
    screen = Image.new("RGB", (WIDTH, HEIGHT))
    screen.paste(image, ((WIDTH - image.width) // 2, (HEIGHT - image.height) // 2))
    return _quantise(np.asarray(screen))


def _decoded(path: Path, pixels_max: int) -> Image.Image:
    """The picture, as big as the screen at most; it is not decoded before its size is known."""
    from PIL import Image  # noqa: PLC0415

    if not path.is_dir() and path.exists() and not path.is_file():
        raise OSError("expected a file")
    before = Image.MAX_IMAGE_PIXELS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                opened.draft("RGB", (WIDTH, HEIGHT))  # a JPEG may be decoded smaller
                if opened.width * opened.height > pixels_max:
                    raise BadInput(
                        f"--image {path}: expected at most {pixels_max:,} pixels, "
                        f"it has {opened.width} x {opened.height}"
                    )
                # Pillow stops, at twice this, a file that holds more than it promises.
                Image.MAX_IMAGE_PIXELS = pixels_max // 2
                image = opened.convert("RGB")
    finally:
        Image.MAX_IMAGE_PIXELS = before
    if image.width > WIDTH or image.height > HEIGHT:
        image.thumbnail((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    return image


def _quantise(rgb: NDArray[np.uint8]) -> Picture:
    from PIL import Image  # noqa: PLC0415

    packed = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    exact, inverse = np.unique(packed, return_inverse=True)
    if len(exact) <= COLOURS:
        colours = (exact[:, None] >> np.array([16, 8, 0], dtype=np.uint32)).astype(np.uint8)
        pixels = inverse.reshape(HEIGHT, WIDTH)
    else:
        indexed = Image.fromarray(rgb).quantize(COLOURS, dither=Image.Dither.FLOYDSTEINBERG)
        entries = indexed.getpalette() or []
        colours = np.array(entries, dtype=np.uint8).reshape(-1, 3)[:COLOURS]
        pixels = np.asarray(indexed)
    palette = np.zeros((COLOURS, 3), dtype=np.uint8)
    palette[: len(colours)] = nearest_6bit(colours)
    return Picture(palette, pixels.astype(np.uint8))


def nearest_6bit(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The DAC values whose brightness comes nearest to each 8-bit one."""
    levels = expand_6bit(np.arange(64, dtype=np.uint8)).astype(np.int16)
    distance = np.abs(colours.astype(np.int16)[..., None] - levels)
    return np.asarray(distance.argmin(axis=-1), dtype=np.uint8)

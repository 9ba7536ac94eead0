"""A user's picture becomes a screen of 16 colours."""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from coalesced.devices.vga.palette import expand_6bit
from coalesced.tools.errors import BadInput
from coalesced.tools.guests import picture
from coalesced.vmm.accel.direct import LocalMemory
from helpers.tiers import some_heavy


def saved(tmp_path: Path, pixels: NDArray[np.uint8], name: str = "p.png") -> Path:
    Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path / name


def test_the_nearest_of_64_levels_is_chosen_for_every_brightness() -> None:
    levels = expand_6bit(np.arange(64, dtype=np.uint8)).astype(int)
    chosen = picture.nearest_6bit(np.arange(256, dtype=np.uint8))
    for value in range(256):
        assert abs(levels[chosen[value]] - value) == min(abs(levels - value))
    assert chosen.shape == (256,)


def test_every_level_of_the_dac_is_kept_exactly() -> None:
    levels = expand_6bit(np.arange(64, dtype=np.uint8))
    assert picture.nearest_6bit(levels).tolist() == list(range(64))


@pytest.mark.parametrize("count", [1, 2, 16])
def test_up_to_16_colours_are_kept(tmp_path: Path, count: int) -> None:
    colours = expand_6bit(np.arange(count * 3, dtype=np.uint8).reshape(count, 3))
    pixels = colours[np.arange(640 * 480).reshape(480, 640) % count]
    loaded = picture.load(saved(tmp_path, pixels))
    assert np.array_equal(loaded.rgb(), pixels)
    assert loaded.palette.shape == (16, 3)


@pytest.mark.slow
def test_the_17th_colour_costs_exactness_not_16_colours(tmp_path: Path) -> None:
    colours = expand_6bit(np.arange(51, dtype=np.uint8).reshape(17, 3))
    pixels = colours[np.arange(640 * 480).reshape(480, 640) % 17]
    shown = picture.load(saved(tmp_path, pixels)).rgb()
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) <= 16


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((640, 480), (640, 480)),
        ((1, 1), (1, 1)),
        ((639, 479), (639, 479)),
        ((641, 480), (640, 479)),
        ((1280, 480), (640, 240)),
        ((320, 960), (160, 480)),
        ((5000, 1), (640, 1)),
        ((1, 5000), (1, 480)),
    ],
)
def test_a_picture_keeps_its_size_or_is_made_to_fit_in_the_middle(
    tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    white = np.full((size[1], size[0], 3), 255, np.uint8)
    screen = picture.load(saved(tmp_path, white)).rgb()
    assert screen.shape == (480, 640, 3)
    rows, columns = np.nonzero(screen.any(axis=2))
    height, width = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
    assert abs(width - shown[0]) <= 1
    assert abs(height - shown[1]) <= 1
    assert rows.min() == (480 - height) // 2
    assert columns.min() == (640 - width) // 2


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_pictures_of_other_kinds_are_taken(tmp_path: Path, mode: str) -> None:
    name = "p.tif"
    Image.new(mode, (20, 10)).save(tmp_path / name)
    assert picture.load(tmp_path / name).pixels.shape == (480, 640)


def test_in_ram_lie_the_palette_and_then_four_planes(tmp_path: Path) -> None:
    colours = expand_6bit(np.arange(48, dtype=np.uint8).reshape(16, 3))
    pixels = colours[np.arange(640 * 480).reshape(480, 640) % 16]
    loaded = picture.load(saved(tmp_path, pixels))
    ram = [LocalMemory(0, 0x1000), LocalMemory(0x100000, 0x100000)]
    loaded.write_to(ram)
    data = ram[1].read(picture.ADDRESS - 0x100000, 48 + 4 * 80 * 480)
    assert data[:48] == loaded.palette.tobytes()
    x, y = 13, 200
    index = sum(
        (data[48 + plane * 38400 + y * 80 + x // 8] >> (7 - x % 8) & 1) << plane
        for plane in range(4)
    )
    assert index == loaded.pixels[y, x]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it can still make sense of
@some_heavy(
    "form",
    [["PNG"], ["JPEG"], ["GIF"], ["BMP"], ["TIFF"], ["WEBP"], ["PPM"], ["TGA"], ["ICO"]],
    lambda form: form == "PNG",
)
def test_a_damaged_picture_is_refused_or_shown_and_nothing_else(tmp_path: Path, form: str) -> None:
    """Cut anywhere, bits changed anywhere: never an exception of another kind."""
    whole = io.BytesIO()
    colours = np.random.default_rng(3).integers(256, size=(16, 16, 3), dtype=np.uint8)
    Image.fromarray(colours).save(whole, form)
    choose = random.Random(form)
    path = tmp_path / "damaged"
    for _ in range(25):
        data = bytearray(whole.getvalue())
        for _ in range(choose.randrange(1, 4)):
            data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)
        if choose.random() < 0.3:
            del data[choose.randrange(len(data)) :]
        path.write_bytes(data)
        with contextlib.suppress(BadInput):
            picture.load(path)


def test_a_missing_picture_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        picture.load(tmp_path / "none.png")
    with pytest.raises(BadInput, match="not a picture that can be read"):
        picture.load(tmp_path)


def test_a_picture_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """A few kilobytes of which each picture line is the same."""

    def png(width: int, height: int) -> bytes:
        def chunk(kind: bytes, data: bytes) -> bytes:
            crc = zlib.crc32(kind + data)
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")

    path = tmp_path / "bomb.png"
    for width, height in ((8192, 4097), (12_000, 12_000), (40_000, 40_000), (2**31 - 1, 1)):
        path.write_bytes(png(width, height))
        with pytest.raises(BadInput, match=r"--image .*: expected at most 33,554,432 pixels"):
            picture.load(path)
    before = Image.MAX_IMAGE_PIXELS
    path.write_bytes(png(256, 256))
    with pytest.raises(BadInput, match="not a picture that can be read"):
        picture.load(path, pixels_max=1 << 16)
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_big_photo_is_decoded_at_the_size_that_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.new("L", (1800, 1200), 255).save(path)
    screen = picture.load(path, pixels_max=1 << 20).rgb()
    assert screen[240, 320].tolist() == [255, 255, 255]


def test_what_is_no_file_is_no_picture(tmp_path: Path) -> None:
    """A FIFO is not even opened: nobody may ever write to it."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(BadInput, match="not a picture that can be read: expected a file"):
            picture.load(path)

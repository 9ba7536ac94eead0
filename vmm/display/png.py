"""A screen as a PNG file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coalesced.vmm.output import write_whole


def write_png(path: Path, screen: NDArray[np.uint8]) -> None:
    """Write an image of shape (height, width, 3), RGB. Raises OSError."""
    from PIL import Image  # noqa: PLC0415 - not before there is a picture: start-up time

    data = io.BytesIO()
    Image.fromarray(screen).save(data, format="PNG")
    write_whole(path, data.getvalue())

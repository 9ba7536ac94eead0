"""The inner loop of planar writes, in C."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

def store(
    words: NDArray[np.uint32],
    table: NDArray[np.uint32],
    written: int,
    first: int,
    offsets: NDArray[np.uint64] | NDArray[np.intp],
    data: NDArray[np.integer[Any]],
    /,
) -> None:
    """Store at each offset minus `first` the word that the table has for the data's lowest byte.

    Shapes: `words` (n,), `table` (256,), `offsets` and `data` the same, any strides; elements of
    `data` have 8 bytes or 1. Bits outside of the mask `written` stay as they are, and so does all
    memory where an offset is below `first` or behind the last word. Raises ValueError for other
    shapes.
    """

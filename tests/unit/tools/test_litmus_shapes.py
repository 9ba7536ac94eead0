"""The explorer of C code says of classic shapes what the literature says of each model."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from litmus_shapes import SHAPES, herd

from coalesced.tools.litmus.explore import explore
from coalesced.tools.litmus.herd import read, translated
from coalesced.tools.litmus.models import MODELS


@pytest.mark.heavy
@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_allowed_where_the_model_allows_it(name: str, tmp_path: Path) -> None:
    program = tmp_path / "shape.c"
    program.write_text(translated(herd(name)).code)
    found = "".join("F" if verdict.ok else "A" for verdict in explore(program, MODELS))
    assert found == SHAPES[name][2]


def test_an_editors_mark_of_utf_8_and_its_ends_of_lines_change_nothing(tmp_path: Path) -> None:
    text = herd(next(iter(SHAPES)))
    file = tmp_path / "edited.litmus"
    file.write_bytes(codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode())
    assert read(file) == translated(text)

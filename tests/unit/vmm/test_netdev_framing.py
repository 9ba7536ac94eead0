"""Frames in a stream of bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coalesced.vmm.netdev.backend import FRAME_MAX
from coalesced.vmm.netdev.framing import Framer


def framed(frames: list[bytes]) -> bytes:
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


@pytest.mark.slow
@given(st.lists(st.binary(max_size=40), max_size=12), st.lists(st.integers(0, 600), max_size=30))
def test_any_split_of_the_stream_gives_the_frames(frames: list[bytes], cuts: list[int]) -> None:
    stream = framed(frames)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    framer = Framer()
    got: list[bytes] = []
    for start, stop in pairwise(edges):
        got += framer.feed(stream[start:stop])
    assert got == frames
    assert framer.error is None


def test_byte_by_byte() -> None:
    frames = [b"", b"x", bytes(range(256)) * 20, b""]
    framer = Framer()
    got = [frame for byte in framed(frames) for frame in framer.feed(bytes((byte,)))]
    assert got == frames


def test_the_longest_frame_is_taken_and_one_byte_more_is_not() -> None:
    longest = bytes(FRAME_MAX)
    assert Framer().feed(framed([longest])) == [longest]
    framer = Framer()
    assert framer.feed(framed([b"before"]) + (FRAME_MAX + 1).to_bytes(4, "big")) == [b"before"]
    assert framer.error == f"a frame of {FRAME_MAX + 1} bytes, expected at most {FRAME_MAX}"
    assert framer.feed(framed([b"after"])) == []


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x80000000, FRAME_MAX + 1])
def test_an_insane_length_is_told_before_its_bytes_are_there(size: int) -> None:
    framer = Framer()
    for byte in size.to_bytes(4, "big"):
        assert framer.feed(bytes((byte,))) == []
    assert framer.error is not None
    assert str(size) in framer.error

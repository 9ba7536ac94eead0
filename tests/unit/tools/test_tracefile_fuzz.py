"""The trace reader, given anything."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coalesced.hv.abi import OP_IN, OP_LOAD, OP_OUT, OP_STORE
from coalesced.tools.errors import BadInput
from coalesced.tools.traces.trace import PORTS_END, read

same_folder = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

BLANKS = bytes(range(33))
WORDS = (
    b"memory_region_ops_read", b"memory_region_ops_write", b" cpu 0", b" mr 0x55d0", b" mr (nil)",
    b" addr 0x3c4", b" addr 0xa0000", b" addr 0x" + b"f" * 16, b" value 0x41", b" size 1",
    b" size 8", b" size 3", b" name 'vga'", b"1@2.3:", b"\n", b"\r\n", b"\0", b"'", b"\xff",
    b"\x1f\x8b",
)  # fmt: skip
anything = st.one_of(
    st.binary(max_size=200),
    st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=3)), max_size=30).map(b"".join),
)


@pytest.mark.slow
@same_folder
@given(content=anything, packed=st.booleans())
def test_any_bytes_are_read_or_refused_in_one_line(
    tmp_path: Path, content: bytes, packed: bool
) -> None:
    """With the file's name; of what is read every line is accounted for."""
    path = tmp_path / "any.trace"
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    try:
        trace = read(path)
    except BadInput as error:
        text = str(error)
        assert str(path) in text
        assert text.isprintable()
    else:
        assert len(trace.ops) == len(trace.region) == len(trace.lines) > 0
        assert (trace.lines[1:] > trace.lines[:-1]).all()
        assert trace.counted.lines == len(trace.ops) + trace.counted.joined
        blank = sum(not line.strip(BLANKS) for line in content.split(b"\n"))
        assert trace.foreign + trace.counted.lines + blank == content.count(b"\n") + 1


@st.composite
def accesses(draw: st.DrawFn) -> tuple[str, int, int, int, str]:
    """One that can be: read or write, address, size, value, region."""
    port = draw(st.booleans())
    size = draw(st.sampled_from((1, 2, 4) if port else (1, 2, 4, 8)))
    low, end = (0, PORTS_END) if port else (PORTS_END, 1 << 64)
    at = draw(st.one_of(st.integers(low, end - size), st.just(end - size), st.just(low)))
    name = draw(st.sampled_from(["vga", "vga-lowmem", "", "a name"]))
    return draw(st.sampled_from(["read", "write"])), at, size, draw(st.integers(0, 2**64 - 1)), name


def line(access: tuple[str, int, int, int, str]) -> str:
    """As QEMU writes it, but marked as a whole access, which nothing is joined to."""
    kind, at, size, value, name = access
    return (
        f"memory_region_ops_{kind} cpu 0 mr {1 << 63:#x} addr {at:#x} value {value:#x} size {size} "
        f"name '{name}'"
    )


@pytest.mark.slow
@same_folder
@given(
    written=st.lists(accesses(), min_size=1, max_size=8),
    gaps=st.lists(st.sampled_from(["\n", "\r\n", "\n\n", "\n \n"]), min_size=1, max_size=4),
    broken=st.one_of(st.none(), st.integers(0, 7)),
)
def test_what_is_written_is_read(
    tmp_path: Path,
    written: list[tuple[str, int, int, int, str]],
    gaps: list[str],
    broken: int | None,
) -> None:
    """Every access in its order; and a line that is broken is left out and named."""
    lines = [line(access) for access in written]
    ends = [gaps[number % len(gaps)] for number in range(len(lines))]
    numbers, number = [], 1
    for end in ends:
        numbers.append(number)
        number += end.count("\n")
    if broken is not None and broken < len(lines):
        lines[broken] = lines[broken].replace("cpu 0 ", "")
    path = tmp_path / "written.trace"
    path.write_bytes("".join(a + b for a, b in zip(lines, ends, strict=True)).encode())
    if broken is not None and broken < len(lines):
        if len(lines) == 1:
            with pytest.raises(BadInput, match="expected at least one line"):
                read(path)
            return
        number = numbers.pop(broken)
        written = written[:broken] + written[broken + 1 :]
        first = read(path).first_foreign
        assert first is not None
        assert first.line == number
    trace = read(path)
    assert trace.lines.tolist() == numbers
    assert [trace.names[at] for at in trace.region] == [
        access[4] or "unnamed" for access in written
    ]
    assert trace.ops.tolist() == [
        (
            (OP_IN if kind == "read" else OP_OUT)
            if at < PORTS_END
            else (OP_LOAD if kind == "read" else OP_STORE),
            size,
            at,
            value & (1 << 8 * size) - 1,
        )
        for kind, at, size, value, _ in written
    ]

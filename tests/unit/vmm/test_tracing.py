"""`replay` reads what a tracer writes."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coalesced.hv.abi import OP_IN, OP_LOAD, OP_OUT, OP_STORE
from coalesced.tools.traces.trace import read
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.machine import Machine
from helpers.vmm_fake import FakeAccelerator, Queued, Recorder, Step, in_, load, out, store

MEM, PORT = 0x20000, 0x100


def traced(*script: Step) -> tuple[str, Recorder]:
    out_file = io.StringIO()
    machine = Machine(FakeAccelerator(script), trace=out_file)
    device = Recorder("chip", 0x100, coalesced=((0, 0x100),))
    machine.memory.map(device.region, MEM)
    machine.ports.map(Recorder("ports", 0x10, coalesced=((0, 0x10),)).region, PORT)
    machine.run("guest")
    return out_file.getvalue(), device


def test_a_line_is_qemus() -> None:
    text, _ = traced(Queued(MEM + 0x10, 2, 0xBEEF), load(MEM + 0x10), out(0x5000, 7))
    one, two = "mr 0x8000000000000001", "mr 0x8000000000000002"
    assert text.splitlines() == [
        f"memory_region_ops_write cpu 0 {one} addr 0x20010 value 0xbeef size 2 name 'chip'",
        f"memory_region_ops_read cpu 0 {one} addr 0x20010 value 0xef size 1 name 'chip'",
        f"memory_region_ops_write cpu 0 {two} addr 0x5000 value 0x7 size 1 name 'unassigned'",
    ]


def test_queued_writes_and_exits_stand_in_the_order_of_the_devices() -> None:
    text, _ = traced(
        Queued(MEM, 1, 1), Queued(PORT, 1, 2, True), Queued(MEM, 1, 3), store(MEM, 4), in_(PORT)
    )
    assert [line.split(" ")[7:9] for line in text.splitlines()] == [
        ["value", f"{value:#x}"] for value in (1, 2, 3, 4, 2)
    ]


accesses = st.one_of(
    st.builds(
        lambda kind, offset, size, value: (kind, size, MEM + offset, value % (1 << 8 * size)),
        st.sampled_from([OP_LOAD, OP_STORE]),
        st.integers(0, 0x120),
        st.sampled_from([1, 2, 4, 8]),
        st.integers(0, (1 << 64) - 1),
    ),
    st.builds(
        lambda kind, offset, size, value: (kind, size, PORT + offset, value % (1 << 8 * size)),
        st.sampled_from([OP_IN, OP_OUT]),
        st.integers(0, 0x18),
        st.sampled_from([1, 2, 4]),
        st.integers(0, (1 << 32) - 1),
    ),
)


def step(op: tuple[int, int, int, int], queued: bool) -> Step:
    kind, size, address, value = op
    if kind in (OP_STORE, OP_OUT) and queued:
        return Queued(address, size, value, kind == OP_OUT)
    if kind in (OP_STORE, OP_OUT):
        return (store if kind == OP_STORE else out)(address, value, size)
    return (load if kind == OP_LOAD else in_)(address, size)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=st.lists(st.tuples(accesses, st.booleans()), min_size=1, max_size=30))
def test_a_trace_read_back_is_the_program_with_what_its_loads_got(
    program: list[tuple[tuple[int, int, int, int], bool]], tmp_path: Path
) -> None:
    text_file = io.StringIO()
    accel = FakeAccelerator([step(op, queued) for op, queued in program])
    machine = Machine(accel, trace=text_file)
    machine.memory.map(Recorder("chip", 0x100).region, MEM)
    machine.ports.map(Recorder("ports", 0x10).region, PORT)
    machine.run("guest")
    path = tmp_path / "trace"
    path.write_text(text_file.getvalue())
    trace = read(path)
    answers = iter(accel.completed)
    assert trace.ops.tolist() == [
        (k, s, a, next(answers) if k in (OP_LOAD, OP_IN) else v) for (k, s, a, v), _ in program
    ]
    assert set(trace.names) <= {"chip", "ports", "unassigned"}


def test_bytes_side_by_side_in_a_text_window_stay_two_accesses(tmp_path: Path) -> None:
    """QEMU's own trace of a word there is the same except for the region's pointer."""
    out_file = io.StringIO()
    machine = Machine(FakeAccelerator([store(0xB8000, 0x41), store(0xB8001, 7)]), trace=out_file)
    machine.memory.map(Recorder("vga-lowmem", 0x20000).region, 0xA0000)
    machine.run("guest")
    path = tmp_path / "trace"
    path.write_text(out_file.getvalue())
    assert read(path).ops["size"].tolist() == [1, 1]
    path.write_text(out_file.getvalue().replace("mr 0x8", "mr 0x7"))
    assert read(path).ops["size"].tolist() == [2]


def test_direct_writes_its_accesses_down_too(tmp_path: Path) -> None:
    guest = tmp_path / "guest.py"
    guest.write_text(
        f"def main(vcpu):\n"
        f"    vcpu.fill({MEM}, 3, 7)\n"
        f"    vcpu.out8({PORT}, vcpu.load8({MEM + 2}))\n"
        f"    vcpu.store16({MEM + 0xFFF}, 0x2211)\n"
    )
    out_file = io.StringIO()
    machine = Machine(DirectAccelerator(), trace=out_file)
    machine.memory.map(Recorder("chip", 0x2000).region, MEM)
    machine.run(f"{guest}:main")
    path = tmp_path / "trace"
    path.write_text(out_file.getvalue())
    assert read(path).ops.tolist() == [
        *((OP_STORE, 1, MEM + i, 7) for i in range(3)),
        (OP_LOAD, 1, MEM + 2, 7),
        (OP_OUT, 1, PORT, 7),
        (OP_STORE, 1, MEM + 0xFFF, 0x11),  # crossing a page makes two accesses
        (OP_STORE, 1, MEM + 0x1000, 0x22),
    ]

"""The variants of hv.core: each is a whole core, and wrong in the one thing that it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coalesced.tools.litmus.steps import BARRIERS
from coalesced.tools.stress import cores
from coalesced.tools.stress.cores.broken import BROKEN
from coalesced.tools.stress.plan import Pins, Plan

ROOT = Path(__file__).parents[3]

# A process that has loaded no core forks for each program, whose output it waits for.
FORKS = """
import json, os, sys, traceback
import numpy
from coalesced.hv import abi
from coalesced.tools.stress import cores

def run(request):
    out = os.open(request["out"], os.O_WRONLY)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.argv[1:] = request["arguments"]
    try:
        exec(compile(request["program"], "program", "exec"), {"__name__": "program"})
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(0)

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        run(json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
RING = """
import sys
from coalesced.tools.stress import cores
cores.use(sys.argv[1])
import os
from coalesced.hv import abi, core
from coalesced.hv.ring import Consumer

fd = os.memfd_create("ring")
os.ftruncate(fd, 4096)
mapping = core.Mapping([("ring", fd, 4096)])
first, last = int(sys.argv[2]), int(sys.argv[3])
mapping.write(0, first.to_bytes(4, "little") + last.to_bytes(4, "little"))
producer, consumer = core.Producer(mapping, 0, 4096), Consumer(mapping, 0, 4096)
"""
InVariant = Callable[[str, int, int, str], str]


def test_a_variant_has_every_file_of_the_core() -> None:
    """One that is left out is missed when the variant is loaded."""
    whole = (ROOT / "tools" / "stress" / "cores" / "whole.h").read_text()
    included = re.findall(r'^#include "(.*\.c)"$', whole, re.MULTILINE)
    assert sorted(included) == sorted(path.name for path in (ROOT / "hv" / "core").glob("*.c"))


@pytest.fixture(scope="module")
def in_variant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InVariant]:
    """The output of a program that has both ends of a one-page ring, with a variant as its core."""
    out = tmp_path_factory.mktemp("cores") / "out"
    with subprocess.Popen(
        [sys.executable, "-c", FORKS],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as forks:

        def run(variant: str, first: int, last: int, program: str) -> str:
            assert forks.stdin is not None
            assert forks.stdout is not None
            out.write_text("")
            arguments = [variant, str(first), str(last)]
            request = {"program": RING + program, "arguments": arguments, "out": str(out)}
            forks.stdin.write(f"{json.dumps(request)}\n")
            forks.stdin.flush()
            status = forks.stdout.readline().strip()
            return out.read_text().strip() or status

        yield run


@pytest.mark.slow
@pytest.mark.parametrize("variant", [*BROKEN, cores.INJECTED])
def test_each_variant_is_a_ring(in_variant: InVariant, variant: str) -> None:
    """With nobody else about, one thing wrong does not show."""
    program = """
for n in range(500):
    assert producer.append(n, 8, n * n)
    producer.publish()
    (entry,) = consumer.peek().tolist()
    assert entry == (n, 8, 0, n * n)
    consumer.commit(1)
print("well", core.__file__)
"""
    module = variant.replace("-", "_")
    said = in_variant(variant, 167, 167, program)
    assert said.startswith("well")
    assert f"/{module}." in said


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_core_lacks_what_litmus_removes(name: str) -> None:
    """The macros of a core are those of the programs that litmus explores."""
    barrier = BARRIERS[name]
    has_a_file = name == "wakeup-fence"
    assert BROKEN[name] == ({} if has_a_file else {barrier.macro: barrier.instead})


FILL = """
count = 0
while count < 1000 and producer.append(0, 1, 0):
    count += 1
print(count)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("start", "room"), [(0, 85), (60, 85), (84, 85), (85, 169), (169, 169)])
def test_the_check_of_2009_finds_a_ring_full_too_early(
    in_variant: InVariant, start: int, room: int
) -> None:
    """Where `last` does not wrap: 2^32 is no multiple of 170 slots. Today's holds 169."""
    assert in_variant("full-check-2009", start, start, FILL) == str(room)
    assert in_variant("injected", start, start, FILL) == "169"


@pytest.mark.slow
def test_the_check_of_2009_overruns_a_ring_that_is_drained_meanwhile(
    in_variant: InVariant,
) -> None:
    """`first` is slot 0 while `last` is 99 ahead: after 71 more entries the ring looks empty."""
    program = """
for n in range(70):  # 100 to 169, and `last` is at 0
    assert producer.append(n, 1, 0)
producer.publish()
batch = len(consumer.peek())
for n in range(99):  # meanwhile the guest goes on
    assert producer.append(n, 1, 0)
producer.publish()
consumer.commit(batch)
more = 0
while more < 71 and producer.append(more, 1, 0):
    more += 1
producer.publish()
try:
    print(more, len(consumer.peek()))
except Exception as error:
    print(more, error)
"""
    assert in_variant("full-check-2009", 100, 100, program) == "71 0"
    assert in_variant("injected", 100, 100, program) == "70 169"


def test_a_core_cannot_take_the_place_of_one_in_use() -> None:
    """Half of the modules would still have the other."""
    __import__("coalesced.hv.core")
    with pytest.raises(RuntimeError, match=r"hv\.core is already loaded"):
        cores.use("release-last")


@pytest.mark.slow
def test_an_unknown_injection_point_is_refused(in_variant: InVariant) -> None:
    """By its name."""
    program = "core.arm('before_breakfast', 0)\n"
    assert "there is no injection point 'before_breakfast'" in in_variant("injected", 0, 0, program)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["before_last", "before_first"])
def test_a_process_ends_at_its_injection_point(in_variant: InVariant, point: str) -> None:
    """After that many passes, before the index is written."""
    program = f"""
core.arm({point!r}, 2)
for n in range(3):
    producer.append(n, 1, 0)
    producer.publish()
    print(len(consumer.peek()), flush=True)
    consumer.commit(1)
"""
    lines = in_variant("injected", 0, 0, program).splitlines()
    assert lines == (["1", "1"] if point == "before_last" else ["1", "1", "1"])


@pytest.mark.slow
def test_the_second_part_of_a_store_does_not_overtake_the_first_in_a_ring_that_is_drained(
    in_variant: InVariant,
) -> None:
    """The guest stops between its parts, the first of which found the ring full."""
    program = """
import os, pathlib, signal, time
sys.path.insert(0, "tests")
import numpy as np
from helpers.hv_pair import Pair

guest = os.getpid()
with Pair() as pair:
    pair.vcpu.set_zones(0, np.array([(0x1000, 0x2FFF)], np.uint64))
    if os.fork():
        pair.vcpu.wait_run()
        pair.vcpu.fill(0x1000, 1, 169, 7)
        core.arm("between_parts", 0, signal.SIGSTOP)
        pair.vcpu.store(0x1FFE, 4, 0x44332211)
        pair.vcpu.halt()
    pair.handle.enter()
    while ") T " not in pathlib.Path(f"/proc/{guest}/stat").read_text():
        time.sleep(0.001)
    print(len(pair.drain()), end="")
    os.kill(guest, signal.SIGCONT)
    for _ in range(2):
        _, address, size, _, value = pair.this_exit()
        print(f", {len(pair.drain())} {address:#x} {size} {value:#x}", end="")
        pair.handle.enter()
    sys.stdout.flush()
    os.kill(guest, signal.SIGKILL)
"""
    said = in_variant("injected", 0, 0, program)
    assert said == "169, 0 0x1ffe 2 0x2211, 0 0x2000 2 0x4433"


def test_a_seed_gives_the_same_pairs() -> None:
    """In whatever way the pairs before them went."""
    one, other = Plan(5, Pins()), Plan(5, Pins())
    for number in range(20):
        setup = one.next()
        one.random.random()
        assert other.next() == setup, number
    assert Plan(6, Pins()).next() != Plan(5, Pins()).next()


def test_each_policy_comes_on_each_placement() -> None:
    """Before any comes again."""
    plan = Plan(1, Pins())
    turns = {(setup.wait, setup.cpus) for setup in (plan.next() for _ in range(6))}
    assert {wait for wait, _ in turns} == {"block", "adaptive", "poll"}
    pinned = Plan(1, Pins(ring_pages=4, wait="poll", cpus="same", staleness=0.5)).next()
    assert (pinned.ring_pages, pinned.wait, pinned.cpus) == (4, "poll", "same")
    assert pinned.staleness == 0.5


def test_a_bell_is_a_posted_write_or_is_flushed_by_time() -> None:
    """Never both: a timed flush would hide a wake-up that is lost."""
    plan = Plan(1, Pins())
    setups = [plan.next() for _ in range(100)]
    with_bells = [setup for setup in setups if setup.bells]
    assert {setup.posted for setup in with_bells} == {True, False}
    assert all(setup.posted is not bool(setup.staleness) for setup in with_bells)
    plan = Plan(1, Pins(staleness=0.0))
    setups = [plan.next() for _ in range(100)]
    assert {setup.posted for setup in setups if setup.bells} == {True}

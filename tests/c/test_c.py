"""ring.h and exit.h under the sanitizers, with two threads, as these see no other process."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.tiers import some_heavy

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CORE = ROOT / "hv" / "core"
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
# TSan knows no fences. Here they only decide who sleeps: words and payload have their own order.
THREAD = ["-fsanitize=thread", "-Wno-tsan"]
MEMORY = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
LIMIT = 100
RUNS_TO_FIND_A_RACE = 20

COMPILERS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name} on this machine"),
    )
    for name in ("gcc", "clang")
]

Build = Callable[[str, list[str]], list[str]]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Compile a program of this folder once per set of flags; the command to run it with."""
    made: dict[tuple[str, ...], list[str]] = {}
    works: set[str] = set()
    folder = tmp_path_factory.mktemp("c")
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler on this machine")

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=LIMIT, cwd=folder
        )

    def compile_it(source: str, flags: list[str]) -> list[str]:
        key = (source, *flags)
        if key in made:
            return made[key]
        if compiler.endswith("clang"):
            flags = [flag for flag in flags if flag != "-Wno-tsan"]
        empty, program = folder / "empty.c", folder / f"program{len(made)}"
        empty.write_text("int main(void) { return 0; }\n")
        # TSan's runtime needs addresses where a kernel with much randomness does not put them.
        prefix = (
            ["setarch", "-R"] if "-fsanitize=thread" in flags and shutil.which("setarch") else []
        )
        if flags[0] not in works:
            probe = run([compiler, *flags, str(empty), "-o", str(program)])
            if probe.returncode == 0:
                probe = run([*prefix, str(program)])
            if probe.returncode != 0:
                pytest.skip(f"no sanitizer {flags[0]}: {probe.stderr.strip()[:200]}")
            works.add(flags[0])
        command = [compiler, *STRICT, "-O1", "-g", *flags, f"-I{CORE}", str(HERE / source)]
        built = run([*command, "-o", str(program), "-pthread"])
        assert built.returncode == 0, built.stderr
        made[key] = [*prefix, str(program)]
        return made[key]

    return compile_it


def must_succeed(command: list[str], *arguments: object) -> None:
    """Run it; what it says is the message of the failure."""
    line = [*command, *map(str, arguments)]
    done = subprocess.run(line, check=False, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, f"{' '.join(line)}: {done.returncode}\n{done.stderr}"


def size_of(slots: int) -> int:
    """Bytes of a ring with `slots` slots."""
    return 8 + 24 * slots


# (bytes, start): the least ring, a small one, and whole pages from the ends and the middle.
RINGS = [
    (size_of(2), 0),
    (size_of(3), 2),
    (size_of(5), 4),
    (4096, 0),
    (4096, 84),
    (4096, 169),
    (8192, 340),
    (16 * 4096, 2729),
]
SOME_RINGS = ((size_of(2), 0), (size_of(5), 4), (4096, 169))


@some_heavy("size, start", RINGS, lambda size, start: (size, start) in SOME_RINGS)
def test_the_ring_is_free_of_races(build: Build, size: int, start: int) -> None:
    """A million entries between two threads, sequence-checked, through ThreadSanitizer."""
    # A tiny ring waits at nearly every entry.
    entries = 20_000 if size < 4096 else 1_000_000 if start == 169 else 200_000
    must_succeed(build("ring_stress.c", THREAD), size, start, entries)


@some_heavy("size, start", RINGS, lambda size, start: (size, start) in SOME_RINGS)
def test_the_ring_touches_only_its_memory(build: Build, size: int, start: int) -> None:
    """The same through AddressSanitizer and UndefinedBehaviorSanitizer."""
    must_succeed(build("ring_stress.c", MEMORY), size, start, 20_000 if size < 4096 else 300_000)


WEAKENED = [
    *[
        ("ring_stress.c", order, (4096, 169, 200_000))
        for order in (
            "ORDER_RELEASE_LAST",
            "ORDER_ACQUIRE_LAST",
            "ORDER_RELEASE_FIRST",
            "ORDER_ACQUIRE_FIRST",
        )
    ],
    *[
        ("exit_pingpong.c", order, (2, 20_000))
        for order in (
            "ORDER_RELEASE_EXIT",
            "ORDER_ACQUIRE_EXIT",
            "ORDER_RELEASE_RESUME",
            "ORDER_ACQUIRE_RESUME",
        )
    ],
    *[
        ("posted_doorbell.c", order, (2, 20_000))
        for order in ("ORDER_RELEASE_POSTED", "ORDER_ACQUIRE_POSTED")
    ],
    *[
        ("ring_lock.c", order, (4, 5_000, 7))
        for order in ("ORDER_ACQUIRE_LOCK", "ORDER_RELEASE_LOCK")
    ],
]


@pytest.mark.parametrize(("source", "order", "arguments"), WEAKENED)
def test_each_order_is_missed_where_it_is_weakened(
    build: Build, source: str, order: str, arguments: tuple[int, ...]
) -> None:
    """ThreadSanitizer reports a race. It sees neither a missing fence nor a second read.

    It keeps a few past accesses per address, so that a single run may miss the race.
    """
    program = build(source, [*THREAD, f"-D{order}=memory_order_relaxed"])
    line = [*program, *map(str, arguments)]
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    for _ in range(RUNS_TO_FIND_A_RACE):
        done = subprocess.run(
            line, check=False, capture_output=True, text=True, timeout=LIMIT, env=environment
        )
        if done.returncode != 0:
            assert "WARNING: ThreadSanitizer: data race" in done.stderr, done.stderr
            return
    pytest.fail(f"{' '.join(line)} finds nothing without {order} in {RUNS_TO_FIND_A_RACE} runs")


@pytest.mark.heavy
@pytest.mark.parametrize("flags", [THREAD, MEMORY], ids=["thread", "memory"])
@pytest.mark.parametrize(("size", "start"), RINGS)
def test_the_ring_at_length(build: Build, flags: list[str], size: int, start: int) -> None:
    """Many more entries."""
    must_succeed(build("ring_stress.c", flags), size, start, 300_000 if size < 4096 else 5_000_000)


def test_a_hostile_peer_reaches_nothing_outside_the_ring(build: Build) -> None:
    """Random indices and slots between the calls of both ends; the seed is in the message."""
    must_succeed(build("ring_hostile.c", MEMORY), random.getrandbits(63), 100_000)


@pytest.mark.parametrize("rounds", [5_000, pytest.param(100_000, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("policy", [0, 1, 2], ids=["block", "adaptive", "poll"])
def test_the_doorbell_is_free_of_races(build: Build, policy: int, rounds: int) -> None:
    """Exits and answers between two threads through ThreadSanitizer."""
    must_succeed(build("exit_pingpong.c", THREAD), policy, rounds)


@pytest.mark.parametrize("rounds", [5_000, pytest.param(100_000, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("spin", [0, 300])
def test_no_wake_up_is_lost(build: Build, spin: int, rounds: int) -> None:
    """Going to sleep races the signal in each round, without a sanitizer's slowness."""
    must_succeed(build("exit_pingpong.c", ["-O2"]), 1, rounds, spin)


@pytest.mark.parametrize("rounds", [1_000, pytest.param(5_000, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("policy", [0, 1, 2], ids=["block", "adaptive", "poll"])
def test_posted_writes_are_free_of_races(build: Build, policy: int, rounds: int) -> None:
    """A posting and a sleeping thread through ThreadSanitizer."""
    must_succeed(build("posted_doorbell.c", THREAD), policy, rounds)


@pytest.mark.parametrize("producers", [2, 8])
def test_the_lock_of_a_ring_is_free_of_races(build: Build, producers: int) -> None:
    """Producers that take turns, and a consumer, through ThreadSanitizer."""
    must_succeed(build("ring_lock.c", THREAD), producers, 5_000, 7)


@pytest.mark.parametrize("entries", [20_000, pytest.param(100_000, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("batch", [1, 64])
def test_no_producer_behind_the_lock_sleeps_for_ever(
    build: Build, batch: int, entries: int
) -> None:
    must_succeed(build("ring_lock.c", ["-O2"]), 8, entries, batch)


@pytest.mark.parametrize("rounds", [20_000, pytest.param(500_000, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("policy", [0, 1], ids=["block", "adaptive"])
def test_no_wake_up_of_a_posted_write_is_lost(build: Build, policy: int, rounds: int) -> None:
    """Each write races the VMM on its way to sleep."""
    must_succeed(build("posted_doorbell.c", ["-O2"]), policy, rounds, 0)


@pytest.mark.parametrize("rounds", [20_000, pytest.param(100_000, marks=pytest.mark.heavy)])
def test_no_signal_of_an_own_ring_is_lost(build: Build, rounds: int) -> None:
    """Each second entry races the VMM's answer to the signal of the first."""
    must_succeed(build("own_ring.c", ["-O2"]), rounds)


@pytest.mark.parametrize(
    ("source", "fence", "arguments"),
    [
        ("posted_doorbell.c", "FENCE_POSTED", ("1", "200000", "0")),
        ("own_ring.c", "FENCE_OWN_RING", ("200000",)),
    ],
)
def test_a_wake_up_is_lost_without_the_fence(
    build: Build, source: str, fence: str, arguments: tuple[str, ...]
) -> None:
    """On two CPUs: a store and a load behind it change places only between two."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("expected two CPUs")
    line = build(source, ["-O2", f"-D{fence}=memory_order_relaxed"])
    for _ in range(RUNS_TO_FIND_A_RACE):
        done = subprocess.run(
            [*line, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        if done.returncode != 0:
            assert "is lost" in done.stderr, done.stderr
            return
    pytest.fail(f"{' '.join(line)} loses nothing in {RUNS_TO_FIND_A_RACE} runs")


def test_the_doorbell_touches_only_its_memory(build: Build) -> None:
    """Through AddressSanitizer and UndefinedBehaviorSanitizer."""
    must_succeed(build("exit_pingpong.c", MEMORY), 1, 5_000)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("optimize", ["-O0", "-O3"])
def test_both_compilers_take_the_headers_without_a_warning(compiler: str, optimize: str) -> None:
    """As strictly as the extension is built, and stricter."""
    for source in sorted(HERE.glob("*.c")):
        command = [compiler, *STRICT, "-Wshadow", "-Wpointer-arith", optimize, f"-I{CORE}"]
        done = subprocess.run(
            [*command, "-fsyntax-only", str(source)],
            check=False,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.heavy
@pytest.mark.parametrize("compiler", COMPILERS)
def test_both_compilers_take_the_extensions_without_a_warning(compiler: str) -> None:
    """Every C file of the program, with the limited API."""
    include = sysconfig.get_paths()["include"]
    if not (Path(include) / "Python.h").exists():
        pytest.skip("no Python.h on this machine")
    sources = [
        source
        for folder in ("hv", "devices", "tools")
        for source in sorted((ROOT / folder).rglob("*.c"))
        if "checker" not in source.parts  # it has a <stdatomic.h> of its own
    ]
    assert len(sources) > 20
    command = [compiler, *STRICT, "-O2", "-fsyntax-only", "-DPy_LIMITED_API=0x030B0000"]
    done = subprocess.run(
        [*command, f"-I{include}", f"-I{CORE}", *map(str, sources)],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr

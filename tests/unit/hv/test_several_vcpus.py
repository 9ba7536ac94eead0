"""Several vCPUs on one ring: the lock, and what is published before a later store to RAM."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from coalesced.hv import abi, core, ring
from helpers.hv_pair import LIMIT, operations, ram, segment, table

ZONE, RAM = 0x10000, 0x100000
STORE = abi.OP_STORE
PAGES = 4096  # room for all that a test queues: nothing exits here


def repeat(count: int, operation: tuple[int, int, int, int]) -> np.ndarray:
    return np.repeat(operations([operation]), count)


@dataclass
class Group:
    """vCPUs that never leave the guest, and the consumer of their ring."""

    vcpus: list[core.Vcpu]
    consumer: ring.Consumer

    def run(self, *programs: np.ndarray) -> None:
        """Each list of operations in a thread of its own, at the same time."""
        ready = threading.Barrier(len(programs))

        def run(vcpu: core.Vcpu, program: np.ndarray) -> None:
            ready.wait(LIMIT)
            vcpu.execute(program)

        threads = [
            threading.Thread(target=run, args=pair)
            for pair in zip(self.vcpus, programs, strict=False)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
            assert not thread.is_alive()


@contextmanager
def group(count: int) -> Iterator[Group]:
    size = ring.size_of(PAGES)
    body = segment("ring", size)
    runs = [segment(f"run page {number}", abi.RUN_PAGES * abi.PAGE_SIZE) for number in range(count)]
    try:
        mappings = [core.Mapping([runs[0], body]), *(core.Mapping([run]) for run in runs[1:])]
        shared = core.VmRing(mappings[0], runs[0][2], size)
        shared.share()
        vcpus = [core.Vcpu(m, shared, -1, -1, 0, lambda: None) for m in mappings]
        for vcpu in vcpus:
            vcpu.set_zones(0, table((ZONE, 0x1000)))
        yield Group(vcpus, ring.Consumer(mappings[0], runs[0][2], size))
    finally:
        for _, fd, _ in (body, *runs):
            os.close(fd)


@pytest.mark.parametrize("count", [2, 4, 8])
def test_every_write_of_every_vcpu_arrives_once_and_in_its_order(count: int) -> None:
    """In three rounds in which some ran at once; a busy machine may need more."""
    each, rounds, at_once = 640_000 // count, 0, 0
    programs = [
        repeat(each, (STORE, 8, ZONE + 8 * number, number << 32)) for number in range(count)
    ]
    for program in programs:
        program["value"] += np.arange(each, dtype=np.uint64)
    with group(count) as vcpus:
        while at_once < 3 and rounds < 200:
            vcpus.run(*programs)
            rounds += 1
            batch = vcpus.consumer.peek()
            assert len(batch) == count * each
            for number in range(count):
                mine = batch["data"][batch["phys_addr"] == ZONE + 8 * number]
                assert np.array_equal(mine, np.arange(each, dtype=np.uint64) | (number << 32))
            at_once += int(np.count_nonzero(np.diff(batch["phys_addr"])) >= count)
            vcpus.consumer.commit(len(batch))
            assert sum(vcpu.coalesced for vcpu in vcpus.vcpus) == rounds * count * each
    assert at_once


def test_vcpus_that_fill_the_ring_take_turns_of_64_entries() -> None:
    """In the round in which both ran at once; a busy machine may need a few."""
    turns = np.zeros(0)
    with group(2) as vcpus:
        for _ in range(200):
            vcpus.run(*(repeat(40_000, (STORE, 4, ZONE + 4 * number, 0)) for number in range(2)))
            who = vcpus.consumer.peek()["phys_addr"].astype(np.int64)
            vcpus.consumer.commit(len(who))
            turns = np.diff(np.flatnonzero(np.diff(who)))
            if len(turns):
                break
    assert len(turns)
    assert set(turns % 64) == {0}


def test_a_write_is_published_before_a_later_store_to_ram_of_its_vcpu_is_seen() -> None:
    """Rule 12: another vCPU that sees the flag finds the entry in the ring, in one long list of
    operations, too."""
    with group(2) as vcpus:
        memory = ram(RAM, bytes(4096), vcpus.vcpus[0])
        busy = repeat(1_000_000, (STORE, 4, RAM + 64, 0))
        program = np.concatenate([operations([(STORE, 1, ZONE, 7), (STORE, 4, RAM, 1)]), busy])
        seen: list[int] = []

        def look() -> None:
            while memory.read(0, 1) != b"\1":
                pass
            seen.append(vcpus.consumer.core.pending())

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        vcpus.run(program)
        watcher.join(LIMIT)
        assert seen == [1]

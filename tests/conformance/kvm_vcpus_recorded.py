"""Results of the real KVM with several vCPUs, recorded for machines without /dev/kvm.

Record it anew, with /dev/kvm, after the programs have changed:

    PYTHONPATH=tests .venv/bin/python tests/conformance/kvm_vcpus_recorded.py
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from coalesced.hv.abi import OP_IN, OP_LOAD, OP_OUT, OP_STORE
from helpers.kvm_several import (
    QUEUED,
    QUEUED_PORTS,
    QUEUED_SIZE,
    RealVcpus,
    Seen,
    Several,
    ports,
    window,
)
from helpers.kvm_sides import Operation

FILE = Path(__file__).parent / "recorded" / "kvm-vcpus.json.gz"
COUNTS = (2, 4)  # vCPUs
ROUNDS = 25
WRITES = 160  # of all vCPUs in a round at most: the ring never fills up


def accesses(random: Random, index: int, count: int) -> list[Operation]:
    """Accesses of a vCPU, at most `count` of them as entries: some repeated, some over edges."""
    found: list[Operation] = []
    while len(found) < count:
        kind = random.choice([OP_STORE, OP_STORE, OP_STORE, OP_LOAD, OP_OUT, OP_OUT, OP_IN])
        port = kind in (OP_IN, OP_OUT)
        size = random.choice((1, 2, 4) if port else (1, 2, 4, 8))
        edges = (0, QUEUED_PORTS) if port else (QUEUED, QUEUED + QUEUED_SIZE)
        at = max(0, random.choice(edges) + random.randint(-8, 12))
        base = ports(index) if port else window(index)
        value = random.getrandbits(8 * size) if kind in (OP_STORE, OP_OUT) else 0
        found += [(kind, size, base + at, value)] * random.choice((1, 1, 1, 5))
    return found[:count]


def programs(vcpus: int, number: int) -> list[list[Operation]]:
    """The programs of a round."""
    random = Random(f"{vcpus} vCPUs, round {number}")
    return [accesses(random, index, WRITES // vcpus) for index in range(vcpus)]


def found_by(make: Callable[[int], Several], vcpus: int) -> list[list[Seen]]:
    """All rounds on one VM."""
    with make(vcpus) as side:
        return [side.run(programs(vcpus, number)) for number in range(ROUNDS)]


def plain(rounds: list[list[Seen]]) -> object:
    """As JSON gives it back."""
    return json.loads(json.dumps(rounds))


def read(vcpus: int) -> object:
    """The recorded rounds, as `plain` gives others."""
    return json.loads(gzip.decompress(FILE.read_bytes()))[str(vcpus)]


def main() -> None:
    """Record all rounds on this machine's KVM."""
    recorded = {str(vcpus): found_by(RealVcpus, vcpus) for vcpus in COUNTS}
    FILE.write_bytes(gzip.compress(json.dumps(recorded).encode(), mtime=0))


if __name__ == "__main__":
    main()

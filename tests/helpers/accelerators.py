"""An accelerator without a machine: the entries and exits of a guest."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

from coalesced.hv.abi import KVM_EXIT_HLT, KVM_EXIT_MMIO
from coalesced.hv.outcome import Exit
from coalesced.hv.process import GuestProcess
from coalesced.vmm.accel.base import Accelerator
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.loop import Loop
from helpers.vmm_guests import FILE, MARK

# Those with a ring of one page; each keeps KVM's rules.
WITH_A_RING: dict[str, Callable[[], Accelerator]] = {
    "process": lambda: ProcessAccelerator(GuestProcess()),
}

Operation = tuple[int, int, int, int]  # kind, size, address, value
Entry = tuple[int, int, int, int]  # phys_addr, len, pio, data
Seen = list[tuple[list[Entry], Exit | None]]  # entries drained before an exit; None: the part's end


class Part(NamedTuple):
    """Accesses in a row, and what the VMM does before them."""

    ops: Sequence[Operation]
    before: Callable[[], object] = lambda: None


def run(accel: Accelerator, parts: Sequence[Part], answer: int = 0) -> list[Seen]:
    """Let one guest carry the parts out; what the VMM saw of each. Every load reads as `answer`.

    The ring is drained at every exit and nowhere else.
    """
    loop, ring = Loop(), accel.ring
    assert ring is not None
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([part.ops for part in parts], file)
        file.flush()
        accel.load_guest(f"{FILE}:parts", {"file": file.name})
        seen: list[Seen] = [[]]
        while True:
            exit_ = accel.run(loop)
            assert isinstance(exit_, tuple)
            entries = ring.peek().tolist()
            ring.commit(len(entries))
            reason, address, _, is_write, _ = exit_
            ends = reason == KVM_EXIT_HLT or (reason, address) == (KVM_EXIT_MMIO, MARK)
            seen[-1].append((entries, None if ends else exit_))
            if reason == KVM_EXIT_HLT:
                loop.close()
                return seen[1:]
            if ends:
                parts[len(seen) - 1].before()
                seen.append([])
            if not is_write:
                accel.complete(answer)
            accel.enter()

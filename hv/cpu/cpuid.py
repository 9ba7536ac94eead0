"""The CPUID of machine code's processor, the same in the guest process and on the real KVM.

A processor of 32 bits, family 6, without a local APIC, as the machine has none.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple


class Leaf(NamedTuple):
    """The registers that a function of CPUID answers."""

    function: int
    eax: int
    ebx: int
    ecx: int
    edx: int


_FEATURES: Final = sum(
    1 << bit
    for bit in (
        0,  # FPU
        3,  # PSE
        4,  # TSC
        5,  # MSR
        6,  # PAE
        8,  # CX8
        13,  # PGE
        15,  # CMOV
        23,  # MMX
        24,  # FXSR
        25,  # SSE
        26,  # SSE2
    )
)
_NAME: Final = struct.unpack("<III", b"GenuineIntel")
LEAVES: Final = (
    Leaf(0, 1, _NAME[0], _NAME[2], _NAME[1]),
    Leaf(1, 0x663, 0, 0, _FEATURES),
    Leaf(0x80000000, 0x80000000, 0, 0, 0),
)
"""Other functions answer zeros."""

TABLE: Final = b"".join(struct.pack("<5I", *leaf) for leaf in LEAVES)
"""LEAVES as the core takes them: five u32 each."""

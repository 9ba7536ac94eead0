"""The 82540EM's registers: names, offsets, bits, what sticks, state after power-on.

Names and sections: Intel's PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's
Manual (8254x), sections 13.4 to 13.8. Where QEMU 7.2's e1000, the reference of this model, differs
from the manual, it is followed: registers that are not listed in WRITABLE or READ_ONLY read as 0
and take no writes.
"""

from __future__ import annotations

from array import array
from typing import Final

MMIO_SIZE: Final = 0x20000
IO_SIZE: Final = 64

# --- general (13.4.1 to 13.4.16) ---
CTRL: Final = 0x0000
STATUS: Final = 0x0008
EECD: Final = 0x0010
EERD: Final = 0x0014
MDIC: Final = 0x0020
VET: Final = 0x0038
LEDCTL: Final = 0x0E00
PBA: Final = 0x1000

CTRL_RST: Final = 1 << 26
CTRL_VME: Final = 1 << 30
STATUS_LU: Final = 1 << 1
EERD_START: Final = 1 << 0
EERD_DONE: Final = 1 << 4
EERD_ADDRESS_SHIFT: Final = 8
EERD_DATA_SHIFT: Final = 16

# --- interrupts (13.4.17 to 13.4.21) ---
ICR: Final = 0x00C0
ITR: Final = 0x00C4
ICS: Final = 0x00C8
IMS: Final = 0x00D0
IMC: Final = 0x00D8

INT_TXDW: Final = 1 << 0
INT_TXQE: Final = 1 << 1
INT_LSC: Final = 1 << 2
INT_RXDMT0: Final = 1 << 4
INT_RXO: Final = 1 << 6
INT_RXT0: Final = 1 << 7
INT_MDAC: Final = 1 << 9

# --- receive (13.4.22 to 13.4.32) ---
RCTL: Final = 0x0100
RDBAL: Final = 0x2800
RDBAH: Final = 0x2804
RDLEN: Final = 0x2808
RDH: Final = 0x2810
RDT: Final = 0x2818
RDTR: Final = 0x2820
RADV: Final = 0x282C

RCTL_EN: Final = 1 << 1
RCTL_SBP: Final = 1 << 2
RCTL_UPE: Final = 1 << 3
RCTL_MPE: Final = 1 << 4
RCTL_LPE: Final = 1 << 5
RCTL_RDMTS_SHIFT: Final = 8
RCTL_MO_SHIFT: Final = 12
RCTL_BAM: Final = 1 << 15
RCTL_BSIZE_SHIFT: Final = 16
RCTL_VFE: Final = 1 << 18
RCTL_BSEX: Final = 1 << 25
RCTL_SECRC: Final = 1 << 26

# --- transmit (13.4.33 to 13.4.45) ---
TCTL: Final = 0x0400
AIT: Final = 0x0458
TDBAL: Final = 0x3800
TDBAH: Final = 0x3804
TDLEN: Final = 0x3808
TDH: Final = 0x3810
TDT: Final = 0x3818
TXDCTL: Final = 0x3828
TADV: Final = 0x382C

TCTL_EN: Final = 1 << 1

# --- filters (13.5) ---
MTA: Final = 0x5200
RA: Final = 0x5400
"""Receive address n: RAL at RA + 8 n (13.5.2), RAH at RA + 8 n + 4 (13.5.3)."""
VFTA: Final = 0x5600
MTA_COUNT: Final = 128
RA_COUNT: Final = 16
VFTA_COUNT: Final = 128
RAH_AV: Final = 1 << 31

# --- management and wake-up (13.6) ---
WUC: Final = 0x5800
WUFC: Final = 0x5808
WUS: Final = 0x5810
MANC: Final = 0x5820
IPAV: Final = 0x5838
IP4AT: Final = 0x5840
IP6AT: Final = 0x5880
WUPM: Final = 0x5A00
SWSM: Final = 0x5B50
FFLT: Final = 0x5F00
FFMT: Final = 0x9000
FFVT: Final = 0x9800

# --- statistics (13.7) ---
STATISTICS: Final = 0x4000
MPC: Final = 0x4010
FCRUC: Final = 0x4058
PRC64: Final = 0x405C
"""The first of six classes by size: 64, 127, 255, 511, 1023, 1522."""
GPRC: Final = 0x4074
BPRC: Final = 0x4078
MPRC: Final = 0x407C
GPTC: Final = 0x4080
GORCL: Final = 0x4088
GORCH: Final = 0x408C
GOTCL: Final = 0x4090
GOTCH: Final = 0x4094
RNBC: Final = 0x40A0
ROC: Final = 0x40AC
TORL: Final = 0x40C0
TORH: Final = 0x40C4
TOTL: Final = 0x40C8
TOTH: Final = 0x40CC
TPR: Final = 0x40D0
TPT: Final = 0x40D4
PTC64: Final = 0x40D8
MPTC: Final = 0x40F0
BPTC: Final = 0x40F4
TSCTC: Final = 0x40F8
STATISTICS_END: Final = 0x4100

# --- diagnostics (13.8) ---
RDFH: Final = 0x2410
RDFT: Final = 0x2418
RDFHS: Final = 0x2420
RDFTS: Final = 0x2428
RDFPC: Final = 0x2430
TDFH: Final = 0x3410
TDFT: Final = 0x3418
TDFHS: Final = 0x3420
TDFTS: Final = 0x3428
TDFPC: Final = 0x3430
PBM: Final = 0x10000

RECEIVE_ADDRESS: Final = bytes.fromhex("525400123456")
"""The first address that QEMU gives to a card."""

_ALL: Final = 0xFFFFFFFF

# (first offset, number of registers, bits that a write sets)
WRITABLE: Final = (
    (CTRL, 1, _ALL & ~CTRL_RST),
    (EERD, 1, _ALL),
    (VET, 1, _ALL),
    (ITR, 1, 0xFFFF),
    (RCTL, 1, _ALL),
    (TCTL, 1, _ALL),
    (AIT, 1, 0xFFFF),
    (LEDCTL, 1, _ALL),
    (PBA, 1, _ALL),
    (RDFH, 1, 0x1FFF),
    (RDFT, 1, 0x1FFF),
    (RDFHS, 1, 0x1FFF),
    (RDFTS, 1, 0x1FFF),
    (RDFPC, 1, 0x1FFF),
    (RDBAL, 2, _ALL),
    (RDLEN, 1, 0xFFF80),
    (RDH, 1, 0xFFFF),
    (RDT, 1, 0xFFFF),
    (RDTR, 1, 0xFFFF),
    (RADV, 1, 0xFFFF),
    (TDFH, 1, 0x7FF),
    (TDFT, 1, 0x7FF),
    (TDFHS, 1, 0x1FFF),
    (TDFTS, 1, 0x1FFF),
    (TDFPC, 1, 0x1FFF),
    (TDBAL, 2, _ALL),
    (TDLEN, 1, 0xFFF80),
    (TDH, 1, 0xFFFF),
    (TDT, 1, 0xFFFF),
    (TXDCTL, 1, _ALL),
    (TADV, 1, 0xFFFF),
    (FCRUC, 1, _ALL),
    (MTA, MTA_COUNT, _ALL),
    (RA, 2 * RA_COUNT, _ALL),
    (VFTA, VFTA_COUNT, _ALL),
    (WUC, 1, _ALL),
    (WUFC, 1, _ALL),
    (WUS, 1, _ALL),
    (IPAV, 1, _ALL),
    (IP4AT, 7, _ALL),
    (IP6AT, 4, _ALL),
    (WUPM, 32, _ALL),
    (SWSM, 1, _ALL),
    (FFLT, 7, 0x7FF),
    (FFMT, 255, 0xF),
    (FFVT, 255, _ALL),
    (PBM, 0x4000, _ALL),
)

POWER_ON: Final = {
    CTRL: 0x0014_0240,  # SWDPIN0 and SWDPIN2, 1000 Mb/s, SLU
    STATUS: 0x8008_0783,  # full duplex, link up, 1000 Mb/s; the rest is QEMU's
    VET: 0x8100,
    LEDCTL: 0x0602,
    PBA: 0x0010_0030,
    MANC: 0x0022_2300,
}

EXCLUDED: Final = (MDIC, ICR, ICS, IMS, IMC, TCTL, TDT)
"""Registers whose writes must reach the card at once; others may be queued (QEMU's list)."""


_ARRAYS: Final = {"MTA": (MTA, MTA_COUNT), "VFTA": (VFTA, VFTA_COUNT)}
# Registers are the constants whose names have no underscore: their fields have one.
_NAMES: Final = {
    value: name for name, value in list(globals().items()) if name.isupper() and "_" not in name
}


def register_name(offset: int) -> str | None:
    """The manual's name of the register of 4 bytes that an offset lies in."""
    offset &= ~3
    for name, (first, count) in _ARRAYS.items():
        if first <= offset < first + 4 * count:
            return f"{name}[{(offset - first) >> 2}]"
    if RA <= offset < RA + 8 * RA_COUNT:
        return f"{'RAH' if offset & 4 else 'RAL'}[{(offset - RA) >> 3}]"
    return _NAMES.get(offset)


def coalesced_ranges() -> tuple[tuple[int, int], ...]:
    """The ranges between the registers of EXCLUDED, as (offset, size)."""
    starts = (0, *(offset + 4 for offset in EXCLUDED))
    ends = (*EXCLUDED, MMIO_SIZE)
    return tuple((start, end - start) for start, end in zip(starts, ends, strict=True))


def write_masks() -> dict[int, int]:
    """By the offset of a register that can be written: the bits that a write sets."""
    return {
        offset: mask
        for first, count, mask in WRITABLE
        for offset in range(first, first + 4 * count, 4)
    }


class RegisterFile(dict[int, int]):
    """The card's registers as plain storage, by offset; 0 until they are written.

    Further effects of reads and writes are implemented by the part that owns the register.
    """

    def __missing__(self, offset: int) -> int:
        return 0

    def reset(self, mac: bytes) -> None:
        """Everything as after power-on, with `mac` as the first receive address."""
        self.clear()
        self.update(POWER_ON)
        self[RA] = int.from_bytes(mac[:4], "little")
        self[RA + 4] = int.from_bytes(mac[4:], "little") | RAH_AV

    def dump(self) -> bytes:
        """All of them, as they lie in the memory BAR."""
        values = array("I", bytes(MMIO_SIZE))
        for offset, value in self.items():
            values[offset >> 2] = value
        return values.tobytes()

"""Programming VGA mode 12h, 640 x 480 in 16 colours, without a BIOS.

Register values are those that IBM's VGA BIOS leaves; names are those of the VGA manuals.
"""

from __future__ import annotations

from typing import Final

from coalesced.hv.vcpu import Vcpu

WINDOW: Final = 0xA0000
WIDTH: Final = 640
HEIGHT: Final = 480
STRIDE: Final = WIDTH // 8  # bytes per line and plane

ATTRIBUTE: Final = 0x3C0
MISC_WRITE: Final = 0x3C2
SEQUENCER: Final = 0x3C4
DAC_WRITE_INDEX: Final = 0x3C8
DAC_DATA: Final = 0x3C9
GRAPHICS: Final = 0x3CE
CRTC: Final = 0x3D4
STATUS_1: Final = 0x3DA

SR_MAP_MASK: Final = 2
GR_SET_RESET: Final = 0
GR_ENABLE_SET_RESET: Final = 1
GR_MODE: Final = 5
GR_BIT_MASK: Final = 8

_MISC: Final = 0xE3
_SEQUENCER: Final = bytes.fromhex("03 01 0f 00 06")
_CRTC: Final = bytes.fromhex(
    "5f 4f 50 82 54 80 0b 3e 00 40 00 00 00 00 00 00 ea 8c df 28 00 e7 04 e3 ff"
)
_GRAPHICS: Final = bytes.fromhex("00 00 00 00 00 00 05 0f ff")
_ATTRIBUTE: Final = bytes(range(16)) + bytes.fromhex("01 00 0f 00 00")


def set_mode(vcpu: Vcpu, palette: bytes) -> None:
    """Switch to mode 12h; `palette`: 16 colours of red, green, blue, 6 bits each."""
    vcpu.out8(MISC_WRITE, _MISC)
    for index, value in enumerate(_SEQUENCER):
        vcpu.out16(SEQUENCER, value << 8 | index)
    vcpu.out16(CRTC, 0x0E00 | 0x11)  # unprotect CR00 to CR07
    for index, value in enumerate(_CRTC):
        vcpu.out16(CRTC, value << 8 | index)
    for index, value in enumerate(_GRAPHICS):
        vcpu.out16(GRAPHICS, value << 8 | index)
    vcpu.in8(STATUS_1)  # the attribute flip-flop: next comes an index
    for index, value in enumerate(_ATTRIBUTE):
        vcpu.out8(ATTRIBUTE, index)
        vcpu.out8(ATTRIBUTE, value)
    vcpu.out8(DAC_WRITE_INDEX, 0)
    for component in palette:
        vcpu.out8(DAC_DATA, component)
    vcpu.in8(STATUS_1)
    vcpu.out8(ATTRIBUTE, 0x20)  # the palette address source: let the picture through


def graphics(vcpu: Vcpu, register: int, value: int) -> None:
    """Write a register of the graphics controller."""
    vcpu.out16(GRAPHICS, value << 8 | register)


def map_mask(vcpu: Vcpu, planes: int) -> None:
    """Choose the planes that writes reach, a bit per plane."""
    vcpu.out16(SEQUENCER, planes << 8 | SR_MAP_MASK)

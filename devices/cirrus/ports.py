"""The Cirrus's I/O ports 0x3b0 to 0x3df: a VGA's, with more behind their indices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coalesced.devices.cirrus.registers import (
    CR_ATTRIBUTE_INDEX,
    CR_ATTRIBUTE_TOGGLE,
    CR_LATCHES,
    CR_OVERLAY,
    CR_PART_ID,
    CR_PART_STATUS,
    GR_BLT_DST_START_HIGH,
    GR_BLT_STATUS,
    GR_COUNT,
    GR_EXTENSIONS,
    GR_MASK_ALL,
    GR_OFFSET_0,
    GR_OFFSET_1,
    HIDDEN_DAC_KEY,
    SR6_KEY,
    SR6_LOCKED,
    SR12_HIDDEN_COLORS,
    SR17_BUS_TYPE,
    SR_CONFIGURATION,
    SR_COUNT,
    SR_CURSOR_ATTRIBUTES,
    SR_CURSOR_X,
    SR_CURSOR_Y,
    SR_EXTENDED_MODE,
    SR_MASK_ALL,
    SR_UNLOCK,
)
from coalesced.devices.vga.ports import PORT_COUNT, Ports
from coalesced.devices.vga.registers import GR_ENABLE_SET_RESET, GR_MODE, GR_SET_RESET, MISC_COLOR

if TYPE_CHECKING:
    from coalesced.devices.cirrus.blitter import Blitter
    from coalesced.devices.cirrus.registers import CirrusRegisters

ABSENT: Final = 0xFF
"""Value read through an index without a register."""


class CirrusPorts(Ports):
    """Byte-wide ports: a wider access is one access per byte, lowest first.

    The lock in SR6 only shows whether its key was written; nothing depends on it, as in QEMU.
    """

    def __init__(self, registers: CirrusRegisters, blitter: Blitter) -> None:
        super().__init__(registers)
        self._registers = registers
        self._blitter = blitter
        for port in range(0x3D0, 0x3E0):
            if port not in {0x3D4, 0x3D5, 0x3DA}:
                self.decode(port, _read_zero, _ignore)
        self.decode(0x3C4, self._read_sr_index, self._write_sr_index)
        self.decode(0x3C5, self._read_sr, self.write_sr)
        self.decode(0x3C6, self._read_hidden_dac, self._write_hidden_dac)
        self.decode(0x3C8, self._read_dac_write_index, self._write_dac_write_index)
        self.decode(0x3C9, self._read_dac_data, self._write_dac_data)
        self.decode(0x3CE, self._read_gr_index, self._write_gr_index)
        self.decode(0x3CF, self._read_gr, self.write_gr)
        self.decode(0x3D5, self._read_cr, self.write_cr)

    def read(self, offset: int, size: int) -> int:
        """Read 1 to 8 bytes from ports `offset` + 0x3b0 and up."""
        value = 0
        for position in range(size):
            value |= self.read_byte(offset + position) << (8 * position)
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Write 1 to 8 bytes, lowest first: an index before its data."""
        for position in range(size):
            self.write_byte(offset + position, (value >> (8 * position)) & 0xFF)

    def read_byte(self, offset: int) -> int:
        """Read one port; 0xff beyond the chip's."""
        if not 0 <= offset < PORT_COUNT:
            return ABSENT
        return self._readers[self._registers.misc & MISC_COLOR][offset]()

    def write_byte(self, offset: int, value: int) -> None:
        """Write one port, `value` 0 to 255; lost beyond the chip's."""
        if 0 <= offset < PORT_COUNT:
            self._writers[self._registers.misc & MISC_COLOR][offset](value)

    # Sequencer

    def _write_sr_index(self, value: int) -> None:
        self._registers.sr_index = value

    def _read_sr(self) -> int:
        index = _sequencer_register(self._registers.sr_index)
        return self._registers.sr[index] if index < SR_COUNT else ABSENT

    def write_sr(self, value: int) -> None:
        r = self._registers
        index = _sequencer_register(r.sr_index)
        if index >= SR_COUNT:
            return
        if index == SR_EXTENDED_MODE:
            r.map_memory(receiving=self._blitter.receiving)
        if index == SR_UNLOCK:
            value = SR6_KEY if value & 0x17 == SR6_KEY else SR6_LOCKED
        elif index == SR_CONFIGURATION:
            value = r.sr[index] & SR17_BUS_TYPE | value & ~SR17_BUS_TYPE & 0xFF
        elif index == SR_CURSOR_X:
            r.cursor_x = value << 3 | r.sr_index >> 5
        elif index == SR_CURSOR_Y:
            r.cursor_y = value << 3 | r.sr_index >> 5
        else:
            value &= SR_MASK_ALL[index]
        r.sr[index] = value
        r.generation += 1
        if index == SR_CONFIGURATION:
            r.map_memory(receiving=self._blitter.receiving)

    # Graphics controller

    def _write_gr_index(self, value: int) -> None:
        self._registers.gr_index = value

    def _read_gr(self) -> int:
        return self.read_gr_register(self._registers.gr_index)

    def write_gr(self, value: int) -> None:
        self.write_gr_register(self._registers.gr_index, value)

    def read_gr_register(self, index: int) -> int:
        """Read GR `index`, 0 to 255, whatever the index port holds."""
        r = self._registers
        if index == GR_SET_RESET:
            return r.shadow_gr0
        if index == GR_ENABLE_SET_RESET:
            return r.shadow_gr1
        return r.gr[index] if index < GR_COUNT else ABSENT

    def write_gr_register(self, index: int, value: int) -> None:
        """Write GR `index`; that may start, end or abort a blit."""
        r = self._registers
        if index >= GR_COUNT:
            return
        if index == GR_BLT_STATUS:
            self._blitter.write_status(value)
            return
        if index == GR_SET_RESET:
            r.shadow_gr0 = value
            value &= 0x0F
        elif index == GR_ENABLE_SET_RESET:
            r.shadow_gr1 = value
            value &= 0x0F
        mask = GR_MASK_ALL[index]
        if mask:
            r.gr[index] = value & mask
        r.generation += 1
        if index in {GR_MODE, GR_OFFSET_0, GR_OFFSET_1, GR_EXTENSIONS}:
            if index != GR_MODE:
                r.latch_banks()
            r.map_memory(receiving=self._blitter.receiving)
        elif index == GR_BLT_DST_START_HIGH:
            self._blitter.autostart()

    # CRT controller

    def _read_cr(self) -> int:
        r = self._registers
        index = r.cr_index
        if index == CR_ATTRIBUTE_TOGGLE:
            return r.ar_flip_flop << 7
        if index == CR_ATTRIBUTE_INDEX:
            return r.ar_index & 0x3F
        if index <= 0x18 or index in range(0x19, CR_OVERLAY + 1):
            return r.cr[index]
        return r.cr[index] if index in {CR_LATCHES, CR_PART_STATUS, CR_PART_ID} else ABSENT

    def write_cr(self, value: int) -> None:
        if self._registers.cr_index <= CR_OVERLAY:
            super().write_cr(value)

    # DAC: the hidden register behind the PEL mask, and the hidden colours 0 and 15 of the cursor

    def _read_hidden_dac(self) -> int:
        r = self._registers
        r.hidden_dac_reads += 1
        if r.hidden_dac_reads == HIDDEN_DAC_KEY + 1:
            r.hidden_dac_reads = 0
            return r.hidden_dac
        return ABSENT

    def _write_hidden_dac(self, value: int) -> None:
        r = self._registers
        if r.hidden_dac_reads == HIDDEN_DAC_KEY:
            r.hidden_dac = value
        r.hidden_dac_reads = 0

    def _read_dac_write_index(self) -> int:
        self._registers.hidden_dac_reads = 0
        return super()._read_dac_write_index()

    def _hidden_colors(self) -> bool:
        return bool(self._registers.sr[SR_CURSOR_ATTRIBUTES] & SR12_HIDDEN_COLORS)

    def _read_dac_data(self) -> int:
        r = self._registers
        hidden = r.hidden_palette[(r.dac_read_index & 0x0F) * 3 + r.dac_sub_index]
        value = super()._read_dac_data()
        return hidden if self._hidden_colors() else value

    def _write_dac_data(self, value: int) -> None:
        r = self._registers
        if not self._hidden_colors():
            super()._write_dac_data(value)
            return
        r.dac_cache[r.dac_sub_index] = value
        if r.dac_sub_index < 2:
            r.dac_sub_index += 1
            return
        start = (r.dac_write_index & 0x0F) * 3
        r.hidden_palette[start : start + 3] = r.dac_cache
        r.dac_sub_index = 0
        r.dac_write_index = (r.dac_write_index + 1) & 0xFF


def _sequencer_register(index: int) -> int:
    """Fold the cursor's registers: bits 7-5 of their indices are low bits of the position."""
    return index & 0x1F if index & 0x1E == SR_CURSOR_X else index


def _read_zero() -> int:
    return 0


def _ignore(value: int) -> None:
    """Take a write that no register receives."""

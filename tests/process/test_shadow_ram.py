"""RAM that the host bridge shows in the first MiB, as guests of every accelerator see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.kvm_sides import needs_kvm
from helpers.vmm_cli import json_of

GUEST = """\
def config(vcpu, register, value):
    vcpu.out32(0xCF8, 0x80000000 | register & 0xFC)
    vcpu.out8(0xCFC + (register & 3), value)

def main(vcpu):
    for port, value in ((0x3C4, 0x0F02), (0x3C4, 0x0604), (0x3CE, 0x0506), (0x3CE, 0xFF08)):
        vcpu.out16(port, value)
    vcpu.fill(0xA0000, 100, 0x11)                  # the video card
    config(vcpu, 0x72, 0x4A)
    assert vcpu.load32(0xA0000) == 0
    vcpu.fill(0xA0000, 0x20000, 0x22)              # RAM: no exit, no entry
    config(vcpu, 0x72, 0x0A)
    assert vcpu.load32(0xA0000) == 0x11111111
    vcpu.fill(0xA0000, 100, 0x33)                  # the card again
    for nibble in (1, 2, 3):
        config(vcpu, 0x5A, nibble)
        config(vcpu, 0x59, nibble << 4)
        vcpu.store32(0xC3FFE, 0x01020300 + nibble)  # half of it lies behind the RAM
        assert vcpu.load32(0xC3FFE) == 0x0300 + nibble
        vcpu.write_memory(0xFFFF8, bytes(range(nibble, nibble + 16)))
        assert bytes(vcpu.read_memory(0xF0000, 0x10008))[-16:] == bytes(range(nibble, nibble + 16))
        config(vcpu, 0x59, 0x0F)
        config(vcpu, 0x5A, 0xF0)
        assert vcpu.load32(0xC3FFE) == 0
        assert vcpu.load32(0xFFFFC) == 0
        config(vcpu, 0x5A, 0x0F)
        assert vcpu.load16(0xC3FFE) == 0x0300 + nibble
        config(vcpu, 0x5A, 0)
    vcpu.out8(0xCF9, 6)
    config(vcpu, 0x72, 0x42)
    assert vcpu.load64(0xBFFF8) == 0x2222222222222222
"""


@pytest.mark.parametrize("accel", ["process", "direct", pytest.param("kvm", marks=needs_kvm)])
def test_ram_comes_and_goes_under_the_guest(tmp_path: Path, accel: str) -> None:
    (tmp_path / "shadow.py").write_text(GUEST)
    result = json_of("run", "shadow.py:main", "--accel", accel, cwd=tmp_path)
    assert result["identical"]
    assert len({run["state"] for run in result["runs"]}) == 1
    # 200 writes to the card, the configuration's and those to the halves that are no RAM.
    assert all(run["writes"] < 400 for run in result["runs"])
    coalesced = [run["coalesced"] for run in result["runs"] if run["coalescing"]]
    assert all(count >= 200 for count in coalesced)

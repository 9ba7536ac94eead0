"""A vCPU of the real KVM that is put elsewhere in the midst of an access does not go back to it."""

from __future__ import annotations

import pytest

from coalesced.hv import abi
from coalesced.hv.kvm import KvmVm
from helpers.kvm_sides import needs_kvm

CODE = 0x10000000
NEXT = CODE + abi.PAGE_SIZE
STACK = CODE + 3 * abi.PAGE_SIZE
# mov al, 7; mov edx, 0x300; out dx, al; hlt
OUT_AND_HALT = bytes.fromhex("b007 ba00030000 ee f4")


@needs_kvm
@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize(
    ("code", "size"),
    [
        ("a100000900 f4", 4),  # mov eax, [0x90000]
        ("a1fe0f0900 f4", 2),  # mov eax, [0x90ffe]: two accesses
        ("ba00030000 ec f4", 1),  # mov edx, 0x300; in al, dx
        ("a3fe0f0900 f4", 2),  # mov [0x90ffe], eax
    ],
    ids=["load", "split load", "in", "split store"],
)
def test_an_access_is_given_up_whole(code: str, size: int, answered: bool) -> None:
    vm = KvmVm()
    try:
        vcpu = vm.create_vcpu()
        memory = vm.set_user_memory_region(0, CODE, STACK - CODE)
        assert memory is not None
        memory.mapping.write(0, bytes.fromhex(code))
        memory.mapping.write(abi.PAGE_SIZE, OUT_AND_HALT)
        vcpu.start_at(CODE, STACK)
        got = vcpu.run(None)
        assert isinstance(got, tuple)
        assert got[2] == size
        if answered and not got[3]:
            vcpu.complete(0x55)
        vcpu.start_at(NEXT, STACK)
        assert vcpu.registers()["rip"] == NEXT
        assert vcpu.run(None) == (abi.KVM_EXIT_IO, 0x300, 1, True, 7)
        assert vcpu.run(None) == (abi.KVM_EXIT_HLT, 0, 0, False, 0)
        assert vcpu.registers()["rax"] == 7
    finally:
        vm.close()

"""What the kernel's part leaves to its vCPUs' threads when it ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator

import pytest

from coalesced.hv import abi, wire
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import CoalescedError, PeerDied, ProtocolError
from coalesced.hv.kernel import Kernel
from helpers.descriptors import descriptors

OWN = 0x2000  # a zone of an own ring whose descriptor each entry makes readable
_OPENED = 16

Made = Callable[[int], tuple[Kernel, int]]


@pytest.fixture
def made() -> Iterator[Made]:
    """Make a kernel's part with so many vCPUs; it, and the own ring's descriptor."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    event = os.eventfd(0, os.EFD_NONBLOCK)
    kernel = Kernel(theirs)

    def asked(number: int, argument: bytes = b"", fds: tuple[int, ...] = ()) -> None:
        wire.send_request(ours, number, argument, fds)
        kernel.serve()
        got = wire.receive(ours, abi.HV_REPLY)
        assert got is not None
        assert got[0] >= 0, got[1]
        for fd in got[2]:
            os.close(fd)

    def make(vcpus: int) -> tuple[Kernel, int]:
        asked(abi.KVM_CREATE_VM, abi.HV_CREATE_VM.pack(1, WaitPolicy.BLOCK))
        for number in range(vcpus):
            asked(abi.KVM_CREATE_VCPU, abi.HV_REQUEST.pack(number))
        asked(abi.KVM_CREATE_COALESCED_MMIO_BUFFER, abi.HV_BUFFER.pack(1, 1), (event,))
        zone = abi.KVM_COALESCED_MMIO_ZONE2.pack(OWN, 4, 0, 1)
        asked(abi.KVM_REGISTER_COALESCED_MMIO2, zone)
        return kernel, event

    yield make
    if kernel.vcpus:
        kernel.vcpus[1:] = []  # there is no thread of them
        kernel.give_up()
    os.close(event)
    ours.close()
    theirs.close()


def test_a_vcpu_that_goes_on_signals_no_descriptor_that_was_opened_behind_the_end(
    made: Made,
) -> None:
    """Its thread ends with the process, later than the kernel's part, and appends until then."""
    kernel, event = made(2)
    other = kernel.vcpus[1]  # as its thread has it
    kernel.give_up()
    opened = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(_OPENED)]
    try:
        other.store(OWN, 4, 7)
        for fd in opened:
            with pytest.raises(BlockingIOError):
                os.eventfd_read(fd)
        assert os.eventfd_read(event) == 1
    finally:
        for fd in opened:
            os.close(fd)


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (PeerDied("the VMM process ended"), 0, ""),
        (ProtocolError("run page: bad"), 1, "coalesced: guest process: run page: bad\n"),
    ],
)
def test_what_ends_a_vcpu_is_told_unless_it_is_the_vmms_end(
    made: Made, error: CoalescedError, status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel, _ = made(1)
    assert kernel.status_of(error) == status
    assert capsys.readouterr().err == told


def test_without_such_a_thread_the_descriptors_are_given_back(made: Made) -> None:
    """A process may be the kernel's part of one VM after the other."""
    kernel, _ = made(1)
    before = set(descriptors())
    kernel.give_up()
    assert len(before - set(descriptors())) >= 2  # the own ring's, and the VM's ring

"""The control socket: whole messages or none, and what a kernel answers to any request."""

from __future__ import annotations

import array
import errno
import json
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coalesced.hv import abi, wire
from coalesced.hv.errors import PeerDied, ProtocolError
from coalesced.hv.kernel import Kernel
from helpers.descriptors import descriptors
from helpers.hv_pair import segment

Sockets = tuple[socket.socket, socket.socket]


def pair_of_sockets() -> Sockets:
    """Two ends of a socket that keeps message boundaries."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    """One's own end, the peer's end."""
    ours, theirs = pair_of_sockets()
    with ours, theirs:
        yield ours, theirs


# --- messages ---


def test_a_message_arrives_whole_with_its_descriptors(sockets: Sockets) -> None:
    """Number, payload and descriptors, which no child inherits."""
    ours, theirs = sockets
    read, write = os.pipe()
    wire.send_request(ours, 0x4711, b"payload", (write,))
    message = wire.receive(theirs, abi.HV_REQUEST)
    assert message is not None
    number, payload, fds = message
    assert (number, payload, len(fds)) == (0x4711, b"payload", 1)
    assert not os.get_inheritable(fds[0])
    os.write(fds[0], b"!")
    assert os.read(read, 1) == b"!"
    for fd in (read, write, *fds):
        os.close(fd)


def test_a_reply_carries_a_negative_number(sockets: Sockets) -> None:
    """-errno and a text."""
    wire.send_reply(sockets[0], -errno.EINVAL, b"no")
    assert wire.receive(sockets[1], abi.HV_REPLY) == (-errno.EINVAL, b"no", ())


def test_the_longest_message_and_one_byte_more(sockets: Sockets) -> None:
    """64 KiB with its head; a request past it is a ValueError, a reply is cut."""
    room = abi.HV_MESSAGE_MAX - abi.HV_REQUEST.size
    wire.send_request(sockets[0], 1, b"x" * room)
    assert wire.receive(sockets[1], abi.HV_REQUEST) == (1, b"x" * room, ())
    with pytest.raises(ValueError, match="at most 65536 bytes, got 65537"):
        wire.send_request(sockets[0], 1, b"x" * (room + 1))
    wire.send_reply(sockets[0], -1, b"y" * abi.HV_MESSAGE_MAX)
    reply = wire.receive(sockets[1], abi.HV_REPLY)
    assert reply == (-1, b"y" * (abi.HV_MESSAGE_MAX - abi.HV_REPLY.size), ())


@pytest.mark.parametrize("length", range(1, 8))
def test_a_message_shorter_than_its_head_is_reported(sockets: Sockets, length: int) -> None:
    """At every cut, with the length that came."""
    sockets[0].send(abi.HV_REPLY.pack(5)[:length])
    with pytest.raises(ProtocolError, match=f"whole message of 8 to 65536 bytes, got {length}"):
        wire.receive(sockets[1], abi.HV_REPLY)


def test_a_message_that_is_too_long_is_reported(sockets: Sockets) -> None:
    """The socket cuts it off, and the error says so."""
    sockets[0].send(bytes(abi.HV_MESSAGE_MAX + 1))
    with pytest.raises(ProtocolError, match="got 65536 cut off"):
        wire.receive(sockets[1], abi.HV_REQUEST)


@pytest.mark.parametrize("count", [1, 8, 9, 30])
def test_too_many_descriptors_are_refused_and_none_stays_open(sockets: Sockets, count: int) -> None:
    """Up to 8 pass; of more, those that came are closed."""
    fds = [os.dup(0) for _ in range(count)]
    before = descriptors()
    socket.send_fds(sockets[0], [abi.HV_REQUEST.pack(1)], fds)
    if count <= 8:
        message = wire.receive(sockets[1], abi.HV_REQUEST)
        assert message is not None
        assert len(message[2]) == len(descriptors() - before) == count
        fds += message[2]
    else:
        with pytest.raises(ProtocolError):
            wire.receive(sockets[1], abi.HV_REQUEST)
        assert descriptors() - before == set()
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("data", [b"", b"x"])
def test_descriptors_of_a_short_message_do_not_stay_open(sockets: Sockets, data: bytes) -> None:
    """Also of an empty one, which looks like the end of the stream."""
    before = descriptors()
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 0]))]
    sockets[0].sendmsg([data], ancillary)
    with pytest.raises((ProtocolError, PeerDied)):
        wire.receive(sockets[1], abi.HV_REQUEST)
    assert descriptors() - before == set()


def test_the_end_of_the_stream_is_a_dead_peer(sockets: Sockets) -> None:
    """For who receives and for who sends; what was sent before is still received."""
    ours, theirs = sockets
    wire.send_request(ours, 7, b"last words")
    ours.close()
    assert wire.receive(theirs, abi.HV_REQUEST) == (7, b"last words", ())
    for _ in range(2):
        with pytest.raises(PeerDied, match="closed the control socket"):
            wire.receive(theirs, abi.HV_REQUEST)
    with pytest.raises(PeerDied, match="closed the control socket"):
        wire.send_reply(theirs, 0)


def test_a_peer_that_ended_with_unread_messages_is_a_dead_peer(sockets: Sockets) -> None:
    """The socket says ECONNRESET then."""
    ours, theirs = sockets
    wire.send_request(theirs, 1, b"never read")
    ours.close()
    with pytest.raises(PeerDied):
        wire.receive(theirs, abi.HV_REQUEST)


def test_nothing_there_is_none_when_waiting_is_forbidden(sockets: Sockets) -> None:
    """And the message when there is one."""
    assert wire.receive(sockets[1], abi.HV_REQUEST, socket.MSG_DONTWAIT) is None
    wire.send_request(sockets[0], 1, b"")
    assert wire.receive(sockets[1], abi.HV_REQUEST, socket.MSG_DONTWAIT) == (1, b"", ())


# --- a kernel in this process ---


class Asked:
    """A kernel and the socket to it; each request is served when it was sent."""

    def __init__(self) -> None:
        self.ours, theirs = pair_of_sockets()
        self.kernel = Kernel(theirs)

    def ask(
        self, number: int, argument: bytes = b"", fds: tuple[int, ...] = ()
    ) -> tuple[int, bytes, tuple[int, ...]]:
        """The reply."""
        wire.send_request(self.ours, number, argument, fds)
        assert self.kernel.serve(socket.MSG_DONTWAIT)
        reply = wire.receive(self.ours, abi.HV_REPLY, socket.MSG_DONTWAIT)
        assert reply is not None
        return reply

    def closed(self, number: int, argument: bytes = b"") -> tuple[int, bytes]:
        """The reply, its descriptors closed."""
        result, payload, fds = self.ask(number, argument)
        for fd in fds:
            os.close(fd)
        return result, payload

    def create(self, pages: int = 1, policy: int = 0) -> None:
        """A VM with a vCPU."""
        assert self.closed(abi.KVM_CREATE_VM, abi.HV_CREATE_VM.pack(pages, policy))[0] == 0
        assert self.closed(abi.KVM_CREATE_VCPU, abi.HV_REQUEST.pack(0))[0] == 0


@pytest.fixture
def asked() -> Iterator[Asked]:
    """A kernel that was asked nothing yet."""
    one = Asked()
    with one.ours, one.kernel.control:
        yield one


def zone(addr: int, size: int, pio: int = 0) -> bytes:
    """struct kvm_coalesced_mmio_zone."""
    return abi.KVM_COALESCED_MMIO_ZONE.pack(addr, size, pio)


def region(slot: int, start: int, size: int, flags: int = 0) -> bytes:
    """struct kvm_userspace_memory_region."""
    return abi.KVM_USERSPACE_MEMORY_REGION.pack(slot, flags, start, size, 0)


SIZED = [
    abi.KVM_CREATE_VM,
    abi.KVM_CHECK_EXTENSION,
    abi.KVM_CREATE_VCPU,
    abi.KVM_SET_USER_MEMORY_REGION,
    abi.KVM_REGISTER_COALESCED_MMIO,
    abi.KVM_UNREGISTER_COALESCED_MMIO,
]


@pytest.mark.parametrize("number", [0, 0x1234, 2**32 - 1, abi.KVM_CREATE_VM + 7])
def test_an_unknown_request_is_enotty(asked: Asked, number: int) -> None:
    """As an ioctl that a device does not have; the text has the number."""
    result, text, fds = asked.ask(number, b"anything")
    assert (result, text, fds) == (-errno.ENOTTY, f"unknown request {number:#x}".encode(), ())


@pytest.mark.parametrize("number", SIZED)
@pytest.mark.parametrize("size", [0, 1, 3, 5, 15, 17, 31, 33, 100])
def test_an_argument_of_the_wrong_size_is_einval(asked: Asked, number: int, size: int) -> None:
    """The text has both sizes, and the next request is served."""
    result, text, _ = asked.ask(number, bytes(size))
    assert result == -errno.EINVAL
    assert text.endswith(f"got {size}".encode())
    assert asked.ask(abi.KVM_GET_API_VERSION)[0] == 12


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[]",
        b"3",
        b"{}",
        b'{"guest": 3, "arguments": {}}',
        b'{"guest": "os:getpid"}',
        b'{"guest": "os:getpid", "arguments": 3}',
        b'{"guest": "os:getpid", "arguments": []}',
        b"[" * 60000,
    ],
)
def test_a_guest_that_is_no_json_object_is_einval(asked: Asked, argument: bytes) -> None:
    """No bytes of the VMM crash the kernel's process."""
    result, text, _ = asked.ask(abi.HV_LOAD_GUEST, argument)
    assert result == -errno.EINVAL
    assert text
    assert asked.kernel.guest is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "expected FILE.py:FUNCTION or module:function"),
        (":f", "expected FILE.py:FUNCTION or module:function"),
        ("os:", "expected FILE.py:FUNCTION or module:function"),
        ("/no/such.py:f", "guest /no/such.py: no such file"),
        ("no.such.module:f", "ModuleNotFoundError"),
        ("os:no_such", "it has no function 'no_such'"),
        ("os:sep", "'sep' is not a function"),
    ],
)
def test_a_guest_that_is_missing_is_enoent(asked: Asked, name: str, said: str) -> None:
    """The text says what is missing."""
    argument = json.dumps({"guest": name, "arguments": {}}).encode()
    result, text, _ = asked.ask(abi.HV_LOAD_GUEST, argument)
    assert result == -errno.ENOENT
    assert said in text.decode()


def test_there_is_one_vm_and_each_vcpu_is_made_once(asked: Asked) -> None:
    """A second VM is EBUSY, a vCPU again EEXIST, one out of turn or without a VM EINVAL."""
    vcpu = abi.HV_REQUEST.pack(0)
    assert asked.closed(abi.KVM_CREATE_VCPU, vcpu)[0] == -errno.EINVAL
    asked.create()
    assert asked.closed(abi.KVM_CREATE_VM, abi.HV_CREATE_VM.pack(1, 0))[0] == -errno.EBUSY
    assert asked.closed(abi.KVM_CREATE_VCPU, vcpu)[0] == -errno.EEXIST
    assert asked.closed(abi.KVM_CREATE_VCPU, abi.HV_REQUEST.pack(2))[0] == -errno.EINVAL


@pytest.mark.parametrize(("pages", "policy"), [(4097, 0), (2**32 - 1, 0), (1, 3), (1, 2**32 - 1)])
def test_a_vm_out_of_range_is_einval(asked: Asked, pages: int, policy: int) -> None:
    """Ring pages and policy are checked here, too; and a proper VM is made after it."""
    assert asked.closed(abi.KVM_CREATE_VM, abi.HV_CREATE_VM.pack(pages, policy))[0] == -errno.EINVAL
    asked.create()


@pytest.mark.parametrize(("pages", "mmio", "pio"), [(0, 0, 0), (1, 2, 1), (16, 2, 1)])
def test_capabilities_are_answered(asked: Asked, pages: int, mmio: int, pio: int) -> None:
    """The ring's distance in pages; 0 for what is not there."""
    asked.create(pages)
    for capability, expected in (
        (abi.KVM_CAP_COALESCED_MMIO, mmio),
        (abi.KVM_CAP_COALESCED_PIO, pio),
        (0, 0),
        (2**32 - 1, 0),
    ):
        assert asked.ask(abi.KVM_CHECK_EXTENSION, abi.HV_REQUEST.pack(capability))[0] == expected


def test_zones_follow_kvm(asked: Asked) -> None:
    """ENXIO without a ring, EINVAL for a pio that is neither, ENOSPC past 1,000 of a kind."""
    register, unregister = abi.KVM_REGISTER_COALESCED_MMIO, abi.KVM_UNREGISTER_COALESCED_MMIO
    for number in (register, unregister):
        assert asked.ask(number, zone(0, 1))[0] == -errno.ENXIO
    asked.create()
    for number in (register, unregister):
        assert asked.ask(number, zone(0, 1, 2))[0] == -errno.EINVAL
    assert asked.ask(unregister, zone(0x5000, 8))[0] == 0
    for n in range(1000):
        assert asked.ask(register, zone(0x1000 * n, 8))[0] == 0
    assert asked.ask(register, zone(0, 8))[0] == -errno.ENOSPC
    assert asked.ask(register, zone(0, 8, 1))[0] == 0
    assert asked.ask(unregister, zone(0, 8))[0] == 0
    assert asked.ask(register, zone(0, 8))[0] == 0


@pytest.mark.parametrize("before", [True, False], ids=["vcpu first", "zone first"])
def test_a_zone_counts_whenever_it_was_registered(asked: Asked, before: bool) -> None:
    """Before the vCPU was made or after."""
    assert asked.closed(abi.KVM_CREATE_VM, abi.HV_CREATE_VM.pack(1, 0))[0] == 0
    steps = [(abi.KVM_CREATE_VCPU, abi.HV_REQUEST.pack(0))]
    steps.insert(before, (abi.KVM_REGISTER_COALESCED_MMIO, zone(0x1000, 8)))
    for step in steps:
        assert asked.closed(*step)[0] == 0
    asked.kernel.vcpus[0].store(0x1000, 8, 1)
    payload = asked.ask(abi.HV_STATISTICS)[1]
    assert abi.HV_STATISTICS_REPLY.unpack(payload) == (1, 0, 0)


def test_statistics_need_a_vcpu(asked: Asked) -> None:
    """EINVAL before there is one."""
    assert asked.ask(abi.HV_STATISTICS)[0] == -errno.EINVAL


@pytest.mark.parametrize(
    ("argument", "number"),
    [
        (region(0, 1, 4096), errno.EINVAL),
        (region(0, 0, 1), errno.EINVAL),
        (region(0, 0, 4096, flags=1), errno.EINVAL),
        (region(0, 2**64 - 4096, 8192), errno.EINVAL),
        (region(0, 0x10000, 8192), errno.EINVAL),  # the segment has 4096
        (region(2, 0x1000, 4096), errno.EEXIST),  # overlaps slot 1
    ],
)
def test_a_memory_slot_that_does_not_fit_is_refused(
    asked: Asked, argument: bytes, number: int
) -> None:
    """And what it brought along is closed."""
    asked.create()
    _, fd, _ = segment("ram", 4096)
    assert asked.ask(abi.KVM_SET_USER_MEMORY_REGION, region(1, 0x1000, 4096), (fd,))[0] == 0
    before = descriptors()
    assert asked.ask(abi.KVM_SET_USER_MEMORY_REGION, argument, (fd,))[0] == -number
    assert descriptors() - before == set()
    os.close(fd)


def test_a_memory_slot_needs_one_descriptor(asked: Asked) -> None:
    """None and two are EINVAL; slot by slot it can be replaced and taken away."""
    asked.create()
    _, fd, _ = segment("ram", 4096)
    memory = abi.KVM_SET_USER_MEMORY_REGION
    for fds in ((), (fd, fd)):
        assert asked.ask(memory, region(0, 0, 4096), fds)[0] == -errno.EINVAL
    vcpu = asked.kernel.vcpus[0]
    assert asked.ask(memory, region(0, 0x1000, 4096), (fd,))[0] == 0
    vcpu.write_memory(0x1000, b"hello")
    assert os.pread(fd, 5, 0) == b"hello"
    assert asked.ask(memory, region(0, 0x3000, 4096), (fd,))[0] == 0
    assert vcpu.read_memory(0x3000, 5) == b"hello"
    assert asked.ask(memory, region(0, 0, 0))[0] == 0
    with pytest.raises(Exception, match="expected guest RAM"):
        vcpu.read_memory(0x3000, 5)
    os.close(fd)


@pytest.mark.parametrize("first", [True, False], ids=["vcpu first", "memory first"])
def test_the_33rd_memory_slot_is_refused(asked: Asked, first: bool) -> None:
    """The vCPU has 32; the request that would be too much fails and not the process."""
    _, fd, _ = segment("ram", 4096)
    memory = abi.KVM_SET_USER_MEMORY_REGION
    if first:
        asked.create()
    for n in range(32):
        assert asked.ask(memory, region(n, 0x1000 * n, 4096), (fd,))[0] == 0
    assert asked.ask(memory, region(32, 0x100000, 4096), (fd,))[0] == -errno.EINVAL
    if not first:
        asked.create()
    assert asked.ask(memory, region(31, 0x200000, 4096), (fd,))[0] == 0
    os.close(fd)


def test_descriptors_of_any_request_are_closed(asked: Asked) -> None:
    """Of one that takes none, and of an unknown one."""
    before = descriptors()
    for number in (abi.KVM_GET_API_VERSION, 0x77, abi.HV_STATISTICS):
        _, fd, _ = segment("x", 4096)
        asked.ask(number, b"", (fd, fd))
        os.close(fd)
    assert descriptors() - before == set()


@pytest.mark.slow
@settings(max_examples=80)
@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from([*SIZED, abi.HV_STATISTICS, abi.HV_GUEST_ERROR, 99]),
            st.one_of(
                st.binary(max_size=40),
                st.builds(zone, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)),
                st.builds(
                    region,
                    st.integers(0, 3),
                    st.integers(0, 4).map(lambda n: n * 4096),
                    st.sampled_from([0, 4096, 8192, 2**64 - 4096]),
                ),
                st.builds(lambda n: struct.pack("<I", n), st.integers(0, 200)),
            ),
            st.integers(0, 2),
        ),
        max_size=15,
    )
)
def test_no_sequence_of_requests_breaks_the_kernel(
    requests: list[tuple[int, bytes, int]],
) -> None:
    """Each gets a reply, and no descriptor is left behind but the kernel's own."""
    one = Asked()
    _, fd, _ = segment("ram", 4096)
    with one.ours, one.kernel.control:
        before = descriptors(collect=False)
        ring_made = vcpu_made = False
        for number, argument, count in requests:
            result, _, fds = one.ask(number, argument, (fd,) * count)
            for got in fds:
                os.close(got)
            ring_made |= number == abi.KVM_CREATE_VM and len(fds) == 1
            vcpu_made |= number == abi.KVM_CREATE_VCPU and result == 0
        assert len(descriptors(collect=False) - before) == ring_made + 2 * vcpu_made
        if one.kernel._ring is not None:
            one.kernel._ring.close()
    os.close(fd)

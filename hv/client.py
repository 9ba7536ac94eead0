"""A VMM's handles of the kernel's part, with methods named after KVM's ioctls."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from coalesced.hv import abi, descriptors, own_ring, ring, shm, signals, wire
from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import GuestError, PeerDied, ProtocolError, RequestError
from coalesced.hv.ioeventfds import Ioeventfd
from coalesced.hv.own_ring import OwnRing
from coalesced.hv.printable import printable
from coalesced.hv.process import ASK_WHERE, GuestProcess
from coalesced.hv.shm import Memory
from coalesced.hv.vcpus import Vcpu, Vcpus

_TELL_AGAIN_MS = 100
_WHERE_SECONDS = 0.3  # for a guest to report its file and line
_ZONES_AT_ONCE = (abi.HV_MESSAGE_MAX - 64) // abi.KVM_COALESCED_MMIO_ZONE.size

Range = tuple[int, int]  # address, size


class ZoneChange(NamedTuple):
    """Zones of one kind to unregister, then others to register."""

    removed: Sequence[Range] = ()
    added: Sequence[Range] = ()
    port: bool = False
    posted: Sequence[Range] = ()  # registered after those added, as posted zones
    buffer: OwnRing | None = None  # the ring of those registered; None: the VM's


def _close(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)


class Statistics(NamedTuple):
    """Counters of the kernel's part."""

    coalesced: int  # entries appended to the ring
    exits: int  # MMIO, IO and HLT exits
    signals: int  # bytes written to the exit pipe


class Vm:
    """A VM of the guest process. Every request raises RequestError when the kernel refuses it,
    PeerDied when the guest process has ended."""

    def __init__(
        self, process: GuestProcess, ring_pages: int, policy: WaitPolicy, reserve: bool = True
    ) -> None:
        """KVM_CREATE_VM. `ring_pages` 0: a kernel without coalesced I/O.

        `reserve`: RAM is reserved before it is used, as `shm.create` says. Raises ValueError for a
        ring of more than 4,096 pages.
        """
        if ring_pages:
            ring.check_pages(ring_pages)
        self.process = process
        self.policy = policy
        self._reserve = reserve
        self.vcpus: list[Vcpu] = []
        self.own_rings: list[OwnRing] = []
        self.memory: list[Memory] = []  # all that was made, whether a slot holds it now or not
        self._capabilities: dict[int, int] = {}  # asked once: the answer could change
        self._has_ring = ring_pages > 0
        self._owed = False  # a request was sent whose reply an exception gave up
        self._answer = select.poll()
        self._answer.register(process.socket, select.POLLIN)
        self._answer.register(process.pidfd, select.POLLIN)
        argument = abi.HV_CREATE_VM.pack(ring_pages, policy)
        _, _, fds = self.request(abi.KVM_CREATE_VM, argument, descriptors=1 if ring_pages else 0)
        self._ring_segment = (
            shm.received("ring", fds[0], ring.size_of(ring_pages)) if ring_pages else None
        )

    # --- ioctls ---

    def check_extension(self, capability: int) -> int:
        """KVM_CHECK_EXTENSION: 0 when the kernel does not have it.

        Of KVM_CAP_COALESCED_MMIO: the distance from kvm_run to the ring in pages.
        """
        if capability not in self._capabilities:
            argument = abi.HV_REQUEST.pack(capability)
            answer = self.request(abi.KVM_CHECK_EXTENSION, argument)[0]
            self._capabilities[capability] = self._checked(capability, answer)
        return self._capabilities[capability]

    def _checked(self, capability: int, answer: int) -> int:
        """The answer, if it is a possible one; raises ProtocolError otherwise."""
        if capability not in abi.COALESCED_CAPABILITIES or answer == 0:
            return answer
        present = abi.RUN_PAGES if capability == abi.KVM_CAP_COALESCED_MMIO else 1
        expected = (0, present) if self._has_ring else (0,)
        if answer not in expected:
            words = " or ".join(map(str, expected))
            raise ProtocolError(f"capability {capability} is {answer}, expected {words}")
        return answer

    def set_user_memory_region(
        self,
        slot: int,
        start: int,
        size: int,
        memory: Memory | None = None,
        readonly: bool = False,
    ) -> Memory | None:
        """KVM_SET_USER_MEMORY_REGION: `size` bytes of RAM at `start`, shared by both.

        `readonly`: ROM, whose writes go to devices. Both are multiples of 4096. Size 0 takes the
        slot away; `memory` is what a slot taken away held, to come back with its contents; None:
        new, zeroed RAM, which is this VM's to close. Raises HostError without room.
        """
        layout = abi.KVM_USERSPACE_MEMORY_REGION
        if size == 0:
            self.request(abi.KVM_SET_USER_MEMORY_REGION, layout.pack(slot, 0, start, 0, 0))
            return None
        if memory is None:
            memory = self._new_memory(slot, start, size)
        flags = abi.KVM_MEM_READONLY if readonly else 0
        argument = layout.pack(slot, flags, start, size, 0)
        self.request(abi.KVM_SET_USER_MEMORY_REGION, argument, (memory.segment.fd,))
        return memory

    def _new_memory(self, slot: int, start: int, size: int) -> Memory:
        name = f"memory slot {slot}" if self._reserve else f"memory slot {slot}, not reserved"
        segment = shm.create(name, size, self._reserve)
        try:
            memory = Memory(start, segment)
        except BaseException:
            segment.close()
            raise
        self.memory.append(memory)
        return memory

    def register_coalesced_mmio(
        self, addr: int, size: int, pio: bool = False, buffer: OwnRing | None = None
    ) -> None:
        """KVM_REGISTER_COALESCED_MMIO: queue writes inside [addr, addr + size) from now on.

        With a buffer, KVM_REGISTER_COALESCED_MMIO2: in that ring.
        """
        if buffer is not None:
            packed = abi.KVM_COALESCED_MMIO_ZONE2.pack(addr, size, pio, buffer.number)
            self.request(abi.KVM_REGISTER_COALESCED_MMIO2, packed)
            return
        argument = abi.KVM_COALESCED_MMIO_ZONE.pack(addr, size, pio)
        self.request(abi.KVM_REGISTER_COALESCED_MMIO, argument)

    def unregister_coalesced_mmio(self, addr: int, size: int, pio: bool = False) -> None:
        """KVM_UNREGISTER_COALESCED_MMIO: remove every zone that contains the range."""
        argument = abi.KVM_COALESCED_MMIO_ZONE.pack(addr, size, pio)
        self.request(abi.KVM_UNREGISTER_COALESCED_MMIO, argument)

    def change_coalesced_mmio(self, change: ZoneChange) -> int:
        """Unregister ranges, then register others, in a request or two; how many were registered.

        Each write to a posted zone ends a `run` of the vCPU with WATCH_POSTED; those in a buffer
        need POSTED_APART, too. Fewer than all: the kernel has no room for the next one (ENOSPC).
        Raises RequestError with EEXIST for a zone that overlaps one that is posted when it is not,
        or of another ring.
        """
        buffer, pio = change.buffer, int(change.port)
        kind = (buffer.number << abi.HV_ZONE_BUFFER_SHIFT if buffer else 0) | pio
        zones = [
            *((*zone, pio) for zone in change.removed),
            *((*zone, kind) for zone in change.added),
            *((*zone, kind | abi.HV_ZONE_POSTED) for zone in change.posted),
        ]
        registered = 0
        for start in range(0, len(zones), _ZONES_AT_ONCE):
            part = zones[start : start + _ZONES_AT_ONCE]
            old = min(max(len(change.removed) - start, 0), len(part))
            packed = b"".join(abi.KVM_COALESCED_MMIO_ZONE.pack(*zone) for zone in part)
            taken = self.request(abi.HV_CHANGE_ZONES, abi.HV_REQUEST.pack(old) + packed)[0]
            registered += taken
            if taken < len(part) - old:
                break
        return registered

    def create_coalesced_buffer(self, pages: int = 1, wake_at: int | None = None) -> OwnRing:
        """KVM_CREATE_COALESCED_MMIO_BUFFER, which Linux has not merged: a ring for zones to name.

        `wake_at`: entries from which on its descriptor is readable; None: half of those that it
        holds. Raises RequestError: ENXIO without coalesced I/O, ENOSPC for a 65th, EINVAL for a
        `wake_at` that no ring of this size reaches, EMFILE; ValueError for a ring of more than
        4,096 pages.
        """
        made = own_ring.create(
            self, pages, abi.ring_slots(pages) // 2 if wake_at is None else wake_at
        )
        self.own_rings.append(made)
        return made

    def close_coalesced_buffer(self, buffer: OwnRing) -> None:
        """Remove a buffer and its zones; writes there exit from now on.

        The entries in its ring can still be read.
        """
        argument = abi.HV_REQUEST.pack(buffer.number)
        self.request(abi.HV_CLOSE_COALESCED_MMIO_BUFFER, argument)
        self.own_rings.remove(buffer)
        buffer.release()

    def ioeventfd(self, event: Ioeventfd, fd: int, assign: bool = True) -> None:
        """KVM_IOEVENTFD: from now on writes that match signal `fd`, a non-blocking eventfd.

        They neither exit nor wait in the ring, whose entries before them are there to be drained
        when the descriptor is readable. `assign` False: no more. Raises RequestError: EEXIST for a
        write that another one takes, ENOENT, ENOSPC, EINVAL.
        """
        argument = event.pack(-1, assign)
        self.request(abi.KVM_IOEVENTFD, argument, (fd,) if assign else ())

    def create_vcpu(self) -> Vcpu:
        """KVM_CREATE_VCPU of the next number, from 0 on, before a guest is loaded.

        The first one has the ring mapped behind its run segment, and an exit pipe that the others
        write to as well. Raises RequestError: EINVAL for a ninth one.
        """
        first = self.vcpus[0] if self.vcpus else None
        offset = self.check_extension(abi.KVM_CAP_COALESCED_MMIO) * abi.PAGE_SIZE
        argument = abi.HV_REQUEST.pack(len(self.vcpus))
        _, _, fds = self.request(abi.KVM_CREATE_VCPU, argument, descriptors=2 if first else 3)
        segment = self._ring_segment if offset else None
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as received:
            for fd in fds:
                received.callback(os.close, fd)
            if first is not None:
                exit_fd = os.dup(first.exit_fd)
            else:
                exit_fd = descriptors.pipe_end("exit pipe", fds[1], os.O_RDONLY)
            undo.callback(os.close, exit_fd)
            resume_fd = descriptors.pipe_end("resume pipe", fds[-1], os.O_WRONLY)
            undo.callback(os.close, resume_fd)
            run = shm.received("run page", os.dup(fds[0]), abi.RUN_PAGES * abi.PAGE_SIZE)
            received.callback(run.close)
            mapping = shm.mapped(run, *([segment] if segment else []))
            consumer = ring.Consumer(mapping, offset, segment.size) if segment else None
            if consumer is not None:
                consumer.core.follow()
            if first is not None:
                consumer = first.ring
            vcpu = Vcpu(self, mapping, consumer, exit_fd, resume_fd)
            self.vcpus.append(vcpu)
            undo.pop_all()
        if self._ring_segment is not None:
            self._ring_segment.close()
            self._ring_segment = None
        return vcpu

    def irq_line(self, irq: int, level: bool) -> None:
        """KVM_IRQ_LINE: set interrupt line 0 to 63 of every vCPU; also while the guest runs."""
        if not self.vcpus:
            raise ValueError("a VM without vCPUs has no interrupt lines")
        for vcpu in self.vcpus:
            vcpu.handle.set_irq(irq, level)

    def all_vcpus(self) -> Vcpu | Vcpus:
        """The runner of all vCPUs: of the only one, or of several in turn."""
        return self.vcpus[0] if len(self.vcpus) == 1 else Vcpus(self, self.vcpus)

    def pause(self) -> None:
        """Stop all vCPUs. If one exited by itself before that, its next `run` returns the exit."""
        for vcpu in self.vcpus:
            vcpu.pause()

    # --- the guest ---

    def load_guest(self, guest: str, arguments: Mapping[str, object] | None = None) -> None:
        """Load `module:function` or `FILE.py:function` as the guest, called with the vCPU.

        `arguments`: keyword arguments, as JSON can carry them. Raises RequestError: ENOENT, and
        EBUSY once a guest has begun.
        """
        wanted = {"guest": guest, "arguments": dict(arguments or {})}
        self.request(abi.HV_LOAD_GUEST, json.dumps(wanted).encode())

    def guest_error(self) -> GuestError:
        """The guest's exception, after its KVM_EXIT_SYSTEM_EVENT."""
        line, frames = _told(self.request(abi.HV_GUEST_ERROR, b"")[1])
        return GuestError(line).with_frames(frames)

    def statistics(self) -> Statistics:
        """The kernel's own counters; the guest is stopped for it."""
        payload = self.request(abi.HV_STATISTICS, b"")[1]
        if len(payload) != abi.HV_STATISTICS_REPLY.size:
            raise ProtocolError(
                f"control socket: expected {abi.HV_STATISTICS_REPLY.size} bytes of statistics, "
                f"got {len(payload)}"
            )
        return Statistics(*abi.HV_STATISTICS_REPLY.unpack(payload))

    def request(
        self, number: int, argument: bytes, fds: tuple[int, ...] = (), descriptors: int = 0
    ) -> tuple[int, bytes, tuple[int, ...]]:
        """One request and its reply, which brings `descriptors` descriptors.

        A running guest is kicked out first: requests are served while all vCPUs are
        stopped, by the first one's thread.
        """
        self.pause()
        try:
            if self._owed:
                _close(self._take_reply()[2])
            with signals.held():
                wire.send_request(self.process.socket, number, argument, fds)
                self._owed = True
            result, payload, received = self._take_reply()
        except PeerDied as error:
            raise self.died() from error
        if len(received) != (descriptors if result >= 0 else 0):
            _close(received)
            raise ProtocolError(
                f"control socket: expected {descriptors} descriptors, got {len(received)}"
            )
        if result < 0:
            line, frames = _told(payload)
            raise RequestError(-result, line).with_frames(frames)
        return result, payload, received

    def _take_reply(self) -> tuple[int, bytes, tuple[int, ...]]:
        """Wait for the reply to the last request. An exception leaves it to the next call."""
        # Announced in a word that a third process could overwrite: repeated until it is answered.
        while True:
            if self.vcpus:
                self.vcpus[0].handle.request()
            if self._answer.poll(_TELL_AGAIN_MS):
                break
        reply = None
        try:
            with signals.held():
                # At the end of the process a fork of it may still hold the socket open.
                reply = wire.receive(self.process.socket, abi.HV_REPLY, socket.MSG_DONTWAIT)
                self._owed = False
        except BaseException:
            _close(reply[2] if reply else ())
            raise
        if reply is None:
            raise PeerDied("the guest process ended")
        return reply

    def restart(self, policy: WaitPolicy) -> None:
        """Begin anew beside a guest process that does, too; zones, RAM and its only vCPU stay.

        The control socket is empty. Raises ProtocolError when an index of the ring is no slot.
        """
        self.policy = policy
        self._owed = False
        for vcpu in self.vcpus:
            vcpu.restart(policy)

    def where(self) -> str:
        """File and line of a running guest, of each vCPU of several; empty without an answer.

        End the guest then: this reads other replies from the control socket and drops them.
        """
        deadline = time.monotonic() + _WHERE_SECONDS
        with suppress(OSError, PeerDied, ProtocolError):
            signal.pidfd_send_signal(self.process.pidfd, ASK_WHERE)
            while self._answer.poll(max(0.0, deadline - time.monotonic()) * 1000):
                message = wire.receive(self.process.socket, abi.HV_REPLY, socket.MSG_DONTWAIT)
                if message is not None and message[0] == abi.HV_WHERE:
                    return printable(message[1].decode(errors="replace"))
        return ""

    def died(self) -> PeerDied:
        """The end of the guest process, in words."""
        return PeerDied(f"the guest process ended: {self.process.reap()}")

    def close(self) -> None:
        """End the guest process and give everything back."""
        self.process.close()
        for vcpu in self.vcpus:
            vcpu.close()
        while self.own_rings:
            self.own_rings.pop().release()
        while self.memory:
            self.memory.pop().segment.close()
        if self._ring_segment is not None:
            self._ring_segment.close()
            self._ring_segment = None


def _told(payload: bytes) -> tuple[str, str]:
    """The line of an error's text, and the traceback that may follow it."""
    line, _, frames = payload.decode(errors="replace").partition("\n")
    return line, frames

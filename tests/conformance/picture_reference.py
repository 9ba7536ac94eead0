"""Pictures of a script: QEMU's by its `screendump`, and this program's by the display itself."""

from __future__ import annotations

import functools
import json
import socket
import tempfile
from pathlib import Path
from typing import TextIO

import numpy as np
from conformance_reference import ask_all
from conformance_script import RESET, Script
from numpy.typing import NDArray

from coalesced.tools.runs import boards as devices
from coalesced.vmm.accel.direct import DirectAccelerator
from coalesced.vmm.board import Board
from coalesced.vmm.machine import Machine
from helpers.qtest_peer import LIMIT, Peer, qemu

Picture = NDArray[np.uint8]
"""RGB of shape (height, width, 3)."""

_MEMORY = 16 << 20
_SIZES = {"b": 1, "w": 2, "l": 4, "q": 8}


@functools.cache
def picture_of_qemu(script: Script) -> Picture:
    """The picture that QEMU shows after the commands."""
    with tempfile.TemporaryDirectory(prefix="picture-") as folder:
        monitor = f"{folder}/qmp"
        with qemu(script.devices, None, "-qmp", f"unix:{monitor},server=on,wait=off") as peer:
            return _screendump(peer, script.lines(), monitor, f"{folder}/screen.ppm")


def _screendump(peer: Peer, commands: list[str], monitor: str, path: str) -> Picture:
    failed = [reply for reply in ask_all(peer, commands) if not reply.startswith("OK")]
    assert not failed, failed
    with socket.socket(socket.AF_UNIX) as qmp:
        qmp.settimeout(LIMIT)
        qmp.connect(monitor)
        with qmp.makefile("rw") as channel:
            channel.readline()  # the greeting
            _execute(channel, "qmp_capabilities")
            _execute(channel, "screendump", filename=path)
    return read_ppm(Path(path).read_bytes())


def _execute(channel: TextIO, command: str, **arguments: str) -> None:
    channel.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    channel.flush()
    reply = json.loads(channel.readline())
    assert "return" in reply, reply


def read_ppm(data: bytes) -> Picture:
    """A binary PPM of 8 bits, as QEMU writes it: lines filled up to a multiple of 4 bytes."""
    kind, size, most, pixels = data.split(b"\n", 3)
    assert (kind, most) == (b"P6", b"255")
    width, height = map(int, size.split())
    rows = np.frombuffer(pixels, np.uint8).reshape(height, -1)
    return rows[:, : width * 3].reshape(height, width, 3)


def picture_of_ours(script: Script, frame: int = 0) -> Picture:
    """The picture that this program shows after the commands."""
    with Machine(DirectAccelerator()) as machine:
        board = devices.board(machine, list(script.devices), _MEMORY)
        for command in script.lines():
            _carry_out(board, command)
        return board.displays[0].render(frame)


def _carry_out(board: Board, command: str) -> None:
    """Do in this process what a qtest command says; what is read is dropped."""
    if command == RESET:
        board.reset()
        return
    word, place, *rest = command.split()
    address = int(place, 0)
    machine = board.machine
    port = word.startswith(("in", "out"))
    if word == "write":
        _store_bytes(machine, address, bytes.fromhex(rest[1].removeprefix("0x")))
    elif word == "memset":
        _store_bytes(machine, address, bytes([int(rest[1], 0)]) * int(rest[0], 0))
    elif word.startswith(("out", "write")):
        machine.write_one(port, address, _SIZES[word[-1]], int(rest[0], 0))
    else:
        machine.read_one(port, address, 1 if rest else _SIZES[word[-1]])


def _store_bytes(machine: Machine, address: int, data: bytes) -> None:
    """In aligned steps of at most four bytes, as QEMU cuts a block; together, as a ring is drained.

    That a run does what its writes do one by one is shown by the tests of the devices.
    """
    steps, at = [], 0
    while at < len(data):
        size = min(4 - (address + at) % 4, len(data) - at)
        size = 1 if size == 3 else size
        steps.append((address + at, size, int.from_bytes(data[at : at + size], "little")))
        at += size
    addresses, sizes, values = zip(*steps, strict=True)
    machine.write_many(
        np.array(addresses, np.uint64), np.array(sizes, np.uint32), np.array(values, np.uint64)
    )

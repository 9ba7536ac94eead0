"""QEMU whose clock runs only on request; its HPET gives the time to 10 ns."""

from __future__ import annotations

import json
import socket
import tempfile
import time
from pathlib import Path

from helpers.qtest_peer import LIMIT, Peer, qemu

HPET = 0xFED00000
_ENABLE, _COUNTER = HPET + 0x10, HPET + 0xF0
_TICK = 10  # nanoseconds
_LOOP = bytes.fromhex("faf4ebfd")  # cli; hlt; and again


class SteppedQemu:
    """A machine without firmware, stopped. Its HPET is the clock."""

    def __init__(self, devices: tuple[str, ...] = ()) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="qmp-")
        folder = Path(self._folder.name)
        (folder / "bios").write_bytes(bytes(0xFFF0) + _LOOP + bytes(0x10 - len(_LOOP)))
        control = f"unix:{folder}/qmp,server=on,wait=off"
        self.peer: Peer = qemu(devices, None, "-bios", f"{folder}/bios", "-qmp", control)
        self.peer.ask("endianness")  # once it answers, the other socket is there
        self._qmp = socket.socket(socket.AF_UNIX)
        self._qmp.settimeout(LIMIT)
        self._qmp.connect(f"{folder}/qmp")
        self._lines = self._qmp.makefile("rb")
        self._lines.readline()
        self._command("qmp_capabilities")
        self.peer.ask(f"writeq {_ENABLE:#x} 1")

    def pass_time(self, seconds: float) -> int:
        """Let about as much pass; nanoseconds since the start, rounded down to 10."""
        self._command("cont")
        time.sleep(seconds)
        self._command("stop")
        return int(self.peer.ask(f"readq {_COUNTER:#x}").split()[1], 16) * _TICK

    def _command(self, name: str) -> None:
        self._qmp.sendall(json.dumps({"execute": name}).encode() + b"\n")
        while not {"return", "error"} & json.loads(self._lines.readline()).keys():
            pass

    def __enter__(self) -> SteppedQemu:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._qmp.close()
        self.peer.__exit__()
        self._folder.cleanup()

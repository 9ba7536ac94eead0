"""A QEMU without a guest that passes frames on between two of its back ends."""

from __future__ import annotations

import subprocess
from pathlib import Path

from helpers.qtest_peer import QEMU

_HALT = b"\xfa\xf4\xeb\xfd"  # cli; hlt; jmp back
_BIOS_SIZE = 64 << 10


class Relay:
    """Two SPECs of QEMU's on one hub. They are ready when this is made."""

    def __init__(self, folder: Path, one: str, other: str) -> None:
        """The SPECs without their ids."""
        bios = folder / "halt.bin"
        image = bytearray(_BIOS_SIZE)
        image[-16:-12] = _HALT
        bios.write_bytes(image)
        netdevs = []
        for name, spec in (("a", one), ("b", other)):
            kind, _, rest = spec.partition(",")
            netdevs += ["-netdev", f"{kind},id={name},{rest}"]
            netdevs += ["-netdev", f"hubport,id=p{name},hubid=0,netdev={name}"]
        machine = "-accel tcg -machine pc -m 16 -nodefaults -vga none -display none -qmp stdio"
        self._process = subprocess.Popen(
            [QEMU, *machine.split(), "-bios", str(bios), *netdevs],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Answered by its main loop: everything is there by then.
        self._process.stdin.write('{"execute":"qmp_capabilities"}{"execute":"query-status"}')
        self._process.stdin.flush()
        while '"running"' not in (line := self._process.stdout.readline()):
            assert line, "QEMU ended"

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

"""The listening end of a qtest socket, with QEMU or `coalesced qtest` at the other."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Sequence
from typing import Any

from helpers.warm import Warm

QEMU = "qemu-system-x86_64"
QEMU_VERSION = "version 7.2."
_HALT = bytes.fromhex("faf4ebfd")  # cli; hlt; and again
SERIAL = ("isa-serial", "isa-debugcon")  # devices that QEMU wants to write somewhere
LIMIT = 300.0  # seconds; only a hang takes that long, also on a machine with other work

# How a script may be run; the replies are the same.
MODES: dict[str, tuple[str, ...]] = {
    "coalesced": (),
    "uncoalesced": ("--no-coalesce",),
    "direct": ("--accel", "direct"),
}


def has_qemu() -> bool:
    """True when the reference is installed in the version of the recordings."""
    if shutil.which(QEMU) is None:
        return False
    told = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=False)
    return QEMU_VERSION in told.stdout


def _started(command: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Peer:
    """A client of a qtest server. Leaving the context closes the socket and ends the server."""

    def __init__(self, command: Sequence[str], socket_option: str, warm: bool = False) -> None:
        """`socket_option` is an argument of the command, with PATH where the path goes.

        `warm`: the command is the arguments of a warm start of `coalesced`.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="qtest-")
        path = f"{self._folder.name}/socket"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
            listener.listen(1)
            listener.settimeout(LIMIT)
            words = [*command, *socket_option.replace("PATH", path).split()]
            self.process = Warm(words) if warm else _started(words)
            try:
                self.socket, _ = listener.accept()
            except TimeoutError:
                self.process.kill()
                raise AssertionError(
                    f"no connection: {self.process.communicate(timeout=LIMIT)}"
                ) from None
        self.socket.settimeout(LIMIT)
        self._replies = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self.socket.sendall(data)

    def line(self) -> str:
        """The next line; empty when the server has closed the socket."""
        return self._replies.readline().decode(errors="replace").rstrip("\n")

    def ask(self, command: str) -> str:
        """One command and its reply."""
        self.send(command.encode() + b"\n")
        return self.line()

    def ask_all(self, commands: Iterable[str]) -> list[str]:
        """All commands at once, then their replies."""
        commands = list(commands)
        data = "".join(f"{command}\n" for command in commands).encode()
        # Of its own, since the server stops reading when nobody takes its replies.
        sender = threading.Thread(target=self.send, args=(data,))
        sender.start()
        replies = [self.line() for _ in commands]
        sender.join()
        return replies

    def end(self) -> tuple[int, str, str]:
        """Close the socket; the server's exit status, stdout and stderr."""
        self._replies.close()
        self.socket.close()
        out, err = self.process.communicate(timeout=LIMIT)
        return self.process.wait(LIMIT), out, err

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._replies.close()
        self.socket.close()
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate(timeout=LIMIT)
        self._folder.cleanup()


def coalesced(devices: Iterable[str], *options: str) -> Peer:
    """`coalesced qtest`, connected."""
    arguments = [word for device in devices for word in ("--device", device)]
    return Peer(["qtest", *arguments, *options], "--socket PATH", warm=True)


def qemu(devices: Iterable[str], netdev: str | None = None, *options: str) -> Peer:
    """QEMU without firmware running, connected.

    Its clock stands still; with a network back end it runs, and so does a processor that halts at
    its first instruction. `options` are further arguments.
    """
    machine = "-accel tcg -machine pc -m 16 -nodefaults -display none -qtest-log /dev/null"
    arguments = ["-chardev", "null,id=null"]
    for device in devices:
        serial = device.partition(",")[0] in SERIAL
        arguments += ["-device", f"{device},chardev=null" if serial else device]
    arguments += options
    if netdev is None:
        return Peer([QEMU, *machine.split(), "-S", *arguments], "-qtest unix:PATH")
    with tempfile.NamedTemporaryFile(suffix=".bin") as firmware:
        firmware.write(bytes(0xFFF0) + _HALT + bytes(0x10 - len(_HALT)))
        firmware.flush()
        arguments += ["-bios", firmware.name, "-netdev", netdev]
        peer = Peer([QEMU, *machine.split(), *arguments], "-qtest unix:PATH")
        peer.ask("endianness")  # once it answers, it has read its firmware
        return peer


def result_of(ended: tuple[int, str, str]) -> dict[str, Any]:
    """The JSON object of a server that ended well."""
    status, out, err = ended
    assert status == 0, err
    result = json.loads(out)
    assert isinstance(result, dict)
    return result

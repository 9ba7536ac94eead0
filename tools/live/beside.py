"""Starts the page's server in a process beside this one."""

from __future__ import annotations

import importlib.util
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coalesced.tools.errors import BadInput
from coalesced.tools.live.link import Link, pair

NEEDED: Final = ("starlette", "uvicorn", "websockets")
_PATIENCE: Final = 30
"""Seconds until a server that does not end is killed: it may have a recording to write."""
LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True)
class Server:
    """A running server: the link to it and its two addresses."""

    link: Link
    process: subprocess.Popen[bytes]
    turn: str
    show: str

    def close(self) -> None:
        """End the server: it ends when the link does."""
        self.link.close()
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def check_installed() -> None:
    """Raise BadInput without the extra `live`."""
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise BadInput(
                f"live: {name} is not installed: pip install 'coalesced-mmio[live]' brings it"
            )


def start(host: str, port: int, record: Path | None = None, barriers: Iterable[str] = ()) -> Server:
    """Listen at `host`, on any port for 0. Raises BadInput when that is not possible.

    `record`: the file that the server writes before it ends; `barriers`: those that its page can
    take out.
    """
    try:
        listening = socket.create_server((host, port), family=_family(host))
    except OSError as error:
        raise BadInput(f"--listen {host}:{port}: {error.strerror or error}") from error
    with listening:
        port = listening.getsockname()[1]
        named = f"[{host}]" if ":" in host else host
        words = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        link, theirs, memory = pair()
        hosts = {f"{named}:{port}"} | ({f"localhost:{port}"} if host == LOOPBACK else set())
        try:
            process = _spawn(theirs, memory, listening, hosts, record, barriers)
            _hand_over(process, words)
        finally:
            theirs.close()
            os.close(memory)
    link.socket.setblocking(False)
    turn, show = (f"http://{named}:{port}/{word}/" for word in words)
    return Server(link, process, turn, show)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _spawn(
    control: socket.socket,
    memory: int,
    listening: socket.socket,
    hosts: set[str],
    record: Path | None,
    barriers: Iterable[str],
) -> subprocess.Popen[bytes]:
    given = [control.fileno(), memory, listening.fileno()]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "coalesced.tools.live.server", *map(str, given),
         ",".join(sorted(hosts)), "" if record is None else str(record.absolute()),
         " ".join(barriers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=given,
        start_new_session=True,  # Ctrl-C is for the VMM, and this ends with it
    )  # fmt: skip


def _hand_over(process: subprocess.Popen[bytes], words: tuple[str, str]) -> None:
    """The secret words: not on the command line, which every user of the machine can read."""
    assert process.stdin is not None
    with process.stdin:
        process.stdin.write("\n".join(words).encode())

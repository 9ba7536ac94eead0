"""A TFTP server of one file tree, reading only (RFC 1350, 2347 to 2349): python -m helpers.tftp."""

from __future__ import annotations

import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_RRQ, _DATA, _ACK, _ERROR, _OACK = 1, 3, 4, 5, 6
_AGAIN = 1.0  # seconds without an acknowledgement until a block is sent once more
_TRIES = 10


def _options(request: bytes) -> tuple[str, dict[str, int]]:
    """The file that a read request names, and its options that are numbers."""
    name, _mode, *words = (word.decode() for word in request[2:].split(b"\0")[:-1])
    given = dict(zip(words[::2], words[1::2], strict=False))
    return name, {key.lower(): int(value) for key, value in given.items() if value.isdecimal()}


def _exchange(sock: socket.socket, packet: bytes, block: int) -> bool:
    """Send a packet until it is acknowledged; false when the peer refused it, or has gone."""
    for _ in range(_TRIES):
        sock.send(packet)
        try:
            while True:
                answer = sock.recv(1024)
                if struct.unpack_from(">HH", answer) == (_ACK, block & 0xFFFF):
                    return True
                if answer[1] == _ERROR:
                    return False
        except TimeoutError:
            continue
    return False


def _serve(folder: Path, request: bytes, peer: tuple[str, int], host: str) -> None:
    """Answer one read request from a port of its own, as the protocol has it."""
    name, options = _options(request)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.connect(peer)
        sock.settimeout(_AGAIN)
        try:
            data = (folder / name.lstrip("/")).read_bytes()
        except OSError:
            sock.send(struct.pack(">HH", _ERROR, 1) + b"no such file\0")
            return
        size = options.get("blksize", 512)
        accepted = {"blksize": size, "tsize": len(data)}
        told = b"".join(b"%s\0%d\0" % (k.encode(), v) for k, v in accepted.items() if k in options)
        if told and not _exchange(sock, struct.pack(">H", _OACK) + told, 0):
            return
        for number in range(len(data) // size + 1):
            part = data[number * size : (number + 1) * size]
            header = struct.pack(">HH", _DATA, (number + 1) & 0xFFFF)
            if not _exchange(sock, header + part, number + 1):
                return


def serve(sock: socket.socket, folder: Path) -> None:
    """Answer read requests that come to a bound socket, until an empty datagram."""
    while True:
        request, peer = sock.recvfrom(1024)
        if not request:
            return
        if request[:2] == struct.pack(">H", _RRQ):
            host = sock.getsockname()[0]
            threading.Thread(target=_serve, args=(folder, request, peer, host), daemon=True).start()


@contextmanager
def tftp_server(folder: Path, host: str = "127.0.0.1") -> Iterator[int]:
    """Serve a folder; yields the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        thread = threading.Thread(target=serve, args=(sock, folder))
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            sock.sendto(b"", sock.getsockname())
            thread.join()


if __name__ == "__main__":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", int(sys.argv[2])))
        serve(bound, Path(sys.argv[1]))

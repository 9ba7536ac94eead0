"""The tests of `tap`, run in a network namespace of their own: python -m helpers.network_tap.

Prints one JSON object about it.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import sys
from contextlib import suppress

from coalesced.vmm.netdev.spec import NetdevError
from helpers.network_bench import LIMIT, Bench

_ETHERTYPE = 0x88B5  # of local experiments: nobody else sends it
_HEADER = bytes.fromhex("ffffffffffff 525400123456") + _ETHERTYPE.to_bytes(2, "big")


def no_tap(*programs: str) -> str:
    """The reason why no tap can be made here, or a program is missing; empty if there is none."""
    if not os.path.exists("/dev/net/tun"):
        return "no /dev/net/tun"
    for program in ("unshare", "ip", *programs):
        if shutil.which(program) is None:
            return f"no {program}"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return "no right to make a network namespace" if tried.returncode else ""


def refused(spec: str) -> str:
    """The error for a SPEC that cannot be used."""
    with Bench() as bench:
        try:
            bench.add(spec)
        except NetdevError as error:
            return str(error)
    return "taken"


def exchange() -> dict[str, object]:
    """Frames from the interface to the card and back."""
    frames = [_HEADER + bytes((n % 256,)) * (46 + n % 1454) for n in range(300)]
    with Bench() as bench:
        bench.add("tap,id=n0,ifname=tap7,script=no,downscript=no", "tap,id=n1")
        other = str(bench.count("n1", "ifname"))
        card = bench.card("n0", buffers=10)
        card.send(frames[0])
        down = bench.count("n0", "dropped_by")
        subprocess.run(["ip", "link", "set", "tap7", "up"], check=True)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETHERTYPE)) as peer:
            peer.bind(("tap7", _ETHERTYPE))
            peer.settimeout(LIMIT)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            card.send(*frames, b"short")
            out = sorted(peer.recv(65536) for _ in frames) == sorted(frames)
            for frame in frames:
                peer.send(frame)
            while len(ours := [f for f in card.received if f[12:14] == _HEADER[12:]]) < len(frames):
                card.refill(7)
                bench.loop.serve()
        busy = refused("tap,id=n0,ifname=tap7")
        return {
            "out": out,
            "back": ours == frames,
            "other": other,
            "down": down,
            "short": bench.count("n0", "dropped_by"),
            "busy": busy,
            "deleted": deleted(bench),
        }


def deleted(bench: Bench) -> list[str]:
    """The warning for an interface that is deleted; it causes no wake-up from then on."""
    subprocess.run(["ip", "link", "delete", "tap7"], check=True)
    bench.until(lambda: bench.lines)
    bench.settle()
    assert not bench.loop.watching or not select.select([bench.loop.fileno()], [], [], 0)[0]
    return bench.lines


def main() -> None:
    """Run all of them, or with an argument print only the result for that SPEC."""
    if sys.argv[1:]:
        found: dict[str, object] = {"refused": refused(sys.argv[1])}
    else:
        found = {**exchange(), "no_tap": refused("tap,id=n0,ifname=lo")}
    with suppress(BrokenPipeError):
        os.write(1, json.dumps(found).encode())


if __name__ == "__main__":
    main()

"""A host and a guest on one tap, in a network namespace of their own: python -m helpers.net_hosts.

Prints one JSON object about what they did with each other.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from helpers.vmm_cli import Running, json_of, until

HOST, GUEST = "192.0.2.1", "192.0.2.2"
NETDEV = "tap,id=n0,ifname=tap0"
PINGS = 100


def sh(*command: str) -> str:
    """The output of a command, whatever its exit status."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def set_up() -> None:
    for command in (
        "link set lo up",
        "tuntap add tap0 mode tap",
        f"address add {HOST}/24 dev tap0",
        "link set tap0 up",
    ):
        subprocess.run(["ip", *command.split()], check=True)


def as_a_host(folder: Path) -> dict[str, object]:
    """The guest answers; the host pings it, has datagrams echoed, and tests it with iperf."""
    found: dict[str, object] = {}
    with Running("demo", "e1000", "--netdev", NETDEV, cwd=folder) as guest:
        guest.wait_for_guest()
        until(lambda: " 0% packet loss" in sh("ping", "-c", "1", "-W", "1", GUEST), 30)
        found["ping"] = sh("ping", "-c", str(PINGS), "-i", "0.01", "-s", "1400", GUEST)
        found["echo"] = echo()
        if shutil.which("iperf"):
            command = f"iperf -c {GUEST} -u -b 5M -t 0.3"
            found["iperf"] = sh(*command.split())
        guest.interrupt()
        found["status"], found["out"], _ = guest.end()
        guest.nothing_left()
    return found


def echo() -> bool:
    """True when datagrams of many sizes come back unchanged."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.connect((GUEST, 7))
        for size in (0, 1, 17, 18, 19, 1000, 1471, 1472):
            data = os.urandom(size)
            sock.send(data)
            if sock.recv(2000) != data:
                return False
    return True


def as_a_sender(folder: Path) -> dict[str, object]:
    """A real iperf server: what the guest shows of its report, and what itself says.

    It answers before it has printed its own line, and is ended when that has come for each test.
    """
    command = ["iperf", "-s", "-u", "-B", HOST]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        while "Server listening" not in server.stdout.readline():
            assert server.poll() is None
        tests = json_of(
            *("bench", "e1000", "--iperf", HOST, "--netdev", NETDEV),
            *("--rate", "4M", "--seconds", "0.5"),
            cwd=folder,
        )["e1000"]["iperf"]
        reports: list[list[int]] = []
        while len(reports) < len(tests):
            line = server.stdout.readline()
            assert line, f"iperf has ended after {reports}"
            found = re.search(r"bits/sec\s+[\d.]+ ms\s+(\d+)/\s*(\d+) \(", line)
            if found is not None:
                reports.append([int(found[1]), int(found[2])])
        server.terminate()
    return {"tests": tests, "server": reports}


def main() -> None:
    """Run all of them; iperf where it is installed."""
    folder = Path(sys.argv[1])
    set_up()
    found: dict[str, object] = {"host": as_a_host(folder)}
    if shutil.which("iperf"):
        found["sender"] = as_a_sender(folder)
    print(json.dumps(found))


if __name__ == "__main__":
    main()

"""iPXE's ROM on the e1000: a lease by DHCP, and a kernel fetched by TFTP that sums its bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coalesced.tools.runs import firmware
from helpers.machine_code import needs_nasm, needs_unicorn
from helpers.tftp import tftp_server
from helpers.vmm_cli import LIMIT, json_of, until
from helpers.warm import PROGRAM

SOURCE = Path(__file__).parents[2] / "examples" / "fetched.asm"
ROM = firmware.find("pxe-e1000.rom")
GUEST, HOST = "10.9.8.7", "10.9.8.1"
SIZE = 1 << 20
pytestmark = [
    pytest.mark.heavy,
    needs_nasm,
    needs_unicorn,
    pytest.mark.skipif(ROM is None, reason="no iPXE for the e1000 (apt install ipxe-qemu)"),
    pytest.mark.skipif(firmware.find(firmware.BIOS) is None, reason="no SeaBIOS"),
]
MACHINE = (
    *("boot", "seabios", "--memory", "64M", "--device", "VGA,addr=02.0"),
    *("--device", f"e1000,addr=03.0,netdev=n0,romfile={ROM}"),
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that a program without rights can use, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def kernel(folder: Path) -> str:
    """Write the kernel of 1 MiB; returns the line that it prints."""
    image = folder / "fetched"
    subprocess.run(["nasm", "-f", "bin", "-o", image, SOURCE], check=True)
    code = image.read_bytes()
    image.write_bytes(code + os.urandom(SIZE - len(code)))
    sums = np.cumsum(np.fromfile(image, "<u4"), dtype=np.uint32)
    return f"The sum is {int(sums.sum(dtype=np.uint32)):08x}{int(sums[-1]):08x}"


def check(found: dict[str, Any], printed: str) -> None:
    """The kernel ran with every byte in place in both runs, and writes to the card were queued."""
    assert found["text"].splitlines()[0].startswith(printed)
    assert (found["stopped_by"], found["identical"]) == ("hlt", True)
    coalesced, plain = found["runs"]
    for run in found["runs"]:
        assert run["netdevs"]["n0"]["received"] > SIZE // 1500
    # Each frame's buffer is given back by a write to RDT, which is queued or exits.
    assert plain["exits_by"]["no_zone"] > coalesced["exits_by"]["no_zone"] + SIZE // 1500
    assert {"load", "pio"} <= {row["reason"] for row in found["places"]}


@contextmanager
def passt(path: Path) -> Iterator[None]:
    """passt, which joins a guest to this host's network without any right."""
    given = ["-f", "-s", str(path), "-a", GUEST, "-n", "24", "-g", HOST, "-m", "1500"]
    with subprocess.Popen(["passt", *given], stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: path.exists() or process.poll() is not None)
            assert process.poll() is None
            yield
        finally:
            process.terminate()


@pytest.mark.skipif(shutil.which("passt") is None, reason="no passt (apt install passt)")
def test_a_kernel_is_fetched_through_passt(folder: Path) -> None:
    printed = kernel(folder)
    with passt(folder / "socket"), tftp_server(folder) as port:
        found = json_of(
            *MACHINE,
            *("--netdev", f"stream,id=n0,addr.type=unix,addr.path={folder / 'socket'}"),
            "--type",
            rf"\w{{Ctrl-B}}\cb\w{{iPXE>}}dhcp\n\w{{ ok}}imgfetch tftp://{HOST}:{port}/fetched\n"
            r"\w{fetched... ok}boot fetched\n",
            cwd=folder,
        )
    check(found, printed)


def no_tap() -> str | None:
    """Why there can be no tap with a server here."""
    for program in ("unshare", "ip", "dnsmasq"):
        if shutil.which(program) is None:
            return f"no {program}"
    if not Path("/dev/net/tun").exists():
        return "no /dev/net/tun"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return "no right to make a network namespace" if tried.returncode else None


SERVE = """
set -e
ip link set lo up
ip tuntap add dev tap0 mode tap
ip addr add 10.9.9.1/24 dev tap0
ip link set tap0 up
dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --interface=tap0 --user=root \
    --dhcp-range=10.9.9.10,10.9.9.20 --dhcp-leasefile="$1/leases" --pid-file= \
    --dhcp-boot=fetched --enable-tftp --tftp-root="$1" --log-facility="$1/log" &
trap "kill $!" EXIT
shift
"$@"
"""


@pytest.mark.skipif(no_tap() is not None, reason=str(no_tap()))
def test_a_kernel_is_fetched_by_tap(folder: Path) -> None:
    printed = kernel(folder)
    arguments = [*MACHINE, "--netdev", "tap,id=n0,ifname=tap0", "--json"]
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", SERVE, "serve", folder, PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    check(json.loads(done.stdout), printed)
    assert "sent " in (folder / "log").read_text()

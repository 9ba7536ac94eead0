"""`tap`, in a network namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent.parent


def missing() -> str | None:
    """The reason why no tap can be made here, None if it can."""
    if not Path("/dev/net/tun").exists():
        return "no /dev/net/tun"
    for program in ("unshare", "setpriv", "ip"):
        if shutil.which(program) is None:
            return f"no {program}"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return "no right to make a network namespace" if tried.returncode else None


WHY = missing()
pytestmark = pytest.mark.skipif(WHY is not None, reason=str(WHY))


def in_namespace(*arguments: str, through: tuple[str, ...] = ()) -> Any:
    """Run helpers.network_tap in a network namespace of its own: its report."""
    done = subprocess.run(
        ["unshare", "--net", *through, sys.executable, "-m", "helpers.network_tap", *arguments],
        env={**os.environ, "PYTHONPATH": f"{TESTS.parent / 'src'}:{TESTS}"},
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


def test_frames_pass_and_what_cannot_be_is_said() -> None:
    found = in_namespace()
    assert found["out"]
    assert found["back"], "frames waited for the card, and came in order"
    assert found["other"] == "tap0", "the kernel's choice"
    assert found["down"] == {"the interface is down": 1}
    assert found["short"] == {"the interface is down": 1, "too short": 1}
    spec = "netdev 'tap,id=n0,ifname=tap7': cannot attach to tap7: "
    assert found["busy"] == f"{spec}Device or resource busy: another program has it"
    assert found["deleted"] == ["netdev n0: tap7 was deleted"]
    assert found["no_tap"].startswith("netdev 'tap,id=n0,ifname=lo': cannot attach to lo: ")
    assert found["no_tap"].endswith("there is an interface of that name that is no tap")


def test_without_the_right_one_line_says_what_is_missing() -> None:
    found = in_namespace("tap,id=n0,ifname=tap3", through=("setpriv", "--bounding-set=-net_admin"))
    assert found["refused"] == (
        "netdev 'tap,id=n0,ifname=tap3': cannot attach to tap3: Operation not permitted: expected "
        "CAP_NET_ADMIN, or an interface made for this user before: "
        f"ip tuntap add dev tap3 mode tap user {os.getuid()}"
    )

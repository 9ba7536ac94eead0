"""`tap`, in a network namespace of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.network_tap import no_tap

TESTS = Path(__file__).parent.parent


WHY = no_tap("setpriv")
pytestmark = pytest.mark.skipif(bool(WHY), reason=WHY)


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

"""The guest as a host on a tap: the kernel's ping, and a real iperf both ways."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.net_hosts import PINGS
from helpers.network_tap import no_tap

TESTS = Path(__file__).parent.parent


WHY = no_tap("ping")
pytestmark = [pytest.mark.heavy, pytest.mark.skipif(bool(WHY), reason=WHY)]
needs_iperf = pytest.mark.skipif(shutil.which("iperf") is None, reason="no iperf")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The report of helpers.net_hosts."""
    folder = tmp_path_factory.mktemp("hosts")
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "helpers.net_hosts", str(folder)],
        env={**os.environ, "PYTHONPATH": f"{TESTS.parent / 'src'}:{TESTS}"},
        stdout=subprocess.PIPE,
        timeout=120,
        check=True,
    )
    return json.loads(done.stdout)


def test_the_hosts_ping_is_answered_without_loss(found: Any) -> None:
    said = found["host"]["ping"]
    assert f"{PINGS} packets transmitted, {PINGS} received, 0% packet loss" in said
    answered = re.search(r"Answered: (\d+) ARP, (\d+) ping", found["host"]["out"])
    assert answered is not None
    assert int(answered[1]) >= 1
    assert int(answered[2]) > PINGS


def test_datagrams_are_echoed(found: Any) -> None:
    assert found["host"]["echo"] is True


def test_ctrl_c_ends_it(found: Any) -> None:
    assert found["host"]["status"] == 130


@needs_iperf
def test_iperfs_client_shows_the_guests_report(found: Any) -> None:
    said = found["host"]["iperf"]
    assert "Server Report:" in said
    assert re.search(r"\d ms +0/\d+ \(0%\)", said), said


@needs_iperf
def test_iperfs_server_has_all_that_the_guest_sent(found: Any) -> None:
    tests, server = found["sender"]["tests"], found["sender"]["server"]
    assert [test["coalescing"] for test in tests] == [True, False]
    for test, (lost, total) in zip(tests, server, strict=True):
        assert test["server"]["lost"] == lost == 0
        assert test["sent"] == total > 1
        # A thread of iperf's makes the report, which may be a few datagrams behind.
        assert 0 < test["server"]["datagrams"] <= total

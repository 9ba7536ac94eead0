"""A guest that closes descriptors of its process: one line says so, and nothing stays behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coalesced.hv.doorbell import WaitPolicy
from coalesced.hv.errors import PeerDied
from coalesced.hv.process import GuestProcess
from coalesced.vmm.accel.process import ProcessAccelerator
from coalesced.vmm.machine import Machine
from helpers.hv_processes import within

POLICIES = pytest.mark.parametrize("policy", list(WaitPolicy), ids=lambda p: p.name.lower())
GUESTS = """
import os, time

def all_and_sleeps(vcpu):
    os.closerange(3, 1000)
    time.sleep(1000)

def all_and_raises(vcpu):
    os.closerange(3, 1000)
    raise ValueError("unheard")
"""


@POLICIES
@pytest.mark.parametrize("guest", ["all_and_sleeps", "all_and_raises"])
def test_a_guest_that_closes_all_is_ended_with_one_line(
    tmp_path: Path, policy: WaitPolicy, guest: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "closing.py").write_text(GUESTS)
    process = GuestProcess()
    with within(20), Machine(ProcessAccelerator(process, policy=policy)) as machine:
        with pytest.raises(PeerDied) as raised:
            machine.run(f"{tmp_path / 'closing.py'}:{guest}")
        assert not os.path.exists(f"/proc/{process.pid}")
    assert str(raised.value) == (
        "the guest process ended: the guest has closed descriptors that its process needs"
    )
    assert capfd.readouterr().err == ""

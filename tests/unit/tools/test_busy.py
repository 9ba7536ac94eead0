"""The CPU time of other processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from unittest.mock import patch

from coalesced.tools.runs import busy
from coalesced.tools.runs.busy import Moment

BURN = "import time; end = time.process_time() + 0.15\nwhile time.process_time() < end: pass"


def test_a_child_that_was_reaped_is_no_other_process() -> None:
    before = Moment.now()
    subprocess.run([sys.executable, "-S", "-c", BURN], check=True)
    assert Moment.now().own - before.own >= 0.1


def test_the_share_is_what_neither_this_process_nor_idleness_took() -> None:
    cpus = os.cpu_count() or 1
    began = Moment(clock=0.0, machine=100.0, own=50.0)
    now = Moment(clock=10.0, machine=100.0 + 5.0 * cpus + 2.0, own=52.0)
    with patch.object(Moment, "now", return_value=now):
        assert began.others_share() == 0.5


def test_the_machine_is_at_work_while_this_process_is() -> None:
    before, end = Moment.now(), time.process_time() + 0.15
    while time.process_time() < end:
        pass
    assert Moment.now().machine - before.machine >= 0.1


def test_a_busy_machine_is_said_to_be_too_busy() -> None:
    assert busy.remark(0.5) == "50%: too busy for its figures"
    assert busy.remark(0.05) == "5%"

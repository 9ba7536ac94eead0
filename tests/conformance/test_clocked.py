"""Timers answer as QEMU's do at the same time, to the tick."""

from __future__ import annotations

import pytest
from conformance_clocked import ROUNDS, SCRIPTS, Clocked, differences, read, run

from helpers.qtest_peer import has_qemu

ATTEMPTS = 3  # a timer of QEMU's that is due is late on a busy machine


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_replies_are_those_that_were_recorded_of_qemu(script: Clocked) -> None:
    stretches = read(script)
    assert len(stretches) == ROUNDS
    assert sum(len(commands) for _, commands in stretches) > 5 * ROUNDS
    assert differences(script, stretches) == []


@pytest.mark.heavy
@pytest.mark.skipif(not has_qemu(), reason="QEMU 7.2 is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_replies_are_those_of_qemu_now(script: Clocked) -> None:
    for _ in range(ATTEMPTS):
        wrong = differences(script, run(script, rounds=20))
        if not wrong:
            return
    pytest.fail("\n".join(wrong[:10]))

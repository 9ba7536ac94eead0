"""The recorded replies that this program is compared with are those of QEMU to these scripts."""

from __future__ import annotations

import pytest
from conformance_comparison import different, some_heavy
from conformance_recorded import read as read_recorded
from conformance_reference import replies_of_qemu
from conformance_script import Script
from conformance_scripts import SCRIPTS

from helpers.qtest_peer import has_qemu

ATTEMPTS = 5  # where QEMU's clock runs, and the host may be busy


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_recordings_are_of_these_scripts(script: Script) -> None:
    read_recorded(script, script.lines())


@pytest.mark.skipif(not has_qemu(), reason="no QEMU 7.2 on this machine")
@some_heavy(SCRIPTS)
def test_qemu_replies_as_recorded(script: Script) -> None:
    commands = script.lines()
    recorded = read_recorded(script, commands)
    for _ in range(ATTEMPTS if script.network else 1):
        wrong = different(commands, replies_of_qemu(script), recorded)
        if not wrong:
            return
    pytest.fail("\n".join(wrong[:10]))

"""No reply depends on what came in with its command, or on when queued writes are carried out."""

from __future__ import annotations

from conformance_comparison import compare, some_heavy
from conformance_reference import replies_of_ours
from conformance_script import Script
from conformance_scripts import SCRIPTS

MOST = 1500  # commands of a script that is run one by one


@some_heavy(script for script in SCRIPTS if len(script.lines()) <= MOST)
def test_replies_are_those_of_qemu_one_by_one(script: Script) -> None:
    replies, _ = replies_of_ours(script, "--staleness", "off", together=False)
    compare(script, script.lines(), replies)

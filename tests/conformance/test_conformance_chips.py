"""200,000 random commands for each chip behind the ISA bridge get the replies of QEMU."""

from __future__ import annotations

import os

import pytest
from conformance_chips import CHIPS, Chip
from conformance_comparison import different
from conformance_recorded import condensed
from conformance_reference import replies_of_ours, replies_of_qemu

from helpers.qtest_peer import MODES, has_qemu

COMMANDS = int(os.environ.get("CHIP_COMMANDS", "200000"))


@pytest.mark.heavy
@pytest.mark.skipif(not has_qemu(), reason="QEMU 7.2 is not installed")
@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_random_commands_get_the_replies_of_qemu(chip: Chip) -> None:
    seed = int(os.environ.get("CHIP_SEED", "1"))
    print(f"CHIP_SEED={seed}")
    script = chip.script(f"{chip.name} {seed}", COMMANDS)
    wanted = [condensed(reply) for reply in replies_of_qemu(script)]
    replies, _ = replies_of_ours(script, *MODES["direct"])
    wrong = different(script.lines(), replies, wanted)
    assert not wrong, "\n".join([f"{len(wrong)} replies differ from QEMU's:", *wrong[:10]])

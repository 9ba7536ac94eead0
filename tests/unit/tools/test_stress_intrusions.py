"""What a third party does to channels comes to an end, whatever the sides do."""

from __future__ import annotations

import random
import socket
import threading
from types import SimpleNamespace
from typing import Any, cast

from coalesced.tools.stress import intrusions

_MORE_THAN_FIT = 1000


def test_messages_to_a_side_that_reads_none_are_given_up() -> None:
    """A guest that nobody asks for anything reads its control socket no more."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ends = (ours.fileno(), ours.fileno())
    segments = cast("Any", SimpleNamespace(own=(), events=(), channels=ends))
    chance = random.Random(1)

    def send() -> None:
        for _ in range(_MORE_THAN_FIT):
            intrusions.message(chance, segments).carry_out(segments)

    sender = threading.Thread(target=send, daemon=True)
    with ours, theirs:
        sender.start()
        sender.join(20.0)
        assert not sender.is_alive(), "it waits for somebody who reads"
        assert theirs.recv(1 << 16)

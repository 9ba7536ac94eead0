"""The layout of guest RAM that the network guests share with the card and the VMM."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from coalesced.hv.vcpu import Vcpu

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

TX_RING: Final = 0x100000
RX_RING: Final = 0x102000
MAILBOX: Final = 0x104000  # the VMM's order, between two runs of a guest
REPORT: Final = 0x108000  # the guest's results, see `leave_report`
REPORT_SIZE: Final = 0x4000  # of each of the two reports behind the first word
TX_BUFFERS: Final = 0x120000
RX_BUFFERS: Final = 0x1A0000
MAILBOX_SIZE: Final = 0x1000
_FIRST: Final = REPORT + 8
_SECOND: Final = REPORT + REPORT_SIZE
_ROOM: Final = REPORT_SIZE - 8


def leave_report(vcpu: Vcpu, report: DataclassInstance) -> None:
    """Leave a report for the VMM. Raises ValueError when it is too long.

    There are two places, and a word before them with the address of the one that is valid: the
    VMM may look, or kill this guest, at any moment, and always finds a whole report.
    """
    valid = int.from_bytes(vcpu.read_memory(REPORT, 4), "little")
    other = _SECOND if valid == _FIRST else _FIRST
    text = _text(report)
    if len(text) > _ROOM:
        raise ValueError(f"expected at most {_ROOM - 4} bytes of report, got {len(text) - 4}")
    vcpu.write_memory(other, text)
    vcpu.write_memory(REPORT, other.to_bytes(4, "little"))


def read_report(read: Callable[[int, int], bytes]) -> dict[str, Any]:
    """The fields of the last report; empty before the first.

    `read` reads guest RAM by address and size.
    """
    valid = int.from_bytes(read(REPORT, 4), "little")
    return _read(read, valid, _ROOM) if valid in (_FIRST, _SECOND) else {}


def order(write: Callable[[int, bytes], None], wanted: DataclassInstance) -> None:
    """Leave an order for the guest; `write` writes guest RAM."""
    write(MAILBOX, _text(wanted))


def read_order(vcpu: Vcpu) -> dict[str, Any]:
    """The fields of the VMM's last order."""
    return _read(lambda at, size: bytes(vcpu.read_memory(at, size)), MAILBOX, MAILBOX_SIZE)


def _text(content: DataclassInstance) -> bytes:
    text = json.dumps(asdict(content)).encode()
    return len(text).to_bytes(4, "little") + text


def _read(read: Callable[[int, int], bytes], at: int, room: int) -> dict[str, Any]:
    length = int.from_bytes(read(at, 4), "little")
    if not 0 < length <= room - 4:
        return {}
    content: dict[str, Any] = json.loads(read(at + 4, length))
    return content

"""Linux's mmiotrace, version 20070824: the loads and stores of a driver to mapped memory.

W 4 432.180211 1 0xb000005c 0xfa02003 0x0 0
"""

from __future__ import annotations

from coalesced.tools.traces.events import Kind
from coalesced.tools.traces.formats.base import Format

_ACCESS = " %T %w 0x%ax 0x%vx 0x%w %w"

FORMAT = Format(
    "Linux's mmiotrace",
    "R|W WIDTH SECONDS MAP 0xADDRESS 0xVALUE 0xPC PID",
    "echo mmiotrace > /sys/kernel/tracing/current_tracer; modprobe DRIVER; "
    "cat /sys/kernel/tracing/trace_pipe > FILE",
    (
        (Kind.STORE, "W ", f"%sw{_ACCESS}"),
        (Kind.LOAD, "R ", f"%sw{_ACCESS}"),
        (Kind.NO_VALUE, "UNKNOWN ", "%T %*"),
        (Kind.LOST, "MARK ", "%T Lost %*"),
        (Kind.KNOWN, "MARK ", "%*"),
        (Kind.KNOWN, "MAP ", "%*"),
        (Kind.KNOWN, "UNMAP ", "%*"),
        (Kind.KNOWN, "PCIDEV ", "%*"),
        (Kind.KNOWN, "VERSION ", "%*"),
    ),
)

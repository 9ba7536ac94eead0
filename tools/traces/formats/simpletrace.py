"""The output of QEMU's simpletrace.py, for a QEMU built with the trace backend `simple`.

    memory_region_ops_write 1.2 pid=7 cpu_index=0x0 mr=0x1 addr=0x3c4 value=0x2 size=0x1 name=b'vga'

Its times are differences between the lines that were recorded, and are not used.
"""

from __future__ import annotations

from coalesced.tools.traces.events import Kind
from coalesced.tools.traces.formats.base import Format

_FIELDS = " %w pid=%w cpu_index=0x%tx mr=0x%rx addr=0x%ax value=0x%vx size=0x%sx"

FORMAT = Format(
    "QEMU's simpletrace",
    "memory_region_ops_read|write … cpu_index=0x… mr=0x… addr=0x… value=0x… size=0x… name=b'…'",
    "simpletrace.py trace-events-all trace-PID",
    (
        (Kind.WRITE, "memory_region_ops_", f"write{_FIELDS} name=b'%n'"),
        (Kind.WRITE, "memory_region_ops_", f"write{_FIELDS}"),
        (Kind.READ, "memory_region_ops_", f"read{_FIELDS} name=b'%n'"),
        (Kind.READ, "memory_region_ops_", f"read{_FIELDS}"),
    ),
    handler_calls=True,
)

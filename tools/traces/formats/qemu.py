"""The lines of QEMU's events memory_region_ops_read and memory_region_ops_write.

    memory_region_ops_write cpu 0 mr 0x55955f9573d0 addr 0x3c4 value 0x204 size 2 name 'vga'

QEMU logs the name since 7.0. Before the event there may be QEMU's own time stamps, the date of its
log since 10.2, or the prefixes of ftrace and syslog. `--trace` of this program writes the same.
"""

from __future__ import annotations

from coalesced.tools.traces.events import Kind
from coalesced.tools.traces.formats.base import Format

_OPS = "memory_region_ops_"
_FIELDS = " cpu %td mr %rp addr 0x%ax value 0x%vx size %su"

FORMAT = Format(
    "QEMU's log",
    "memory_region_ops_read|write cpu N mr 0x… addr 0x… value 0x… size 1 to 8 name '…'",
    "qemu-system-x86_64 -accel tcg -trace 'memory_region_ops_*' -D FILE -msg timestamp=on …",
    (
        (Kind.WRITE, _OPS, f"write{_FIELDS} name '%n'"),
        (Kind.WRITE, _OPS, f"write{_FIELDS}"),
        (Kind.READ, _OPS, f"read{_FIELDS} name '%n'"),
        (Kind.READ, _OPS, f"read{_FIELDS}"),
        (Kind.OFFSET_RAM_DEVICE, "memory_region_ram_device_", "%*"),
        (Kind.OFFSET_SUBPAGE, "memory_region_subpage_", "%*"),
    ),
    handler_calls=True,
)

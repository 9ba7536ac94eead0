"""Recognises files of other formats, which no reader is for."""

from __future__ import annotations

import re

_KINDS = (
    (rb"\bvfio_region_(?:read|write) ", "QEMU's events vfio_region_*"),
    (rb"\bcpu_(?:in|out) addr ", "QEMU's events cpu_in and cpu_out"),
    (rb"\b(?:IOPORT|MMIO)_(?:READ|WRITE) \[", "the output of xentrace_format"),
    (rb"^[RW]:0x[0-9a-f]+:0x[0-9a-f]+:", "PANDA's mmio_trace"),
    (rb"\APERFILE2", "perf's binary data (print it with perf script)"),
    (rb"\A\x17\x08\x44tracing", "trace-cmd's binary data (print it with trace-cmd report)"),
    (rb"\A(?:\xff\xfe|\xfe\xff)", "text in UTF-16"),
    (rb"^\x7fELF|^\x89PNG|^PK\x03\x04|^BZh", "a binary file"),
)
_PATTERNS = tuple((re.compile(pattern, re.MULTILINE), what) for pattern, what in _KINDS)


def kind_of(text: bytes) -> str | None:
    """The format of a file by its beginning; None for an unknown one."""
    return next((what for pattern, what in _PATTERNS if pattern.search(text)), None)

"""Compiled programs, kept in the user's cache directory by a hash of their sources."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

_UNUSED_SECONDS = 30 * 86400.0  # after which what was made is removed


def key_of(words: Iterable[str], files: Iterable[Path]) -> str:
    """A name for what is made of these words and the contents of these files."""
    found = hashlib.sha256("\0".join(words).encode())
    for file in files:
        content = file.read_bytes()
        found.update(f"\0{file.name}\0{len(content)}\0".encode() + content)
    return found.hexdigest()[:32]


def kept(key: str, make: Callable[[Path], None]) -> Path:
    """The folder of that key, filled by `make` if it is not there.

    It lies in $XDG_CACHE_HOME/coalesced/litmus (~/.cache without it). Where nothing can be kept,
    or others could change it, it is a folder that ends with this process.
    """
    root = _root()
    if root is not None and _is_filled(root / key):
        with suppress(OSError):  # a cache that can only be read
            os.utime(root / key)
        return root / key
    try:
        fresh = Path(tempfile.mkdtemp(dir=root or of_process()))
    except OSError:
        root, fresh = None, Path(tempfile.mkdtemp(dir=of_process()))
    try:
        make(fresh)
        if root is None:
            return fresh
        _remove_unused(root)
        with suppress(OSError):  # another process was first
            fresh.rename(root / key)
        return root / key
    finally:
        if root is not None:
            shutil.rmtree(fresh, ignore_errors=True)


@cache
def of_process() -> Path:
    """A folder that is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="coalesced-litmus-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _root() -> Path | None:
    """The folder of all that is kept; None where it is not this user's alone."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        root = Path(home, "coalesced", "litmus")
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = root.stat()
        noexec = os.statvfs(root).f_flag & os.ST_NOEXEC
    except (OSError, RuntimeError):  # no home
        return None
    own = found.st_uid == os.geteuid() and not found.st_mode & 0o022
    return root if own and root.is_absolute() and not noexec else None


def _is_filled(folder: Path) -> bool:
    """Whether it is there, and not emptied by a program that removes old files."""
    return folder.is_dir() and any(folder.iterdir())


def _remove_unused(root: Path) -> None:
    oldest = time.time() - _UNUSED_SECONDS
    for folder in root.iterdir():
        with suppress(OSError):  # another process has removed it
            if folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)

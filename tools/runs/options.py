"""The options of a run as values; `commands/options.py` fills them from a command line."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from coalesced.tools.errors import BadInput, warn
from coalesced.vmm.zone import AS_DECLARED, Choice

NETWORK_STALENESS = 0.01  # seconds
NO_PICTURE = Path("none")


class Accel(StrEnum):
    """The accelerator that runs the guest."""

    process = "process"
    direct = "direct"
    kvm = "kvm"


class Wait(StrEnum):
    """The wait policy of both sides."""

    block = "block"
    adaptive = "adaptive"
    poll = "poll"


class Cpus(StrEnum):
    """The placement of the two processes."""

    SAME = "same"
    SPLIT = "split"
    ANY = "any"


class Rings(StrEnum):
    """The rings of queued writes."""

    vm = "vm"
    device = "device"


@dataclass(frozen=True)
class NetworkOptions:
    """The back ends of a machine, and the file that their frames are written to."""

    netdevs: tuple[str, ...] = ()
    pcap: Path | None = None


@dataclass(frozen=True)
class Explain:
    """--explain."""

    limit: int | None = None  # accesses, None: all
    aside: bool = False  # to stderr: stdout has JSON


@dataclass(frozen=True)
class RunOptions:
    """The options of a run."""

    accel: str = Accel.process
    ring_pages: int = 1
    wait: str = Wait.adaptive
    staleness: float | None = None  # seconds
    coalesce: bool = True
    zones: Choice = AS_DECLARED
    rings: str | None = None  # None: as the devices declare
    cpus: str = Cpus.ANY
    vcpus: int = 1
    trace: Path | None = None
    explain: Explain | None = None
    network: NetworkOptions = NetworkOptions()

    def outputs(self, picture: Picture | None = None) -> dict[str, Path | None]:
        """The files that the run writes, by their options."""
        png = picture.path if picture is not None else None
        return {"--trace": self.trace, "--png": png, "--pcap": self.network.pcap}


@dataclass(frozen=True)
class Picture:
    """The file that the screen is written to."""

    path: Path
    asked: bool  # by the user: a failure to write it is an error, otherwise a warning


def check_writable(option: str, path: Path) -> None:
    """Raise BadInput unless a file can be written at `path`."""
    folder = path.parent
    if path.is_dir():
        raise BadInput(f"{option} {path}: expected a file, found a folder")
    if not folder.is_dir():
        raise BadInput(f"{option} {path}: there is no folder {folder}")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise BadInput(f"{option} {path}: no permission to write there")


def picture(given: Path | None, default: str | None = None) -> Picture | None:
    """The file of --png, or `default`; None for no picture, or a default that cannot be written.

    Raises BadInput for a file of the user's choice that cannot be written.
    """
    if given == NO_PICTURE or (given is None and default is None):
        return None
    chosen = Picture(given or Path(default or ""), asked=given is not None)
    try:
        check_writable("--png", chosen.path)
    except BadInput as error:
        if chosen.asked:
            raise
        warn_of_picture(error)
        return None
    return chosen


def warn_of_picture(error: BadInput) -> None:
    """Warn that the default picture is not written."""
    warn(f"warning: the picture is not written: {error}; choose a file with --png FILE, or use "
         "--png none")  # fmt: skip

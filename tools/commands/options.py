"""Options that several commands share, and what they come to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from coalesced.hv.abi import RING_PAGES_MAX
from coalesced.tools import errors
from coalesced.tools.errors import BadInput, warn


class Accel(StrEnum):
    """--accel"""

    process = "process"
    direct = "direct"
    kvm = "kvm"


class Wait(StrEnum):
    """--wait"""

    block = "block"
    adaptive = "adaptive"
    poll = "poll"


class Cpus(StrEnum):
    """--cpus"""

    same = "same"
    apart = "split"
    anywhere = "any"


AccelOption = Annotated[Accel, typer.Option("--accel", help="What runs the guest.")]
RingPagesOption = Annotated[
    int, typer.Option("--ring-pages", metavar="N", help="Pages of the ring, 1 to 4096.")
]
WaitOption = Annotated[Wait, typer.Option("--wait", help="How either side waits for the other.")]
StalenessOption = Annotated[
    str,
    typer.Option(
        "--staleness",
        metavar="MS|off",
        help="Milliseconds after which a queued write is delivered although no exit came.",
    ),
]
NETWORK_STALENESS = "10"
NetworkStalenessOption = Annotated[
    str | None,
    typer.Option(
        "--staleness",
        metavar="MS|off",
        help="Milliseconds after which a queued write is delivered although no exit came.",
        show_default=f"{NETWORK_STALENESS} with --netdev, else off",
    ),
]
NetdevOption = Annotated[
    list[str] | None,
    typer.Option(
        "--netdev",
        metavar="SPEC",
        help="KIND,id=ID,... as QEMU's -netdev: dgram, stream, socket, tap, hubport. Repeatable.",
    ),
]
PcapOption = Annotated[
    Path | None,
    typer.Option("--pcap", metavar="FILE", help="Write every frame of every netdev, as pcap."),
]
NoCoalesceOption = Annotated[
    bool, typer.Option("--no-coalesce", help="Queue nothing: every device access exits.")
]
CpusOption = Annotated[
    Cpus, typer.Option("--cpus", help="Both processes on one CPU, on two, or anywhere.")
]
TraceOption = Annotated[
    Path | None,
    typer.Option(
        "--trace", metavar="FILE", help="Write every access of the guest, in QEMU's format."
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")
]


def _show_frames(wanted: bool) -> bool:
    errors.show_frames = errors.show_frames or wanted
    return wanted


TracebackOption = Annotated[
    bool,
    typer.Option(
        "--traceback",
        callback=_show_frames,
        expose_value=False,
        help="Show all frames of a guest's error, not its own line alone.",
    ),
]


def png_option(default: str | None = None) -> Any:
    """--png of a command that writes its picture to `default` without it."""
    return typer.Option(
        "--png",
        metavar="FILE|none",
        help="Where the screen goes as a picture; none: nowhere.",
        show_default=default or False,
    )


PngOption = Annotated[Path | None, png_option()]
NO_PICTURE = Path("none")


@dataclass(frozen=True)
class NetworkOptions:
    """The back ends of a machine, and the file that their frames are written to."""

    netdevs: tuple[str, ...] = ()
    pcap: Path | None = None


@dataclass(frozen=True)
class Picture:
    """Where the screen goes."""

    path: Path
    asked: bool  # by the user: then it is an error when it cannot be written, else a warning


@dataclass(frozen=True)
class RunOptions:
    """How a guest is to be run."""

    accel: str = "process"
    ring_pages: int = 1
    wait: str = "adaptive"
    staleness: float | None = None  # seconds
    coalesce: bool = True
    cpus: str = "any"
    trace: Path | None = None


def run_options(
    accel: Accel,
    ring_pages: int,
    wait: Wait,
    staleness: str,
    no_coalesce: bool,
    cpus: Cpus,
    trace: Path | None,
) -> RunOptions:
    """The options, checked. Raises BadInput."""
    if not 1 <= ring_pages <= RING_PAGES_MAX:
        raise BadInput(f"--ring-pages {ring_pages}: expected 1 to {RING_PAGES_MAX} pages")
    if accel is Accel.kvm:
        _check_kvm(ring_pages, wait, cpus)
    if trace is not None:
        check_writable("--trace", trace)
    return RunOptions(
        accel=accel.value,
        ring_pages=ring_pages,
        wait=wait.value,
        staleness=staleness_of(staleness),
        coalesce=not no_coalesce,
        cpus=cpus.value,
        trace=trace,
    )


def network_options(netdevs: list[str] | None, pcap: Path | None) -> NetworkOptions:
    """--netdev and --pcap, checked as far as that goes without opening them. Raises BadInput."""
    if pcap is not None:
        if not netdevs:
            raise BadInput(f"--pcap {pcap}: expected a --netdev whose frames it is to hold")
        check_writable("--pcap", pcap)
    return NetworkOptions(tuple(netdevs or ()), pcap)


def network_staleness(given: str | None, netdevs: list[str] | None) -> str:
    """--staleness of a command that may have a network."""
    if given is not None:
        return given
    return NETWORK_STALENESS if netdevs else "off"


def _check_kvm(ring_pages: int, wait: Wait, cpus: Cpus) -> None:
    """What only two processes have. Raises BadInput."""
    if ring_pages != 1:
        raise BadInput(
            f"--ring-pages {ring_pages}: with --accel kvm the kernel's ring has one page"
        )
    for option, value, default in (
        ("--wait", wait, Wait.adaptive),
        ("--cpus", cpus, Cpus.anywhere),
    ):
        if value is not default:
            raise BadInput(
                f"{option} {value.value}: with --accel kvm there is one process, which waits for "
                "nobody"
            )


def check_writable(option: str, path: Path) -> None:
    """Raise BadInput unless a file can be written at `path`."""
    folder = path.parent
    if path.is_dir():
        raise BadInput(f"{option} {path}: expected a file, it is a folder")
    if not folder.is_dir():
        raise BadInput(f"{option} {path}: there is no folder {folder}")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise BadInput(f"{option} {path}: no permission to write there")


def picture(given: Path | None, default: str | None) -> Picture | None:
    """--png, or the command's own choice; None where no picture is wanted or can be written.

    Raises BadInput for a file of the user's choice that cannot be written.
    """
    if given is not None:
        if given == NO_PICTURE:
            return None
        check_writable("--png", given)
        return Picture(given, asked=True)
    if default is None:
        return None
    try:
        check_writable("--png", Path(default))
    except BadInput as error:
        warn_of_picture(error)
        return None
    return Picture(Path(default), asked=False)


def path_of(picture: Picture | None) -> Path | None:
    """Where it goes."""
    return picture.path if picture is not None else None


def warn_of_picture(error: BadInput) -> None:
    """Say that the picture is left out which nobody asked for."""
    warn(f"warning: the picture is not written: {error}; --png FILE says where else, --png none "
         "that none is wanted")  # fmt: skip


def staleness_of(text: str) -> float | None:
    """--staleness: seconds, None for `off`. Raises BadInput."""
    if text == "off":
        return None
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = 0.0
    if not 0 < milliseconds <= 60_000:
        raise BadInput(f"--staleness {text}: expected above 0 to 60000 milliseconds, or off")
    return milliseconds / 1000

"""Options that several commands share; each is declared once, here."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from coalesced.hv.abi import RING_PAGES_MAX, VCPUS_MAX
from coalesced.tools import errors
from coalesced.tools.commands.arguments import COUNT_OPTION, RANGE_OPTION
from coalesced.tools.errors import BadInput
from coalesced.tools.runs.options import (
    NETWORK_STALENESS,
    Accel,
    Cpus,
    Explain,
    NetworkOptions,
    Rings,
    RunOptions,
    Wait,
    check_writable,
)
from coalesced.tools.runs.ranges import FORM, zone_of
from coalesced.vmm.zone import Choice

__all__ = ["Accel", "Cpus", "Wait", "check_writable"]

AccelOption = Annotated[Accel, typer.Option("--accel", help="Accelerator that runs the guest.")]
WaitOption = Annotated[Wait, typer.Option("--wait", help="How each side waits for the other.")]
NetdevOption = Annotated[
    list[str] | None,
    typer.Option(
        "--netdev",
        metavar="SPEC",
        help="KIND,id=ID,... as QEMU's -netdev: dgram, stream, socket, tap, hubport. Repeatable.",
    ),
]
DeviceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        metavar="SPEC",
        help="NAME,addr=SLOT.0,... as QEMU's -device, or FILE.py:CLASS,addr=05.0. Repeatable.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")
]


def png_option(default: str | None = None) -> Any:
    """--png of a command that writes its picture to `default` without it."""
    return typer.Option(
        "--png",
        metavar="FILE|none",
        help="Write the screen to this PNG file; none: no picture.",
        show_default=default or False,
    )


def _show_frames(wanted: bool) -> bool:
    errors.show_frames = errors.show_frames or wanted
    return wanted


PcapOption = Annotated[
    Path | None,
    typer.Option("--pcap", metavar="FILE", help="Write every frame of every netdev, as pcap."),
]
RingPagesOption = Annotated[
    int, typer.Option("--ring-pages", metavar="N", help="Pages of the ring, 1 to 4096.")
]
NoCoalesceOption = Annotated[
    bool,
    typer.Option(
        "--no-coalesce",
        help="Queue nothing: every device access exits. With a range, as for --coalesce, queue no "
        "write to that range; repeatable with a range.",
    ),
]
NoCoalesceRangeOption = Annotated[
    list[str] | None, typer.Option(RANGE_OPTION, metavar=FORM, hidden=True)
]
CoalesceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--coalesce",
        metavar=FORM,
        help="Queue the writes to this range, too; with --no-coalesce only these. Repeatable.",
    ),
]
PostOption = Annotated[
    list[str] | None,
    typer.Option(
        "--post",
        metavar=FORM,
        help="Queue the writes to this range, and wake the VMM for each; the guest runs on. "
        "Repeatable.",
    ),
]
RingsOption = Annotated[
    Rings | None,
    typer.Option(
        "--rings",
        help="Queue all writes in the VM's ring, or those to each device in a ring of its own.",
        show_default="as the devices declare",
    ),
]
CpusOption = Annotated[
    Cpus, typer.Option("--cpus", help="Run both processes on one CPU, on two, or on any.")
]
VcpusOption = Annotated[
    int,
    typer.Option(
        "--vcpus", metavar="N", help="vCPUs that run the guest at once, 1 to 8; see Vcpu.index."
    ),
]
TraceOption = Annotated[
    Path | None,
    typer.Option(
        "--trace", metavar="FILE", help="Write every access of the guest, in QEMU's format."
    ),
]
ExplainOption = Annotated[
    bool,
    typer.Option(
        "--explain",
        help="Explain each access of the first run: its slot in the ring or its exit, and why. "
        "With a number, only that many.",
    ),
]
ExplainFirstOption = Annotated[int | None, typer.Option(COUNT_OPTION, metavar="N", hidden=True)]
TracebackOption = Annotated[
    bool,
    typer.Option(
        "--traceback",
        callback=_show_frames,
        expose_value=False,
        help="Show all frames of a guest's error, not only the guest's own line.",
    ),
]


def _run_options(
    netdev: NetdevOption = None,
    pcap: PcapOption = None,
    accel: AccelOption = Accel.process,
    ring_pages: RingPagesOption = 1,
    wait: WaitOption = Wait.adaptive,
    staleness: str | None = None,  # see `_staleness_option`
    no_coalesce: NoCoalesceOption = False,
    no_coalesce_range: NoCoalesceRangeOption = None,
    coalesce: CoalesceOption = None,
    post: PostOption = None,
    rings: RingsOption = None,
    cpus: CpusOption = Cpus.ANY,
    trace_out: TraceOption = None,
    explain: ExplainOption = False,
    explain_first: ExplainFirstOption = None,
    _traceback: TracebackOption = False,
) -> RunOptions:
    """The options, checked as far as that goes without starting anything. Raises BadInput."""
    if not 1 <= ring_pages <= RING_PAGES_MAX:
        raise BadInput(f"--ring-pages {ring_pages}: expected 1 to {RING_PAGES_MAX} pages")
    if accel is Accel.kvm:
        _check_kvm(ring_pages, wait, cpus)
    zones = _choice(no_coalesce, coalesce or [], no_coalesce_range or [], post or [])
    if zones.added and accel is Accel.direct:
        raise BadInput(f"--coalesce {zones.added[0]}: --accel direct has no ring")
    if zones.posted and accel is not Accel.process:
        raise BadInput(f"--post {zones.posted[0]}: --accel {accel} has no posted writes")
    if rings is Rings.device and accel is not Accel.process:
        raise BadInput(f"--rings device: --accel {accel} has no rings of devices' own")
    explained = _explained(explain, explain_first, accel)
    for option, path in (("--trace", trace_out), ("--pcap", pcap)):
        if path is not None:
            check_writable(option, path)
    return RunOptions(
        accel=accel,
        ring_pages=ring_pages,
        wait=wait,
        staleness=_staleness(staleness, bool(netdev)),
        coalesce=zones.declared or bool(zones.added or zones.posted),
        zones=zones,
        rings=rings,
        cpus=cpus,
        trace=trace_out,
        explain=explained,
        network=NetworkOptions(tuple(netdev or ()), pcap),
    )


def with_run_options(
    without: Collection[str] = (), staleness: str | None = None, live_kvm: bool = False
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command the options of `_run_options`, and --json.

    The command takes `options`, a RunOptions, and `json`. `without`: parameters that it does not
    have; `staleness`: the default, if it does not depend on --netdev; `live_kvm`: its guests run
    live on KVM, with a network.
    """
    kept = [
        each.replace(default=_staleness_option(staleness)) if each.name == "staleness" else each
        for each in _parameters(_run_options)
        if each.name not in without
    ]
    names = [parameter.name for parameter in kept]
    json = inspect.Parameter("json", _KEYWORD, default=False, annotation=JsonOption)

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(command)
        def with_options(**given: Any) -> int:
            options = _run_options(**{name: given.pop(name) for name in names if name in given})
            if options.explain is not None:
                options = replace(options, explain=replace(options.explain, aside=given["json"]))
            if not live_kvm:
                _check_recorded(options)
            return command(options=options, **given)

        own = [one for one in _parameters(command) if one.name not in ("options", "json")]
        signature = inspect.Signature([*own, *kept, json])
        setattr(with_options, "__signature__", signature)  # noqa: B010 - functions have none
        return with_options

    return decorate


_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def _parameters(function: Callable[..., object]) -> list[inspect.Parameter]:
    found = inspect.signature(function, eval_str=True).parameters.values()
    return [parameter.replace(kind=_KEYWORD) for parameter in found]


def _choice(no_coalesce: bool, added: list[str], removed: list[str], posted: list[str]) -> Choice:
    """The zones of --coalesce, --no-coalesce and --post. Raises BadInput."""
    return Choice(
        not no_coalesce,
        tuple(zone_of("--coalesce", text) for text in added),
        tuple(zone_of("--no-coalesce", text) for text in removed),
        tuple(zone_of("--post", text) for text in posted),
    )


def _explained(wanted: bool, first: int | None, accel: Accel) -> Explain | None:
    """--explain, with its number or without. Raises BadInput."""
    if not wanted and first is None:
        return None
    if first is not None and first < 1:
        raise BadInput(f"--explain {first}: expected 1 access or more")
    if accel is Accel.direct:
        raise BadInput("--explain: --accel direct has neither a ring nor exits")
    return Explain(first)


def _staleness_option(default: str | None) -> Any:
    """--staleness; `default` None: it depends on --netdev."""
    return typer.Option(
        default,
        "--staleness",
        metavar="MS|off",
        help="Milliseconds after which a queued write is delivered even without an exit.",
        show_default=True if default else f"{NETWORK_STALENESS * 1e3:g} with --netdev, else off",
    )


def _staleness(text: str | None, network: bool) -> float | None:
    if text is None:
        return NETWORK_STALENESS if network else None
    return staleness_of(text)


def with_vcpus(options: RunOptions, vcpus: int) -> RunOptions:
    """The options of a guest on several vCPUs. Raises BadInput."""
    if not 1 <= vcpus <= VCPUS_MAX:
        raise BadInput(f"--vcpus {vcpus}: expected 1 to {VCPUS_MAX} vCPUs")
    if vcpus > 1 and options.accel == Accel.direct:
        raise BadInput(f"--vcpus {vcpus}: --accel direct has one vCPU")
    return replace(options, vcpus=vcpus)


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


def _check_kvm(ring_pages: int, wait: Wait, cpus: Cpus) -> None:
    """Raise BadInput for options that --accel kvm does not have."""
    if ring_pages != 1:
        raise BadInput(
            f"--ring-pages {ring_pages}: with --accel kvm the kernel's ring has one page"
        )
    for option, value, default in (("--wait", wait, Wait.adaptive), ("--cpus", cpus, Cpus.ANY)):
        if value is not default:
            raise BadInput(f"{option} {value.value}: --accel kvm has only one process")


def _check_recorded(options: RunOptions) -> None:
    """Raise BadInput for a network where --accel kvm replays what the guest did without one."""
    if options.accel is Accel.kvm and options.network.netdevs:
        raise BadInput(
            f"--netdev {options.network.netdevs[0]}: --accel kvm runs recorded guests, which have "
            "no network"
        )


def check_pcap(network: NetworkOptions) -> None:
    """Raise BadInput for --pcap without a --netdev."""
    if network.pcap is not None and not network.netdevs:
        raise BadInput(f"--pcap {network.pcap}: needs a --netdev, whose frames it records")

"""`coalesced boot`: machine code as the guest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from coalesced.hv.cpu.guest import library
from coalesced.hv.errors import HostError
from coalesced.hv.printable import printable
from coalesced.tools.boot import images, live, recorded
from coalesced.tools.boot.against import Against as Compared
from coalesced.tools.boot.images import Image
from coalesced.tools.boot.keys import keys_of
from coalesced.tools.boot.machine import Hardware
from coalesced.tools.boot.qemu import CAUSES, check_arguments
from coalesced.tools.boot.run import Boot, Plan, World, boot
from coalesced.tools.boot.serial import STDIO, check, to_terminal
from coalesced.tools.boot.until import HALT, parse
from coalesced.tools.commands.options import (
    DeviceOption,
    check_pcap,
    png_option,
    with_run_options,
)
from coalesced.tools.errors import BadInput
from coalesced.tools.runs import firmware, report
from coalesced.tools.runs.boards import DEFAULT_DEVICE, memory_size
from coalesced.tools.runs.options import Accel, RunOptions, picture
from coalesced.tools.runs.outputs import check_apart
from coalesced.tools.runs.runner import check_kvm

EXAMPLES = (
    "Examples: coalesced boot seabios · coalesced boot plasma --bios none --png plasma.png · "
    "coalesced boot seabios --accel kvm · coalesced boot kernel.elf --until 'Welcome'"
)


QEMU = "qemu"
SEABIOS = "seabios"
SEABIOS_ENDS = "No bootable device.  Retrying in 60 seconds."
NONE = "none"
MEMORY = "16M"
STALENESS = "100"
"""Milliseconds: a guest that has asked for a reset by a queued write waits for it in a loop."""

ImageArgument = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE",
        help="A boot sector or floppy image, a bzImage, an ELF or multiboot kernel, a flat "
        "binary with --at, an .asm file for nasm, seabios for the BIOS alone, or one of the "
        "examples echo, hello, lines, plasma, timer.",
    ),
]
BiosOption = Annotated[
    str | None,
    typer.Option(
        "--bios",
        metavar="FILE|none",
        help="The BIOS; none: start a boot sector at 0x7c00.",
        show_default="SeaBIOS",
    ),
]
AtOption = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="ADDRESS",
        help="Load a flat binary there and start it: in real mode below 1 MiB, else in "
        "32-bit protected mode.",
    ),
]
AppendOption = Annotated[
    str, typer.Option("--append", metavar="TEXT", help="The command line of a bzImage.")
]
MemoryOption = Annotated[str, typer.Option("--memory", metavar="SIZE", help="RAM, 2M to 3G.")]
UntilOption = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="TEXT|hlt|SECONDS",
        help="Stop when this text is on the screen or the serial line, when the processor "
        "halts for good, or after this many seconds.",
        show_default=HALT,
    ),
]
TypeOption = Annotated[
    str,
    typer.Option(
        "--type",
        metavar="TEXT",
        help="Type this when the guest has turned the keyboard on; \\n is Enter, \\e Esc, \\cB "
        "Ctrl-B; \\w{TEXT} waits until TEXT is shown.",
    ),
]
AgainstOption = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="kvm|qemu|FILE",
        help="Compare the exits, by reason, place and order. kvm: with a run on the real KVM, "
        "instead of one without coalescing; qemu: with QEMU on KVM, recorded by the kernel's "
        "tracepoints (as root); FILE: with such a recording (perf script, ftrace).",
    ),
]
SerialOption = Annotated[
    str,
    typer.Option(
        "--serial",
        metavar="stdio|FILE|none",
        help="Connect COM1 to this terminal (a single run) or a file; show its output at the end.",
    ),
]
RomOption = Annotated[
    list[Path] | None,
    typer.Option("--rom", metavar="FILE", help="Another option ROM. Repeatable."),
]


@with_run_options(staleness=STALENESS, live_kvm=True)
def boot_command(
    options: RunOptions,
    json: bool,
    image: ImageArgument,
    device: DeviceOption = None,
    bios: BiosOption = None,
    at: AtOption = None,
    append: AppendOption = "",
    memory: MemoryOption = MEMORY,
    until: UntilOption = None,
    type_: TypeOption = "",
    against: AgainstOption = None,
    serial: SerialOption = NONE,
    rom: RomOption = None,
    png: Annotated[Path | None, png_option()] = None,
) -> int:
    """Boot machine code with coalescing on and off.

    The processor is Unicorn's, in the guest process (extra `cpu`), or the real one (--accel kvm).
    """
    check_pcap(options.network)
    wanted = picture(png)
    check_apart(options.outputs(wanted), {"IMAGE": Path(image)})
    _check_accelerator(options)
    if against is not None:
        _check_against(against, options, serial, type_)
    default = SEABIOS_ENDS if image == SEABIOS else HALT
    ending, keys = parse(until or default), keys_of(type_)
    size, line, terminal = memory_size(memory), check(serial), to_terminal(json)
    found = _image(image, at, bios, size, append)
    more = {path.name: firmware.read(path) for path in rom or []}
    contents = b"" if found.start is not None else firmware.bios(bios)
    hardware = Hardware(device or [DEFAULT_DEVICE], size, contents, more, options.network)
    other = None if against is None else _world(against, found, hardware, ending.seconds)
    plan = Plan(found, hardware, ending, line, terminal, other, keys)
    result = boot(plan, options, wanted)
    return _show(image, result, json, serial == STDIO, ending.seconds)


def usual(image: str, specs: Sequence[str]) -> Plan:
    """The plan of an image as this command has it without options. Raises BadInput."""
    _check_accelerator(RunOptions())
    size = memory_size(MEMORY)
    found = _image(image, None, None, size, "")
    contents = b"" if found.start is not None else firmware.bios(None)
    hardware = Hardware(specs or [DEFAULT_DEVICE], size, contents)
    ending = parse(SEABIOS_ENDS if image == SEABIOS else HALT)
    return Plan(found, hardware, ending, NONE, to_terminal(as_json=True))


def _check_accelerator(options: RunOptions) -> None:
    if options.accel == Accel.direct:
        raise BadInput("--accel direct: machine code needs a processor: process or kvm")
    if options.accel == Accel.process:
        try:
            library()
        except HostError as error:
            raise BadInput(str(error)) from error


def _check_against(other: str, options: RunOptions, serial: str, typed: str) -> None:
    if options.accel != Accel.process or options.ring_pages != 1:
        raise BadInput(
            f"--against {other}: compares --accel process, with the one page of KVM's ring"
        )
    if serial == STDIO:
        raise BadInput(f"--against {other}: it makes two runs, but --serial stdio is for one")
    if other == Accel.kvm:
        check_kvm()
        return
    if options.network.netdevs:
        raise BadInput(f"--against {other}: --netdev does not reach QEMU")
    if other == QEMU:
        if typed:
            raise BadInput(f"--against {QEMU}: --type does not reach QEMU's keyboard")
        live.check()


def _world(other: str, image: Image, hardware: Hardware, seconds: float | None) -> Accel | World:
    """The other world of --against. Raises BadInput."""
    if other == Accel.kvm:
        return Accel.kvm
    if other == QEMU:
        check_arguments(image, hardware)
        return World(QEMU, lambda like: live.boot(image, hardware, like, seconds), CAUSES)
    path = Path(other)
    recording = recorded.events_of(path)
    return World(path.name, lambda like: recorded.log_of(recording, like.name), CAUSES)


def _image(name: str, at: str | None, bios: str | None, memory: int, append: str) -> Image:
    if name == SEABIOS:
        if bios == NONE or at is not None or append:
            raise BadInput(f"{SEABIOS}: this is the BIOS: omit --bios none, --at and --append")
        return Image(SEABIOS)
    return images.load(name, _address(at), bios != NONE, memory, append)


def _address(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        address = int(text, 0)
    except ValueError:
        address = -1
    if not 0 <= address < 1 << 32:
        raise BadInput(f"--at {text}: expected an address of 0 to 0xffffffff")
    return address


_ALIKE: Final = {
    True: "All runs showed the same.",
    False: "THE RUNS SHOWED DIFFERENT THINGS.",
    None: "The runs were stopped after {} s, each at another point: they are not compared.",
}


def _show(name: str, result: Boot, as_json: bool, shown: bool, seconds: float | None) -> int:
    """Print the result; `shown`: its serial output is on the terminal already.

    `seconds`: after which the runs were stopped, if nothing else ended them.
    """
    compared = result.comparison
    if as_json:
        report.print_json(result)
    else:
        alike = _ALIKE[compared.identical] if len(compared.runs) > 1 else ""
        report.print_comparison(name, compared, identical=alike.format(seconds))
        print(f"Stopped by: {result.stopped_by}")
        serial = [] if shown else result.serial.splitlines()
        if result.against is not None:
            _show_against(result.against)
        for line in (*result.text.splitlines(), *serial):
            print(f"  {printable(line)}".rstrip())
    report.print_failures(compared.runs)
    return 0 if result.ok else 1


def _show_against(found: Compared) -> None:
    """The rows that differ, how many do not, and the first difference in order."""
    equal = sum(row.equal for row in found.rows)
    print(f"Exits by reason and place: {equal} of {len(found.rows)} counts are equal.")
    for row in found.rows:
        if not row.equal:
            counts = _side_by_side(found, [f"{count:,}" for count in row.exits])
            where = f"{row.reason} {row.place}".rstrip()
            print(f"  {where}: {counts}{'; ' * bool(row.cause)}{row.cause}")
    if any(found.full_rings):
        held = [
            ", ".join(f"{times:,} with {entries:,} entries" for entries, times in full.items())
            for full in found.full_rings
        ]
        print(f"Full rings: {_side_by_side(found, [each or 'none' for each in held])}")
    _show_order(found)


def _show_order(found: Compared) -> None:
    first = found.first_difference
    if first is None:
        print("The others of these exits come in the same order.")
        return
    print(f"In order, exit {first.number:,} of those without a cause to differ is another one:")
    for world, exits in zip(found.worlds, first.exits, strict=True):
        marked = [f"[{text}]" if at == first.at else text for at, text in enumerate(exits)]
        print(f"  {world}: {' · '.join(marked)}")


def _side_by_side(found: Compared, texts: Sequence[str]) -> str:
    return "; ".join(f"{world} {text}" for world, text in zip(found.worlds, texts, strict=True))


def register(app: typer.Typer) -> None:
    """Add `boot` to the program."""
    app.command("boot", epilog=EXAMPLES)(boot_command)

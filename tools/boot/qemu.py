"""QEMU on KVM with the hardware of a boot. Its guest does not run before `go`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import IO, Any, Final

from coalesced.devices.bus.pci import PciFunction
from coalesced.hv import core
from coalesced.tools.boot.exits import PLAIN
from coalesced.tools.boot.images import Image
from coalesced.tools.boot.machine import Hardware
from coalesced.tools.errors import BadInput
from coalesced.tools.runs import firmware
from coalesced.vmm import devicespec
from coalesced.vmm.devicespec import Spec

PROGRAM: Final = "qemu-system-x86_64"
# The devices that this PC has too: interrupts come from the 8259s alone, there is no SMM.
_MACHINE: Final = "pc,smm=off,kernel_irqchip=off,hpet=off,usb=off,vmport=off"
_CPU: Final = "qemu32,-apic,kvm=off"
# SeaBIOS says "Retrying" unless fw_cfg has another time, and QEMU always gives one.
_RETRY: Final = "reboot-timeout=60000"
_NO_IDE: Final = "QEMU has an IDE controller"
_TABLES: Final = "QEMU's fw_cfg has tables of ACPI, where SeaBIOS makes its own here"
CAUSES: Final = {
    f"vga-lowmem{PLAIN}": "QEMU maps the window as RAM then, and nothing exits",
    "vga.vram": "QEMU maps video memory as RAM",
    "port 0xcf8": "QEMU queues no write to it: its zone is cut by port 0xcf9",
    **{f"port {port:#x} of 00:01.1": _NO_IDE for port in range(0xCFC, 0xD00)},
    **{
        f"port {port:#x}": _NO_IDE
        for ports in (range(0x170, 0x178), range(0x1F0, 0x1F8), (0x376, 0x3F6))
        for port in ports
    },
    **{f"port {port:#x}": "QEMU has a floppy controller" for port in (*range(0x3F0, 0x3F6), 0x3F7)},
    **{f"port {port:#x}": _TABLES for port in range(0x510, 0x51C)},
    **dict.fromkeys(("port 0xae0c", "0xfed00000", "0xfed00004"), _TABLES),  # looks for devices
}
"""Places at which QEMU's PC and this one are known to differ, and why."""


def program() -> str:
    """QEMU, with KVM to run on. Raises BadInput."""
    found = shutil.which(PROGRAM)
    if found is None:
        raise BadInput(f"--against qemu: no {PROGRAM} on the PATH (apt install qemu-system-x86)")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise BadInput("--against qemu: QEMU needs /dev/kvm, which cannot be opened")
    return found


def arguments(image: Image, hardware: Hardware, files: Files) -> list[str]:
    """QEMU's options for the same machine. Raises BadInput for a device that it does not have."""
    given = ["-bios", files.path(image.start if image.start is not None else hardware.bios)]
    given += ["-m", f"size={hardware.memory >> 20}M"]
    named = {f"genroms/{name}": contents for name, contents in hardware.roms.items()}
    if image.floppy:
        named["floppyimg/disk"] = image.floppy
    for name, contents in named.items():
        given += ["-fw_cfg", f"name={name},file={files.path(contents)}"]
    for address, contents in image.loaded:
        path = files.path(contents)
        given += ["-device", f"loader,addr={address:#x},file={path},force-raw=on"]
    for text in hardware.specs:
        given += ["-device", _device(devicespec.parse_spec(text), text)]
    return given


def check_arguments(image: Image, hardware: Hardware) -> None:
    """Raise BadInput for a device that QEMU does not have."""
    with closing(Files()) as files:
        arguments(image, hardware, files)


def _device(spec: Spec, text: str) -> str:
    if ".py:" in spec.name:
        raise BadInput(f"--against qemu: QEMU has no device {spec.name}")
    model = devicespec.MODELS.get(spec.name)
    is_pci = model is not None and issubclass(model.load(), PciFunction)
    if not is_pci or "romfile" in spec.properties:
        return text
    known = firmware.ROMS.get(spec.name)
    return f"{text},romfile={(known and firmware.find(known)) or ''}"


class Files:
    """Contents that QEMU reads by descriptor."""

    def __init__(self) -> None:
        self._open: list[IO[bytes]] = []

    def path(self, contents: bytes) -> str:
        """A path for QEMU."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 - open until `close`
        self._open.append(file)
        file.write(contents)
        file.flush()
        return f"/proc/self/fd/{file.fileno()}"

    @property
    def descriptors(self) -> list[int]:
        """Those that QEMU inherits."""
        return [file.fileno() for file in self._open]

    def close(self) -> None:
        """Close them."""
        for file in self._open:
            file.close()


class Qemu:
    """A QEMU that waits for `go`. It ends with this process, however that ends."""

    def __init__(self, image: Image, hardware: Hardware) -> None:
        """Raises BadInput if QEMU does not start."""
        with ExitStack() as stack:
            files = Files()
            stack.callback(files.close)
            more = arguments(image, hardware, files)
            fixed = (
                f"-nodefaults -no-user-config -display none -accel kvm -machine {_MACHINE} "
                f"-cpu {_CPU} -serial null -boot {_RETRY} -qmp stdio -S"
            )
            self._process = subprocess.Popen(
                [program(), *fixed.split(), *more],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=files.descriptors,
                process_group=0,  # only this process handles Ctrl-C
                preexec_fn=core.die_with_parent,  # noqa: PLW1509 - no threads here
            )
            stack.callback(self.close)
            self._answers = self._read()
            next(self._answers)  # the greeting
            self._ask("qmp_capabilities")
            self.threads = [cpu["thread-id"] for cpu in self._ask("query-cpus-fast")]
            self._settle()
            stack.pop_all()
        files.close()

    def go(self) -> None:
        """Let its guest run."""
        self._ask("cont")

    def _settle(self) -> None:
        """Wait until QEMU has freed what its start left to its RCU thread.

        Freeing a region empties the ring, and beside a running guest the ring would be emptied
        between two exits. device_add waits for that thread, also for a device that there is not.
        """
        self._send("device_add", driver="none")
        next(answer for answer in self._answers if "error" in answer)

    @property
    def runs(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process.poll() is None

    def complaint(self) -> str:
        """The text that QEMU gives for its end."""
        assert self._process.stderr is not None
        self._process.kill()
        lines = self._process.stderr.read().decode(errors="replace").splitlines()
        errors = [line for line in lines if "warning" not in line]
        said = errors[-1] if errors else f"it ended with status {self._process.wait()}"
        return f"--against qemu: {said}"

    def _send(self, command: str, **arguments: str) -> None:
        assert self._process.stdin is not None
        asked = {"execute": command, "arguments": arguments}
        try:
            self._process.stdin.write(json.dumps(asked).encode())
        except BrokenPipeError:
            raise BadInput(self.complaint()) from None

    def _ask(self, command: str) -> Any:
        self._send(command)
        return next(answer["return"] for answer in self._answers if "return" in answer)

    def _read(self) -> Iterator[dict[str, Any]]:
        assert self._process.stdout is not None
        rest = b""
        while part := self._process.stdout.read(1 << 16):
            *lines, rest = (rest + part).split(b"\n")
            yield from map(json.loads, lines)
        raise BadInput(self.complaint())

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

"""The C11 extensions and their limited API; everything else is in pyproject.toml."""

import os
import runpy
from pathlib import Path

from setuptools import Extension, setup

SOURCES = Path("src/coalesced")
CORE = SOURCES / "hv" / "core"
CORES = SOURCES / "tools" / "stress" / "cores"
BROKEN = SOURCES / "tools" / "rings" / "broken"
WARNINGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]


def files(folder: Path, pattern: str) -> list[str]:
    return [str(path) for path in sorted(folder.glob(pattern))]


def extension(name: str, sources: list[str], depends: list[str]) -> Extension:
    """An extension for the limited API, which may include the headers of the core."""
    return Extension(
        f"coalesced.{name}",
        sources=sources,
        depends=depends,
        include_dirs=[str(CORE), str(CORES), str(BROKEN)],
        define_macros=[("Py_LIMITED_API", "0x030B0000")],
        extra_compile_args=WARNINGS,
        # By it auditwheel knows the C library of an extension that calls nothing in it.
        extra_link_args=["-Wl,--no-as-needed", "-lc"],
        py_limited_api=True,
    )


def of_folder(name: str, folder: Path) -> Extension:
    """An extension made of every C file of a folder."""
    return extension(name, files(folder, "*.c"), files(folder, "*.h") + files(CORE, "*.h"))


def core_source(module: str, macros: dict[str, str]) -> str:
    """The C file of a broken core: its own, or one in build/ that defines its macros."""
    if not macros:
        return str(CORES / f"{module}.c")
    lines = [f"#define {name} {value}\n" for name, value in {**macros, "VARIANT": module}.items()]
    path = Path("build", "cores", f"{module}.c")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join([*lines, '#include "whole.h"\n']))
    return str(path)


def variant(module: str, source: str) -> Extension:
    """A core that replaces the real one under `coalesced stress`."""
    depends = [*files(CORES, "*.h"), *files(BROKEN, "*.h"), *files(CORE, "*.[ch]")]
    return extension(f"tools.stress.cores.{module}", [source], depends)


broken = runpy.run_path(str(CORES / "broken.py"))
setup(
    options={
        "build_ext": {"parallel": str(os.cpu_count() or 1)},
        "bdist_wheel": {"py_limited_api": "cp311"},
    },
    ext_modules=[
        of_folder("hv.core", CORE),
        of_folder("vmm.exits", SOURCES / "vmm"),
        of_folder("devices.cirrus.engine", SOURCES / "devices" / "cirrus"),
        of_folder("devices.vga.planes", SOURCES / "devices" / "vga"),
        of_folder("tools.bench.floors", SOURCES / "tools" / "bench"),
        of_folder("tools.rings.drive", SOURCES / "tools" / "rings"),
        of_folder("tools.traces.scan", SOURCES / "tools" / "traces"),
        of_folder("tools.advise.passes", SOURCES / "tools" / "advise" / "passes"),
        variant("injected", str(CORES / "injected.c")),
        *(
            variant(module, core_source(module, macros))
            for module, macros in broken["modules"]().items()
        ),
    ],
)

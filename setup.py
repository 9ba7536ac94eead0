"""The C11 extensions; everything else stands in pyproject.toml."""

import os
from pathlib import Path

from setuptools import Extension, setup

WARNINGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]
LIMITED_API: list[tuple[str, str | None]] = [("Py_LIMITED_API", "0x030B0000")]
CORE = [str(path) for path in sorted(Path("hv/core").glob("*.[ch]"))]
# What `coalesced stress` loads in place of hv.core: one thing wrong, or with injection points.
VARIANTS = [
    "acquire_first",
    "acquire_last",
    "double_read",
    "full_check_2009",
    "injected",
    "release_first",
    "release_last",
    "wakeup_fence",
]

setup(
    options={"build_ext": {"parallel": str(os.cpu_count() or 1)}},
    ext_modules=[
        Extension(
            "hv.core",
            sources=[
                "hv/core/module.c",
                "hv/core/exit_page.c",
                "hv/core/kvm.c",
                "hv/core/mapping.c",
                "hv/core/ringtypes.c",
                "hv/core/support.c",
                "hv/core/vcpu.c",
                "hv/core/vcpu_bulk.c",
                "hv/core/vcpu_bus.c",
                "hv/core/vcpu_exit.c",
                "hv/core/vmm.c",
                "hv/core/wait.c",
                "hv/core/waits.c",
            ],
            depends=["hv/core/ring.h", "hv/core/exit.h", "hv/core/core.h", "hv/core/vcpu.h"],
            define_macros=LIMITED_API,
            extra_compile_args=WARNINGS,
            py_limited_api=True,
        ),
        Extension(
            "devices.cirrus.engine",
            sources=[
                "devices/cirrus/engine.c",
                "devices/cirrus/copying.c",
                "devices/cirrus/drawing.c",
            ],
            depends=["devices/cirrus/engine.h"],
            define_macros=LIMITED_API,
            extra_compile_args=WARNINGS,
            py_limited_api=True,
        ),
        Extension(
            "tools.bench.floors",
            sources=[
                "tools/bench/floors.c",
                "tools/bench/floor_kvm.c",
                "tools/bench/floor_pingpong.c",
                "tools/bench/floor_ring.c",
            ],
            depends=[
                "hv/core/core.h",
                "hv/core/exit.h",
                "hv/core/ring.h",
                "tools/bench/floor_kvm.h",
                "tools/bench/floors.h",
            ],
            include_dirs=["hv/core"],
            define_macros=LIMITED_API,
            extra_compile_args=WARNINGS,
            libraries=["pthread"],
            py_limited_api=True,
        ),
        *(
            Extension(
                f"tools.stress.cores.{variant}",
                sources=[f"tools/stress/cores/{variant}.c"],
                depends=["tools/stress/cores/whole.h", *CORE],
                include_dirs=["hv/core"],
                define_macros=LIMITED_API,
                extra_compile_args=WARNINGS,
                py_limited_api=True,
            )
            for variant in VARIANTS
        ),
    ],
)

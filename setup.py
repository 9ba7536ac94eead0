"""The C11 extensions; everything else stands in pyproject.toml."""

from setuptools import Extension, setup

WARNINGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]
LIMITED_API: list[tuple[str, str | None]] = [("Py_LIMITED_API", "0x030B0000")]

setup(
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
            ],
            depends=["hv/core/ring.h", "hv/core/exit.h", "hv/core/core.h", "hv/core/vcpu.h"],
            define_macros=LIMITED_API,
            extra_compile_args=WARNINGS,
            py_limited_api=True,
        ),
        Extension(
            "tools.bench.floors",
            sources=["tools/bench/floors.c", "tools/bench/floor_kvm.c"],
            depends=["hv/core/ring.h", "hv/core/core.h", "tools/bench/floor_kvm.h"],
            include_dirs=["hv/core"],
            define_macros=LIMITED_API,
            extra_compile_args=WARNINGS,
            libraries=["pthread"],
            py_limited_api=True,
        ),
    ]
)

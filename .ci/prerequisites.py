"""Say in one line which package the build lacks; exit status 1 when it lacks one.

Runs with any Python 3, so that an old one is named instead of failing on newer syntax.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig

OLDEST = (3, 11)


def finds_header(compiler, header):
    """True if the C preprocessor finds a header."""
    program = subprocess.Popen(
        compiler + ["-E", "-x", "c", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    program.communicate("#include <{}>\n".format(header).encode())
    return program.returncode == 0


def missing():
    """Pairs of what is missing and the Debian package that brings it."""
    if sys.version_info < OLDEST:
        found = ".".join(str(number) for number in sys.version_info[:3])
        yield "Python {}.{} or newer (this is {})".format(*OLDEST, found), "python3"
        return
    # Debian splits venv: the module is always there, ensurepip comes with the package.
    if any(importlib.util.find_spec(name) is None for name in ("venv", "ensurepip")):
        yield "the module ensurepip", "python3-venv"
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        yield "Python.h", "python3-dev"
    compiler = os.environ.get("CC", "gcc").split()
    if not shutil.which(compiler[0]):
        yield "the C compiler " + compiler[0], "gcc"
    elif not finds_header(compiler, "stdio.h"):
        yield "the C library's headers", "libc6-dev"


lacking = list(missing())
if lacking:
    things = ", ".join(thing for thing, _ in lacking)
    packages = " ".join(package for _, package in lacking)
    sys.exit("missing: {} (on Debian: apt install {})".format(things, packages))

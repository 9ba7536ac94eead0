"""The broken cores by name. setup.py builds them from this list, without importing the package.

The names are those of the barriers of `coalesced litmus`. BROKEN_RING is a header of
tools/rings/broken. A core without macros has a C file of its own, named after it.
"""

BROKEN: dict[str, dict[str, str]] = {
    "release-last": {"ORDER_RELEASE_LAST": "memory_order_relaxed"},
    "acquire-last": {"ORDER_ACQUIRE_LAST": "memory_order_relaxed"},
    "release-first": {"ORDER_RELEASE_FIRST": "memory_order_relaxed"},
    "acquire-first": {"ORDER_ACQUIRE_FIRST": "memory_order_relaxed"},
    "wakeup-fence": {},
    "full-check-2009": {"BROKEN_RING": '"full_check_2009.h"'},
    "double-read": {"BROKEN_RING": '"double_read.h"'},
}


def module_of(name: str) -> str:
    """The name of a core's extension module."""
    return name.replace("-", "_")


def modules() -> dict[str, dict[str, str]]:
    """The macros of each core by the name of its module."""
    return {module_of(name): macros for name, macros in BROKEN.items()}

"""Common set-up: hypothesis times no test, and each begins with the same process state."""

import gc
import os
import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

from helpers import warm, warm_guest

settings.register_profile(
    "untimed", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")

# A shell starts what runs in the background with SIGINT ignored, nohup with SIGHUP, and processes
# inherit that. With a handler here, each child begins with the default action.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for _ignored in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # Python's own choice
    if signal.getsignal(_ignored) is signal.SIG_IGN:
        signal.signal(_ignored, lambda *_: None)
signal.pthread_sigmask(signal.SIG_SETMASK, [])

_MASK = signal.pthread_sigmask(signal.SIG_BLOCK, [])
_HANDLERS = {
    number: handler
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    if (handler := signal.getsignal(number)) is not None  # else it is not Python's
}
_EXECUTABLE = sys.executable
_CPUS = os.sched_getaffinity(0)
_MAIN = getattr(sys.modules["__main__"], "__file__", None)


def pytest_collection_finish() -> None:
    """Let the collector of garbage pass over thousands of tests, which stay; and guest processes
    be forks, unless a test has changed what they are started with."""
    gc.collect()
    gc.freeze()
    warm_guest.install(lambda: warm.can_start() and sys.executable == _EXECUTABLE)


@pytest.hookimpl(trylast=True)  # fixtures have ended the processes that use the tracker
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Leave no child behind the tests of a file."""
    module = sys.modules.get("multiprocessing.resource_tracker")
    if module is not None and (nextitem is None or nextitem.path != item.path):
        module._resource_tracker._stop()


def pytest_runtest_setup() -> None:
    """Undo what an earlier test left to this process, and so to all that it starts.

    A guest that is loaded here becomes the main module of processes that multiprocessing starts.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, _MASK)
    for number, handler in _HANDLERS.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
    if os.sched_getaffinity(0) != _CPUS:
        os.sched_setaffinity(0, _CPUS)
    main = sys.modules["__main__"]
    if getattr(main, "__file__", None) != _MAIN:
        if _MAIN is None:
            del main.__file__
        else:
            main.__file__ = _MAIN

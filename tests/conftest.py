"""How tests run here: hypothesis times no test, and Ctrl-C reaches what they start."""

import signal

from hypothesis import HealthCheck, settings

settings.register_profile(
    "untimed", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")

# A shell starts what runs in the background with SIGINT ignored, and processes inherit that. With
# a handler here, each child begins with the default action.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])

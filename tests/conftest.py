"""How hypothesis runs here: no test is timed, and a failing example says how to see it again."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "untimed", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")

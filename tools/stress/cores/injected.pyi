"""hv.core with injection points; the rest is as in hv.core."""

def arm(point: str, passes: int, /) -> None:
    """Kill this process with SIGKILL at a point, after `passes` passes there.

    `before_last`: entries written, not yet shown; `before_first`: entries dispatched, their slots
    not yet given back; `before_exit`: an exit written, not yet told; `before_resume`: an exit
    handled, the guest not yet resumed; `nowhere`. Raises ValueError for another point.
    """

"""hv.core with injection points; the rest is as in hv.core."""

def arm(point: str, passes: int, signal: int = ..., /) -> None:
    """Send this process a signal, SIGKILL by default, at a point, after `passes` passes there.

    `before_last`: entries written, not yet published; `before_first`: entries dispatched, their
    slots not yet given back; `before_exit`: an exit written, not yet announced; `before_resume`: an
    exit handled, the guest not yet resumed; `between_parts`: the first part of a store over a page
    boundary queued, stored or to exit, the second not yet tried; `before_posted`: the entry of a
    posted write published, the VMM not yet woken; `nowhere`. Raises ValueError for another point.
    """

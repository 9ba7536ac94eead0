"""Ctrl-C behind an error. Imports nothing: the program may be interrupted while it is loaded."""


def interrupted(error: BaseException | None) -> KeyboardInterrupt | None:
    """The KeyboardInterrupt behind an error: Python wraps what a class body raises."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error

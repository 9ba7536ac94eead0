"""What the command line answers with exit status 2."""


class BadInput(Exception):
    """The user gave what cannot be used; the text is one line that says what and why."""

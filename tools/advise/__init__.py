"""From a recording: the writes that may wait in a ring, those that must not, and what is saved."""

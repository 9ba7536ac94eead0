"""Small rings, exits and wake-ups, explored to the end under memory models."""

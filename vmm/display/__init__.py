"""What a machine shows."""

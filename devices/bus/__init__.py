"""What chips hang on: regions, address spaces, interrupt lines."""

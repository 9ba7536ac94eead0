"""Buses: regions, address spaces, interrupt lines."""

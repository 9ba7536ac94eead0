"""Synthetic guests: plain functions over a `Vcpu`."""

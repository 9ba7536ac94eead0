"""The buses that chips are attached to: regions, address spaces, PCI, interrupt lines."""

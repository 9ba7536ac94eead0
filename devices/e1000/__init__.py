"""Intel's 82540EM, QEMU's `e1000`: a PCI network card with descriptor rings in guest memory."""

from coalesced.devices.e1000.card import E1000

__all__ = ["E1000"]

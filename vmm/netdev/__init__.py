"""Network back ends: where the frames of a card go, and come from. QEMU's -netdev."""

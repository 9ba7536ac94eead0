"""The kernel's part: ring, zones, exits, the guest process. Knows no device."""

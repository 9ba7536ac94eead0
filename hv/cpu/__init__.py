"""Machine code in the guest process."""

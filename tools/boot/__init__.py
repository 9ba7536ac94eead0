"""Machine code as the guest: images, firmware, and when it is done."""

"""The commands of `coalesced`, one file each."""

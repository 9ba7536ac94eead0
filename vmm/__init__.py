"""QEMU's part: joins devices and an accelerator to a machine."""

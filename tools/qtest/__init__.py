"""QEMU's qtest protocol."""

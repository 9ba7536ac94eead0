"""Coalesced I/O as Linux KVM and QEMU do it: hv, devices, vmm and tools."""

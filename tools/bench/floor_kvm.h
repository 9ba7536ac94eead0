#ifndef COALESCED_FLOOR_KVM_H
#define COALESCED_FLOOR_KVM_H

#include <stddef.h>

/*
 * Run a vCPU of KVM to its halt, `size` bytes of whose descriptor hold kvm_run, and the ring's page
 * at `ring_offset`. ns, or -1 with errno set; EPROTO: an exit that is neither an access nor a halt.
 */
double floor_kvm(int fd, size_t size, size_t ring_offset);

#endif

/* Guest RAM: where an address lies in it, and accesses that devices of the VMM see in order. */
#ifndef COALESCED_RAM_H
#define COALESCED_RAM_H

#include "vcpu.h"

#include <string.h>

/* The memory at an address, or NULL; for a write, ROM is none. */
static inline uint8_t *ram_find(VcpuObject *v, uint64_t address, uint64_t *left, bool write)
{
    for (int i = 0; i < v->ram_count; i++) {
        uint64_t offset = address - v->ram[i].start;
        if (offset < v->ram[i].size) {
            *left = v->ram[i].size - offset;
            return write && v->ram[i].readonly ? NULL : v->ram[i].host + offset;
        }
    }
    return NULL;
}

/*
 * RAM is shared with the devices of the VMM. Acquire on loads pairs with the release of a device
 * that writes a descriptor's status behind its data; release on stores is the same the other way.
 */
static inline uint64_t ram_load(const uint8_t *host, uint32_t size)
{
    uint64_t value = 0;
    if ((uintptr_t)host % size == 0)
        switch (size) {
        case 1:
            return __atomic_load_n(host, __ATOMIC_ACQUIRE);
        case 2:
            return __atomic_load_n((const uint16_t *)(const void *)host, __ATOMIC_ACQUIRE);
        case 4:
            return __atomic_load_n((const uint32_t *)(const void *)host, __ATOMIC_ACQUIRE);
        case 8:
            return __atomic_load_n((const uint64_t *)(const void *)host, __ATOMIC_ACQUIRE);
        }
    memcpy(&value, host, size);
    atomic_thread_fence(memory_order_acquire);
    return value;
}

static inline void ram_store(uint8_t *host, uint32_t size, uint64_t value)
{
    if ((uintptr_t)host % size == 0)
        switch (size) {
        case 1:
            __atomic_store_n(host, (uint8_t)value, __ATOMIC_RELEASE);
            return;
        case 2:
            __atomic_store_n((uint16_t *)(void *)host, (uint16_t)value, __ATOMIC_RELEASE);
            return;
        case 4:
            __atomic_store_n((uint32_t *)(void *)host, (uint32_t)value, __ATOMIC_RELEASE);
            return;
        case 8:
            __atomic_store_n((uint64_t *)(void *)host, value, __ATOMIC_RELEASE);
            return;
        }
    atomic_thread_fence(memory_order_release);
    memcpy(host, &value, size);
}

#endif

/*
 * hv/core/exit.h: exits and their answers, an entry in the ring before each. The VMM must see the
 * whole payload and the entry, the guest this round's result; a result lies where the data of a
 * store lies, as in kvm_run. Payload and result are plain accesses in the product, relaxed here.
 */
#include "litmus.h"
#include "pipes.h"
#include "exit.h"
#include "ring.h"

#ifndef ROUNDS
#define ROUNDS 2
#endif

static struct run_words words;
static _Atomic uint64_t address, data;
static union {
    struct coalesced_ring ring;
    uint64_t room[1 + 3 * (ROUNDS + 1)];
} shared;

void thread0(void)
{
    struct ring_producer producer;
    check(ring_producer_init(&producer, &shared.ring, sizeof shared) == RING_OK);
    for (uint32_t n = 1; n <= ROUNDS; n++) {
        check(ring_append(&producer, n << 12, 4, 0, n) == RING_OK);
        ring_publish(&producer);
        atomic_store_explicit(&address, n, memory_order_relaxed);
        atomic_store_explicit(&data, n, memory_order_relaxed);
        exit_post(&words, n);
        await(resume_take(&words) == n);
        uint64_t result = atomic_load_explicit(&data, memory_order_relaxed);
        check(result == n + 8);
    }
}

void thread1(void)
{
    struct ring_consumer consumer;
    struct coalesced_entry entry;
    uint32_t count;
    check(ring_consumer_init(&consumer, &shared.ring, sizeof shared) == RING_OK);
    for (uint32_t n = 1; n <= ROUNDS; n++) {
        await(exit_take(&words) == n);
        check(ring_peek(&consumer, &entry, 1, &count) == RING_OK && count == 1);
        check(entry.data == n);
        ring_commit(&consumer, 1);
        uint64_t where = atomic_load_explicit(&address, memory_order_relaxed);
        uint64_t stored = atomic_load_explicit(&data, memory_order_relaxed);
        atomic_store_explicit(&data, n + 8, memory_order_relaxed);
        resume_post(&words, n);
        check(where == n && stored == n);
    }
}

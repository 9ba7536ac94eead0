/*
 * hv/core/ring.h: a producer that appends ENTRIES entries to a ring of SLOTS slots and publishes each
 * at once, or each second time, and a consumer that takes batches as they come. The ring starts empty, at slot START.
 */
#include "litmus.h"

#ifdef BROKEN_RING /* a header of tools/rings/broken */
#include BROKEN_RING
#endif
#include "ring.h"

#ifndef SLOTS
#define SLOTS 3
#endif
#ifndef ENTRIES
#define ENTRIES 4
#endif
#ifndef BATCH
#define BATCH 2
#endif
#ifndef START
#define START 0
#endif

static union {
    struct coalesced_ring ring;
    uint64_t room[1 + 3 * SLOTS];
} shared;

void begin(void)
{
    atomic_store_explicit(&shared.ring.first, START, memory_order_relaxed);
    atomic_store_explicit(&shared.ring.last, START, memory_order_relaxed);
}

void thread0(void)
{
    struct ring_producer producer;
    enum ring_status status;
    check(ring_producer_init(&producer, &shared.ring, sizeof shared) == RING_OK);
    uint32_t batch = 1 + choose(BATCH);
    for (uint32_t n = 1; n <= ENTRIES; n++) {
        if ((producer.next + 1) % SLOTS == producer.first)
            ring_publish(&producer); /* before it may wait */
        await((status = ring_append(&producer, n << 12, 4, 0, n)) != RING_FULL);
        check(status == RING_OK);
        if (n % batch == 0)
            ring_publish(&producer);
    }
    ring_publish(&producer);
}

void thread1(void)
{
    struct ring_consumer consumer;
    struct coalesced_entry batch[SLOTS];
    uint32_t taken = 0, count;
    check(ring_consumer_init(&consumer, &shared.ring, sizeof shared) == RING_OK);
    while (taken < ENTRIES) {
        enum ring_status status;
        await((status = ring_peek(&consumer, batch, SLOTS, &count)) != RING_OK || count);
        check(status == RING_OK);
        ring_commit(&consumer, count);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t n = ++taken;
            check(batch[i].phys_addr == n << 12 && batch[i].len == 4);
            check(batch[i].data == n);
        }
    }
}

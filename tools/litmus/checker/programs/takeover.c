/*
 * hv/core/shared_ring.h: a consumer takes the entry of a ring and closes its end, and another one
 * takes its place. It must not get that entry a second time.
 */
#include "litmus.h"

#include "sockets.h"
#include "shared_ring.h"

#define TAKEOVER_BYTES (8 + 24 * 2)

static union {
    struct shared_ring shared;
    uint64_t room[(SHARED_RING_OFFSET + TAKEOVER_BYTES) / 8];
} memory;

static uint32_t taken(struct shared_ring_end *end)
{
    struct ring_consumer consumer;
    struct coalesced_entry batch[2];
    uint32_t count;
    check(shared_ring_join(end, &memory.shared, false, 1));
    check(ring_consumer_init(&consumer, shared_ring_ring(&memory.shared), TAKEOVER_BYTES) ==
          RING_OK);
    check(ring_peek(&consumer, batch, 2, &count) == RING_OK);
    ring_commit(&consumer, count);
    return count;
}

void begin(void)
{
    struct ring_producer producer;
    shared_ring_init(&memory.shared, sizeof memory);
    check(ring_producer_init(&producer, shared_ring_ring(&memory.shared), TAKEOVER_BYTES) ==
          RING_OK);
    check(ring_append(&producer, 1 << 12, 4, 0, 1) == RING_OK);
    ring_publish(&producer);
}

void thread0(void)
{
    struct shared_ring_end end;
    check(taken(&end) == 1);
    shared_ring_leave(&end);
}

void thread1(void)
{
    struct shared_ring_end end;
    await(atomic_load_explicit(&memory.shared.consumer.owner, memory_order_relaxed) &
          SHARED_RING_CLOSED);
    check(taken(&end) == 0);
}

/*
 * hv/core/shared_ring.h: a producer that publishes entries, wakes a consumer that may sleep, and
 * closes its end. The two may start in any order. The consumer must get every entry before it is
 * told that the other side has ended, and it must not sleep forever.
 */
#include "litmus.h"

#include "sockets.h"
#include "shared_ring.h"

#ifndef ROUNDS
#define ROUNDS 1
#endif
#define SHARED_SLOTS (ROUNDS + 1)
#define SHARED_BYTES (8 + 24 * SHARED_SLOTS)

static union {
    struct shared_ring shared;
    uint64_t room[(SHARED_RING_OFFSET + SHARED_BYTES) / 8];
} memory;

void begin(void)
{
    shared_ring_init(&memory.shared, sizeof memory);
}

void thread0(void)
{
    struct shared_ring_end end;
    struct ring_producer producer;
    check(shared_ring_join(&end, &memory.shared, true, 0));
    check(ring_producer_init(&producer, shared_ring_ring(&memory.shared), SHARED_BYTES) == RING_OK);
    for (uint32_t n = 1; n <= ROUNDS; n++) {
        check(ring_append(&producer, n << 12, 4, 0, n) == RING_OK);
        ring_publish(&producer);
        if (n < ROUNDS)
            doorbell_signal(&end.bell);
    }
    if (choose(2))
        doorbell_signal(&end.bell);
    else
        shared_ring_leave(&end); /* which wakes the consumer, too */
}

void thread1(void)
{
    struct shared_ring_end end;
    struct ring_consumer consumer;
    struct coalesced_entry batch[SHARED_SLOTS];
    uint32_t taken = 0, count;
    check(shared_ring_join(&end, &memory.shared, false, 1));
    check(ring_consumer_init(&consumer, shared_ring_ring(&memory.shared), SHARED_BYTES) == RING_OK);
    while (taken < ROUNDS) {
        check(shared_ring_sleep(&end, &consumer, NULL, UINT64_MAX) == SHARED_RING_READY);
        check(ring_peek(&consumer, batch, SHARED_SLOTS, &count) == RING_OK);
        ring_commit(&consumer, count);
        for (uint32_t i = 0; i < count; i++)
            check(batch[i].data == ++taken);
    }
}

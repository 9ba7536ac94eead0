/*
 * hv/core/ring.h against a peer that writes garbage while either side runs: a producer whose peer
 * changes both indices, and a consumer whose peer changes `last` and an entry. Neither may touch
 * what lies behind the ring's last slot, or hand on an entry that breaks the rules.
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
#define ENTRIES 2
#endif
#define BYTES (8 + 24 * SLOTS)

/* One slot more than the ring has. */
static union {
    struct coalesced_ring ring;
    uint64_t room[1 + 3 * (SLOTS + 1)];
} produced, consumed;

static void write_entry(struct coalesced_slot *slot, uint64_t len)
{
    atomic_store_explicit(&slot->word[0], 4096, memory_order_relaxed);
    atomic_store_explicit(&slot->word[1], len, memory_order_relaxed);
}

void begin(void)
{
    write_entry(&consumed.ring.slot[SLOTS], 7); /* no entry in the ring has this len */
}

void thread0(void)
{
    struct ring_producer producer;
    if (ring_producer_init(&producer, &produced.ring, BYTES) != RING_OK)
        return;
    for (uint32_t n = 1; n <= ENTRIES; n++) {
        if (ring_append(&producer, n << 12, 4, 0, n) != RING_OK)
            return;
        ring_publish(&producer);
    }
}

void thread1(void)
{
    atomic_store_explicit(&produced.ring.last, SLOTS, memory_order_relaxed);
    atomic_store_explicit(&produced.ring.last, 0, memory_order_relaxed);
    atomic_store_explicit(&produced.ring.first, SLOTS, memory_order_relaxed);
    write_entry(&consumed.ring.slot[0], 4);
    atomic_store_explicit(&consumed.ring.last, 1, memory_order_relaxed);
    atomic_store_explicit(&consumed.ring.slot[0].word[1], 9, memory_order_relaxed);
    atomic_store_explicit(&consumed.ring.last, SLOTS, memory_order_relaxed);
}

void thread2(void)
{
    struct ring_consumer consumer;
    struct coalesced_entry batch[SLOTS + 1];
    uint32_t count;
    check(ring_consumer_init(&consumer, &consumed.ring, BYTES) == RING_OK);
    if (ring_peek(&consumer, batch, SLOTS + 1, &count) != RING_OK)
        return;
    for (uint32_t i = 0; i < count; i++)
        check(batch[i].len == 4);
    ring_commit(&consumer, count);
}

void finish(void)
{
    for (int i = 0; i < 3; i++)
        check(atomic_load(&produced.ring.slot[SLOTS].word[i]) == 0);
}

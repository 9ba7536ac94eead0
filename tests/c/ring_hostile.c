/*
 * A peer that writes anything into the ring at any time: nothing outside it is ever touched.
 *
 *     ring_hostile SEED ROUNDS
 *
 * The ring lies in memory of exactly its size, so that ASan sees an access past it, and UBSan a
 * shift or an overflow by a value that was not checked. Every entry that a peek gives obeys the
 * rules, whatever stands in the ring.
 */
#define _GNU_SOURCE
#include "ring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Mostly values at some edge. */
static uint32_t nasty(uint32_t slots)
{
    switch (next() % 6) {
    case 0:
        return slots - 1;
    case 1:
        return slots;
    case 2:
        return UINT32_MAX;
    case 3:
        return (uint32_t)next();
    default:
        return (uint32_t)(next() % slots);
    }
}

static void one_round(void)
{
    uint32_t slots = 2 + (uint32_t)(next() % 9);
    size_t bytes = sizeof(struct coalesced_ring) + slots * sizeof(struct coalesced_slot);
    struct coalesced_ring *ring = aligned_alloc(8, bytes);
    struct coalesced_entry out[16];
    struct ring_producer p;
    struct ring_consumer c;
    memset(ring, 0, bytes);
    if (next() % 4 == 0) {
        atomic_store(&ring->first, nasty(slots));
        atomic_store(&ring->last, nasty(slots));
    }
    int producer = ring_producer_init(&p, ring, bytes) == RING_OK;
    int consumer = ring_consumer_init(&c, ring, bytes) == RING_OK;
    for (int step = 0; step < 40; step++) {
        uint32_t count;
        switch (next() % 6) {
        case 0:
            atomic_store(&ring->first, nasty(slots));
            break;
        case 1:
            atomic_store(&ring->last, nasty(slots));
            break;
        case 2:
            atomic_store(&ring->slot[next() % slots].word[next() % 3],
                         next() % 2 ? next() : next() % 10);
            break;
        case 3:
            if (producer && ring_append(&p, next(), 1 + next() % 8, next() % 2, next()) < 0)
                producer = 0;
            break;
        case 4:
            if (producer)
                ring_publish(&p);
            break;
        default:
            if (!consumer || ring_peek(&c, out, (uint32_t)(next() % 17), &count) != RING_OK)
                break;
            if (count >= slots)
                abort();
            for (uint32_t i = 0; i < count; i++) {
                uint64_t bad;
                if (ring_check_entry(&out[i], &bad) != RING_OK ||
                    (out[i].len < 8 && out[i].data >> (8 * out[i].len)))
                    abort();
            }
            ring_commit(&c, (uint32_t)(next() % (count + 1)));
        }
    }
    free(ring);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    state = strtoull(argv[1], NULL, 0) | 1;
    for (unsigned long n = strtoul(argv[2], NULL, 0); n > 0; n--)
        one_round();
    return 0;
}

/*
 * hv/core/posted.h: a guest that posts writes, each of which it queues in the ring first, and a VMM
 * that may sleep until one is announced. What is announced it finds in the ring.
 */
#include "litmus.h"

#include "doorbells.h"
#include "ring.h"
#include "posted.h"

#ifndef ROUNDS
#define ROUNDS 2
#endif
#define POSTED_SLOTS (ROUNDS + 1)

static union {
    struct coalesced_ring ring;
    uint64_t room[1 + 3 * POSTED_SLOTS];
} shared;
static struct run_words words;

void thread0(void)
{
    struct doorbell b = doorbell(&words.hv_need_wakeup, &words.vmm_need_wakeup, 1, 0);
    struct ring_producer producer;
    check(ring_producer_init(&producer, &shared.ring, sizeof shared) == RING_OK);
    for (uint32_t n = 1; n <= ROUNDS; n++) {
        check(ring_append(&producer, n << 12, 4, 0, n) == RING_OK);
        ring_publish(&producer);
        posted_announce(&words, &b, n);
    }
}

static bool announced(void *seen)
{
    return posted_since(&words, *(uint32_t *)seen);
}

void thread1(void)
{
    struct doorbell b = doorbell(&words.vmm_need_wakeup, &words.hv_need_wakeup, 0, 1);
    struct ring_consumer consumer;
    struct coalesced_entry batch[POSTED_SLOTS];
    uint32_t seen = 0, taken = 0, count;
    check(ring_consumer_init(&consumer, &shared.ring, sizeof shared) == RING_OK);
    while (seen < ROUNDS) {
        while (!announced(&seen))
            if (doorbell_may_sleep(&b, announced, &seen)) {
                doorbell_sleep(&b, UINT64_MAX);
                doorbell_disarm(&b);
            }
        seen = posted_take(&words);
        check(ring_peek(&consumer, batch, POSTED_SLOTS, &count) == RING_OK);
        ring_commit(&consumer, count);
        for (uint32_t i = 0; i < count; i++)
            check(batch[i].data == ++taken);
        check(taken >= seen);
    }
}

/*
 * hv/core/own_ring.h: a guest that appends to a ring of a device's own, and a VMM that sleeps until
 * the ring's descriptor is readable. WAKE_AT is 1: with more, the last entries would not make it
 * readable and would wait for another drain.
 */
#include "litmus.h"

/* Without the fence of one thread only. */
#ifdef ANNOUNCE_FENCE
#define FENCE_OWN_RING (litmus_thread() ? memory_order_seq_cst : ANNOUNCE_FENCE)
#elif defined ANSWER_FENCE
#define FENCE_OWN_RING (litmus_thread() ? ANSWER_FENCE : memory_order_seq_cst)
#endif

#include "pipes.h"
#include "own_ring.h"

#ifndef ROUNDS
#define ROUNDS 3
#endif
#define OWN_SLOTS (ROUNDS + 1)
#define DESCRIPTOR 0
#define WAKE_AT 1

static union {
    struct coalesced_ring ring;
    uint64_t room[1 + 3 * OWN_SLOTS];
} shared;
static struct own_ring_words words;

void thread0(void)
{
    struct ring_producer producer;
    check(ring_producer_init(&producer, &shared.ring, sizeof shared) == RING_OK);
    for (uint32_t n = 1; n <= ROUNDS; n++) {
        check(ring_append(&producer, n << 12, 4, 0, n) == RING_OK);
        ring_publish(&producer);
        if (own_ring_announce(&words, &producer, WAKE_AT))
            write(DESCRIPTOR, "", 1);
    }
}

void thread1(void)
{
    struct ring_consumer consumer;
    struct coalesced_entry batch[OWN_SLOTS];
    uint32_t taken = 0, count;
    check(ring_consumer_init(&consumer, &shared.ring, sizeof shared) == RING_OK);
    while (taken < ROUNDS) {
        struct pollfd descriptor = {.fd = DESCRIPTOR, .events = POLLIN};
        ppoll(&descriptor, 1, NULL, NULL);
        read(DESCRIPTOR, &(char){0}, 1);
        own_ring_answer(&words);
        check(ring_peek(&consumer, batch, OWN_SLOTS, &count) == RING_OK);
        ring_commit(&consumer, count);
        for (uint32_t i = 0; i < count; i++)
            check(batch[i].data == ++taken);
    }
}

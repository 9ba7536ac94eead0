/*
 * S2 and W2 without their fence: either side may miss what the other has just stored.
 *
 * So that it shows: a sleep here does not look up ten times a second, and spins have any length, so
 * that many end just when the peer has something to tell.
 */
#define _GNU_SOURCE
#define FENCE_WAKEUP memory_order_relaxed
#define LONGEST_SLEEP_NS (UINT64_C(1) << 60)
#define doorbell_tune doorbell_tune_of_today
#include "exit.h"
#undef doorbell_tune

#define LONGEST_SPIN_NS 30000u

static inline void doorbell_tune(struct doorbell *b, uint64_t waited)
{
    (void)waited;
    b->spin_ns = now_ns() * UINT64_C(0x9e3779b97f4a7c15) % LONGEST_SPIN_NS;
}

#define VARIANT wakeup_fence
#include "whole.h"

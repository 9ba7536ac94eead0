/*
 * hv/core/exit.h: a guest that posts exits and wakes a VMM that may sleep, with `--wait adaptive`.
 * No sleep ends by itself here: the timeouts of the product would hide a wake-up that is lost.
 */
#include "litmus.h"

/* Without the fence of one thread only. */
#ifdef WAKER_FENCE
#define FENCE_WAKEUP (litmus_thread() ? memory_order_seq_cst : WAKER_FENCE)
#elif defined SLEEPER_FENCE
#define FENCE_WAKEUP (litmus_thread() ? SLEEPER_FENCE : memory_order_seq_cst)
#endif

#include "doorbells.h"

#ifndef ROUNDS
#define ROUNDS 2
#endif

static struct run_words words;

void thread0(void)
{
    struct doorbell b = doorbell(&words.hv_need_wakeup, &words.vmm_need_wakeup, 1, 0);
    for (uint32_t n = 1; n <= ROUNDS; n++) {
        exit_post(&words, n);
        doorbell_signal(&b);
    }
}

static bool posted(void *n)
{
    return exit_take(&words) >= *(uint32_t *)n;
}

void thread1(void)
{
    struct doorbell b = doorbell(&words.vmm_need_wakeup, &words.hv_need_wakeup, 0, 1);
    for (uint32_t n = 1; n <= ROUNDS; n++)
        while (!posted(&n))
            if (doorbell_may_sleep(&b, posted, &n)) {
                doorbell_sleep(&b, UINT64_MAX);
                doorbell_disarm(&b);
            }
}

/*
 * Two threads, one of which posts: the other sees what was posted, and no wake-up is lost.
 *
 *     posted_doorbell POLICY ROUNDS [SPIN_NS]
 *
 * The guest posts and polls for the VMM's answer, so that each round races its look at need-wakeup
 * against the VMM's announcement of a sleep. With SPIN_NS the VMM spins for that long before it
 * sleeps; 0 makes every wait a sleep.
 */
#define _GNU_SOURCE
#include "posted.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define PATIENCE UINT64_C(3000000000) /* ns of a sleep after which nobody wakes the sleeper */

static struct run_words words;
static uint64_t payload; /* plain memory: the sequence orders it */
static uint32_t rounds;
static uint64_t spin = SPIN_LEAST_NS;
static struct doorbell guest, vmm;

static void *run_guest(void *unused)
{
    (void)unused;
    for (uint32_t n = 1; n <= rounds; n++) {
        payload = n * UINT64_C(3);
        posted_announce(&words, &guest, n);
        for (uint32_t looks = 1; resume_take(&words) != n; looks++)
            if (looks % 1024 == 0)
                sched_yield();
    }
    return NULL;
}

/* Wait for a post behind number `seen`, as core_wait does without Python. */
static void await(uint32_t seen)
{
    uint64_t limit = vmm.policy == WAIT_POLL ? UINT64_MAX : now_ns() + spin;
    while (!posted_since(&words, seen)) {
        if (vmm.policy != WAIT_BLOCK && now_ns() < limit) {
            cpu_relax();
            continue;
        }
        if (vmm.undrained)
            doorbell_drain(&vmm);
        doorbell_arm(&vmm);
        if (!posted_since(&words, seen) && doorbell_sleep(&vmm, PATIENCE) == SLEPT_TIMEOUT &&
            posted_since(&words, seen)) {
            fprintf(stderr, "the wake-up behind number %u is lost\n", seen);
            exit(1);
        }
        doorbell_disarm(&vmm);
    }
}

int main(int argc, char **argv)
{
    int exit_pipe[2];
    if (argc < 3 || pipe2(exit_pipe, O_NONBLOCK) < 0)
        return 2;
    enum wait_policy policy = (enum wait_policy)atoi(argv[1]);
    rounds = (uint32_t)strtoul(argv[2], NULL, 0);
    if (argc > 3)
        spin = strtoul(argv[3], NULL, 0);
    guest = (struct doorbell){
        .peer_need_wakeup = &words.vmm_need_wakeup, .wake_fd = exit_pipe[1], .policy = policy};
    vmm = (struct doorbell){.own_need_wakeup = &words.vmm_need_wakeup,
                            .sleep_fd = exit_pipe[0],
                            .life_fd = -1,
                            .watch_fd = -1,
                            .policy = policy};
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_guest, NULL) != 0)
        return 2;
    for (uint32_t n = 1; n <= rounds; n++) {
        await(n - 1);
        if (posted_take(&words) != n || payload != n * UINT64_C(3)) {
            fprintf(stderr, "round %u: the VMM has the wrong payload\n", n);
            return 1;
        }
        resume_post(&words, n);
    }
    pthread_join(thread, NULL);
    if (policy == WAIT_POLL && guest.signals) {
        fprintf(stderr, "a VMM that polls is not woken\n");
        return 1;
    }
    return 0;
}

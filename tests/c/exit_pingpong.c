/*
 * Two threads that exit and resume through the doorbell: no answer is early, no wake-up lost.
 *
 *     exit_pingpong POLICY ROUNDS [SPIN_NS]
 *
 * One thread is the guest: payload, exit sequence, wait for the answer. The other is the VMM. With
 * SPIN_NS the spin is fixed at that: 0 makes every wait a sleep, so that each round races the
 * announcement of a sleep against a signal. A lost wake-up hangs; alarm() ends that.
 */
#define _GNU_SOURCE
#include "exit.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static struct run_words words;
static uint64_t payload, result; /* plain memory: the sequences order it */
static uint32_t rounds;
static long fixed_spin = -1;
static struct doorbell guest, vmm;

/* Wait until *word differs from `seen`, as core_wait does without Python. */
static void await(struct doorbell *b, _Atomic uint32_t *word, uint32_t seen)
{
    uint64_t start = now_ns();
    uint64_t spin = fixed_spin >= 0 ? (uint64_t)fixed_spin : b->spin_ns;
    uint64_t limit = b->policy == WAIT_POLL ? UINT64_MAX : start + spin;
    while (atomic_load_explicit(word, memory_order_relaxed) == seen) {
        if (b->policy != WAIT_BLOCK && now_ns() < limit) {
            cpu_relax();
            continue;
        }
        doorbell_arm(b);
        if (atomic_load_explicit(word, memory_order_relaxed) == seen) {
            if (doorbell_sleep(b, UINT64_MAX) == SLEPT_PEER_GONE) {
                fprintf(stderr, "a living peer is taken for a dead one\n");
                exit(1);
            }
        }
        doorbell_disarm(b);
    }
    doorbell_tune(b, now_ns() - start);
    if (b->spin_ns < SPIN_LEAST_NS || b->spin_ns > SPIN_MOST_NS) {
        fprintf(stderr, "the spin is out of bounds\n");
        exit(1);
    }
}

static void *run_guest(void *unused)
{
    (void)unused;
    for (uint32_t n = 1; n <= rounds; n++) {
        payload = n * UINT64_C(3);
        exit_post(&words, n);
        doorbell_signal(&guest);
        await(&guest, &words.resume_sequence, n - 1);
        if (resume_take(&words) != n || result != n * UINT64_C(7)) {
            fprintf(stderr, "round %u: the guest has the wrong result\n", n);
            exit(1);
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int exit_pipe[2], resume_pipe[2];
    if (argc < 3 || pipe2(exit_pipe, O_NONBLOCK) < 0 || pipe2(resume_pipe, O_NONBLOCK) < 0)
        return 2;
    alarm(60);
    enum wait_policy policy = (enum wait_policy)atoi(argv[1]);
    rounds = (uint32_t)strtoul(argv[2], NULL, 0);
    if (argc > 3)
        fixed_spin = atol(argv[3]);
    guest = (struct doorbell){.own_need_wakeup = &words.hv_need_wakeup,
                              .peer_need_wakeup = &words.vmm_need_wakeup,
                              .sleep_fd = resume_pipe[0],
                              .wake_fd = exit_pipe[1],
                              .life_fd = -1,
                              .watch_fd = -1,
                              .policy = policy,
                              .spin_ns = SPIN_MOST_NS};
    vmm = (struct doorbell){.own_need_wakeup = &words.vmm_need_wakeup,
                            .peer_need_wakeup = &words.hv_need_wakeup,
                            .sleep_fd = exit_pipe[0],
                            .wake_fd = resume_pipe[1],
                            .life_fd = -1,
                            .watch_fd = -1,
                            .policy = policy,
                            .spin_ns = SPIN_MOST_NS};
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_guest, NULL) != 0)
        return 2;
    for (uint32_t n = 1; n <= rounds; n++) {
        await(&vmm, &words.exit_sequence, n - 1);
        if (exit_take(&words) != n || payload != n * UINT64_C(3)) {
            fprintf(stderr, "round %u: the VMM has the wrong exit\n", n);
            return 1;
        }
        result = n * UINT64_C(7);
        resume_post(&words, n);
        doorbell_signal(&vmm);
    }
    pthread_join(thread, NULL);
    if (policy == WAIT_BLOCK && (guest.signals != rounds || vmm.signals != rounds)) {
        fprintf(stderr, "block writes the pipe once a round\n");
        return 1;
    }
    if (policy == WAIT_POLL && (guest.signals || vmm.signals)) {
        fprintf(stderr, "poll never writes the pipe\n");
        return 1;
    }
    return 0;
}

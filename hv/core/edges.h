/*
 * Edges: a doorbell whose sleep ends when a byte comes, instead of while one is there.
 *
 * ppoll ends at once as long as the pipe has a byte, so that each must be read before the next
 * sleep. An edge-triggered epoll reports each write once: the bytes may stay, and a sleep and its
 * wake-up take a system call less. A full pipe takes no byte, and then none is reported, so the
 * waker counts in shared memory what it writes, and the sleeper empties the pipe in time.
 *
 * A timeout sets a timer at each sleep and takes it back, which costs a fifth of an exit on one CPU.
 * Here the timer of an earlier sleep stays, unless it is too late for the one at hand.
 */
#ifndef COALESCED_EDGES_H
#define COALESCED_EDGES_H

#include "exit.h"

#ifndef LONGEST_SLEEP_NS
#define LONGEST_SLEEP_NS 100000000u /* until a signal is seen that came just before a sleep */
#endif

struct edges {
    int fd;                        /* an epoll with the doorbell's descriptors, */
    int timer_fd;                  /* and this timer's */
    uint64_t due;                  /* the moment that it is set to */
    int watch_fd;                  /* the watched one among them, or -1 */
    uint32_t taken;                /* how many bytes had been written when the pipe was emptied */
    const _Atomic uint32_t *bytes; /* how many the peer has written; it is not believed */
};

/*
 * Let the doorbell sleep by edges. It goes on with ppoll where the kernel does not report a write
 * to a pipe that has bytes (Linux 5.5 to 5.13), or has no descriptor left.
 */
void edges_open(struct doorbell *b, struct edges *e, const _Atomic uint32_t *bytes);
void edges_close(struct doorbell *b);
/* Forget earlier waits. The peer begins to count anew. */
void edges_restart(struct doorbell *b, enum wait_policy policy);
/* From now on another file is watched, even if it has the same number. */
void edges_forget(struct doorbell *b);

/* As doorbell_may_sleep, for a doorbell with or without edges. */
bool edges_may_sleep(struct doorbell *b, bool (*ready)(void *), void *ctx);
/* As doorbell_sleep, until `deadline` (CLOCK_MONOTONIC ns), or LONGEST_SLEEP_NS at most. */
enum sleep_result edges_sleep(struct doorbell *b, uint64_t deadline);

#endif

/*
 * Floors: what the shapes that are measured cost in bare C, without Python on either side.
 *
 * Each forks a second process and pins both to the given CPUs. The child runs nothing but the code
 * here, ends by itself, and is killed when its parent ends first.
 */
#ifndef COALESCED_FLOORS_H
#define COALESCED_FLOORS_H

#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "exit.h"
#include "ring.h"

#define PAGE 4096u
#define YIELD_AFTER 256u /* empty looks before the other side is let on this CPU */

/* CPU -1: anywhere. 0, or -1 with errno set. */
static inline int pin(int cpu)
{
    cpu_set_t set;
    if (cpu < 0)
        return 0;
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    return sched_setaffinity(0, sizeof set, &set);
}

static inline void look_again(uint32_t looks, uint32_t yield_after)
{
    if (looks % yield_after == 0)
        sched_yield();
    else
        cpu_relax();
}

/* In the child: fork's own errors and the parent's end are the parent's affair. */
static inline void child_begin(int cpu, pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent || pin(cpu) < 0)
        _exit(1);
}

/* Reap the child; 0 when it ended well. */
static inline int child_end(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

/*
 * These return nanoseconds for everything, or -1 with errno set, which is 0 when the other process
 * failed. The calling thread stays pinned.
 */

struct ring_job {
    size_t bytes; /* of the ring */
    uint64_t entries;
    uint32_t publish_every;
};

double floor_ring(const struct ring_job *job, int here, int there);
/* Append until the ring is full or a publication is due, drain, in one thread. */
double floor_ring_alone(const struct ring_job *job, int here);

#define PRODUCERS_MAX 8u

struct producers_job {
    size_t bytes; /* of a ring */
    uint32_t producers;
    uint32_t batch; /* entries published at once, in a holding of the lock */
    bool own;       /* a ring each, without a lock */
    uint64_t ns;    /* how long they append */
};

/*
 * Threads append, and this one drains; all run anywhere. Nanoseconds per drained entry. *fairness:
 * the least number of entries of a producer over the greatest.
 */
double floor_producers(const struct producers_job *job, double *fairness);

enum floor_kind { BY_PIPE, BY_PPOLL, BY_EVENTFD, BY_SOCKETPAIR, BY_FUTEX, BY_SPIN, FLOOR_KINDS };

/* `each`: room for `count` round trips' nanoseconds, or NULL. */
double floor_ping_pong(enum floor_kind kind, uint64_t count, int here, int there, uint64_t *each);

enum channel_kind {
    CHANNEL_RING,    /* the consumer looks at it again and again */
    CHANNEL_EVENTFD, /* a ring; an eventfd is written for each publication, and wakes */
    CHANNEL_PIPE,
    CHANNEL_SOCKETPAIR,
    CHANNEL_QUEUE, /* of POSIX, a message per call */
    CHANNEL_KINDS
};

struct channel_job {
    enum channel_kind kind;
    uint32_t batch; /* entries per call */
    uint64_t calls;
    uint64_t pause_ns; /* before each call */
};

/* `each`, with a pause: nanoseconds from each call's start until it is received; or NULL. */
double floor_channel(const struct channel_job *job, int here, int there, uint64_t *each);

#endif

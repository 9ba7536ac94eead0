/* Threads that append to one ring under hv/core/ring_lock.h, or to a ring each, without Python. */
#define _GNU_SOURCE
#include "floors.h"
#include "ring_lock.h"

#include <pthread.h>

struct ring_end {
    struct ring_lock lock;
    struct ring_producer producer; /* the lock orders it, where there is one */
    struct ring_consumer consumer;
};

struct crowd;

struct member {
    _Alignas(64) struct crowd *crowd;
    struct ring_end *end;
    uint64_t appended;
    pthread_t thread;
    bool started;
};

struct crowd {
    const struct producers_job *job;
    struct ring_end end[PRODUCERS_MAX];
    struct member member[PRODUCERS_MAX];
    uint8_t *memory;
    struct coalesced_entry *out;
    uint32_t rings;
    _Alignas(64) _Atomic bool go;
    _Alignas(64) _Atomic bool stop;
};

/* One holding: up to a batch of entries, published. How many there were. */
static uint32_t append_batch(const struct producers_job *job, struct ring_end *end, uint64_t from)
{
    uint32_t count = 0;
    if (!job->own)
        ring_lock_take(&end->lock);
    while (count < job->batch && ring_append(&end->producer, 0xa0000 + (from & 0xffff), 1, 0,
                                             (from + count) & 0xff) == RING_OK)
        count++;
    ring_publish(&end->producer);
    if (!job->own)
        ring_lock_give(&end->lock);
    return count;
}

static void *append_all(void *argument)
{
    struct member *m = argument;
    uint64_t appended = 0;
    while (!atomic_load_explicit(&m->crowd->go, memory_order_acquire))
        sched_yield();
    while (!atomic_load_explicit(&m->crowd->stop, memory_order_relaxed)) {
        uint32_t count = append_batch(m->crowd->job, m->end, appended);
        appended += count;
        if (count < m->crowd->job->batch) /* full: a guest would leave its CPU to the VMM */
            sched_yield();
    }
    m->appended = appended;
    return NULL;
}

/*
 * Drain all rings in turn until the time is over, or longer, until an entry has come: a busy machine
 * may run none of the producers so long. Nanoseconds per entry, or -1.
 */
static double drain_all(struct crowd *c)
{
    uint64_t drained = 0, started = now_ns(), now;
    uint32_t looks = 0;
    atomic_store_explicit(&c->go, true, memory_order_release);
    do {
        uint32_t found = 0;
        for (uint32_t i = 0; i < c->rings; i++) {
            struct ring_consumer *consumer = &c->end[i].consumer;
            uint32_t count;
            if (ring_peek(consumer, c->out, consumer->slots, &count) != RING_OK)
                return -1;
            ring_commit(consumer, count);
            found += count;
        }
        drained += found;
        looks = found ? 0 : looks + 1;
        if (!found)
            look_again(looks, YIELD_AFTER);
        now = now_ns();
    } while (now - started < c->job->ns || !drained);
    return (double)(now - started) / (double)drained;
}

/* 0, or -1 with errno set. */
static int start_all(struct crowd *c)
{
    for (uint32_t i = 0; i < c->rings; i++) {
        struct ring_end *end = &c->end[i];
        struct coalesced_ring *ring =
            (struct coalesced_ring *)(void *)(c->memory + i * c->job->bytes);
        ring_producer_init(&end->producer, ring, c->job->bytes);
        ring_consumer_init(&end->consumer, ring, c->job->bytes);
    }
    for (uint32_t i = 0; i < c->job->producers; i++) {
        struct member *m = &c->member[i];
        m->crowd = c;
        m->end = &c->end[c->job->own ? i : 0];
        int error = pthread_create(&m->thread, NULL, append_all, m);
        if (error != 0) {
            errno = error;
            return -1;
        }
        m->started = true;
    }
    return 0;
}

/* The least number of entries of a producer over the greatest. */
static double fairness_of(const struct crowd *c)
{
    uint64_t least = UINT64_MAX, most = 1;
    for (uint32_t i = 0; i < c->job->producers; i++) {
        uint64_t appended = c->member[i].appended;
        least = appended < least ? appended : least;
        most = appended > most ? appended : most;
    }
    return (double)least / (double)most;
}

double floor_producers(const struct producers_job *job, double *fairness)
{
    struct crowd *c = aligned_alloc(64, sizeof *c);
    if (!c)
        return -1;
    memset(c, 0, sizeof *c);
    c->job = job;
    c->rings = job->own ? job->producers : 1;
    size_t bytes = c->rings * job->bytes;
    c->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    c->out = malloc(ring_slots(job->bytes) * sizeof *c->out);
    double ns = -1;
    int error = errno;
    if (c->memory != MAP_FAILED && c->out) {
        error = 0;
        if (start_all(c) == 0)
            ns = drain_all(c);
        else
            error = errno;
        atomic_store(&c->stop, true);
        atomic_store(&c->go, true);
        for (uint32_t i = 0; i < job->producers; i++)
            if (c->member[i].started)
                pthread_join(c->member[i].thread, NULL);
        *fairness = fairness_of(c);
    }
    free(c->out);
    if (c->memory != MAP_FAILED)
        munmap(c->memory, bytes);
    free(c);
    errno = error;
    return ns;
}

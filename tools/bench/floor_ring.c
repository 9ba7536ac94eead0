/* The ring of hv/core/ring.h between two processes, and in one, without Python. */
#define _GNU_SOURCE
#include "floors.h"

#define LIVENESS_AFTER (1u << 16) /* empty looks before the child's end is looked for */

struct start {
    _Alignas(64) _Atomic int ready; /* child: pinned, waiting for go */
    _Alignas(64) _Atomic int go;    /* parent: the clock runs */
};

struct shared {
    struct start *start;
    struct coalesced_ring *ring;
};

static int child_gone(pid_t child)
{
    siginfo_t info = {.si_pid = 0};
    return waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid != 0;
}

static void produce(const struct ring_job *job, const struct shared *shared)
{
    struct ring_producer p;
    uint32_t unpublished = 0, looks = 0;
    if (ring_producer_init(&p, shared->ring, job->bytes) != RING_OK)
        _exit(1);
    atomic_store_explicit(&shared->start->ready, 1, memory_order_release);
    while (!atomic_load_explicit(&shared->start->go, memory_order_acquire))
        look_again(++looks, YIELD_AFTER);
    for (uint64_t i = 0; i < job->entries;) {
        enum ring_status status = ring_append(&p, 0xa0000 + (i & 0xffff), 1, 0, i & 0xff);
        if (status < 0)
            _exit(1);
        if (status == RING_FULL || ++unpublished >= job->publish_every) {
            ring_publish(&p);
            unpublished = 0;
        }
        if (status == RING_OK) {
            looks = 0;
            i++;
        } else {
            look_again(++looks, YIELD_AFTER);
        }
    }
    ring_publish(&p);
    _exit(0);
}

/* Nanoseconds from go to the last commit, or -1. */
static double consume(const struct ring_job *job, const struct shared *shared,
                      struct coalesced_entry *out, pid_t child)
{
    struct ring_consumer c;
    uint32_t looks = 0, count;
    if (ring_consumer_init(&c, shared->ring, job->bytes) != RING_OK)
        return -1;
    while (!atomic_load_explicit(&shared->start->ready, memory_order_acquire)) {
        look_again(++looks, YIELD_AFTER);
        if (looks % LIVENESS_AFTER == 0 && child_gone(child))
            return -1;
    }
    uint64_t started = now_ns();
    atomic_store_explicit(&shared->start->go, 1, memory_order_release);
    for (uint64_t done = 0; done < job->entries;) {
        if (ring_peek(&c, out, c.slots, &count) != RING_OK)
            return -1;
        if (count) {
            ring_commit(&c, count);
            done += count;
            looks = 0;
            continue;
        }
        look_again(++looks, YIELD_AFTER);
        if (looks % LIVENESS_AFTER == 0 && child_gone(child) && ring_look(&c) == RING_OK &&
            c.last == c.next)
            return -1;
    }
    return (double)(now_ns() - started);
}

double floor_ring(const struct ring_job *job, int here, int there)
{
    size_t bytes = job->bytes + PAGE;
    uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct coalesced_entry *out = malloc(ring_slots(job->bytes) * sizeof *out);
    double ns = -1;
    int error = errno;
    if (memory != MAP_FAILED && out) {
        struct shared shared = {.start = (struct start *)(void *)memory,
                                .ring = (struct coalesced_ring *)(void *)(memory + PAGE)};
        pid_t parent = getpid(), child = fork();
        if (child == 0) {
            child_begin(there, parent);
            produce(job, &shared);
        }
        error = child < 0 || pin(here) < 0 ? errno : 0;
        if (error == 0)
            ns = consume(job, &shared, out, child);
        if (child > 0 && ns < 0)
            kill(child, SIGKILL);
        if (child > 0 && child_end(child) < 0)
            ns = -1;
    }
    free(out);
    if (memory != MAP_FAILED)
        munmap(memory, bytes);
    errno = error;
    return ns;
}

/* Nanoseconds, or -1: the ring breaks its own rules. */
static double alone(const struct ring_job *job, struct coalesced_ring *ring,
                    struct coalesced_entry *out)
{
    struct ring_producer p;
    struct ring_consumer c;
    if (ring_producer_init(&p, ring, job->bytes) != RING_OK ||
        ring_consumer_init(&c, ring, job->bytes) != RING_OK)
        return -1;
    uint64_t started = now_ns();
    for (uint64_t done = 0; done < job->entries;) {
        uint64_t left = job->entries - done;
        uint32_t most = left < job->publish_every ? (uint32_t)left : job->publish_every, count = 0;
        while (count < most && ring_append(&p, 0xa0000 + (done & 0xffff), 1, 0, done & 0xff) == 0)
            count++;
        ring_publish(&p);
        if (ring_peek(&c, out, c.slots, &count) != RING_OK)
            return -1;
        ring_commit(&c, count);
        done += count;
    }
    return (double)(now_ns() - started);
}

double floor_ring_alone(const struct ring_job *job, int here)
{
    struct coalesced_ring *ring = calloc(1, job->bytes);
    struct coalesced_entry *out = malloc(ring_slots(job->bytes) * sizeof *out);
    double ns = -1;
    int error = !ring || !out ? ENOMEM : pin(here) < 0 ? errno : 0;
    if (error == 0)
        ns = alone(job, ring, out);
    free(out);
    free(ring);
    errno = error;
    return ns;
}

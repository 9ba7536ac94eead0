/*
 * A ring that loses a wake-up: `coalesced stress --ring examples/rings/lost_wakeup.h`.
 *
 * The ring of correct.h, whose consumer yields its processor, and does not look once more after it
 * has said that it sleeps. An entry that is pushed after its last look and before that wakes nobody:
 * the producer sees nobody asleep, and the consumer sleeps with an entry in the ring.
 *
 * `tail` counts what was pushed, `head` what was popped, both without end; an entry lies in the
 * cell of its number modulo the capacity. Each side reads the other's count once, checks it, and
 * uses only the copy.
 */
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct ring {
    uint32_t mask; /* capacity - 1; each call checks it */
    _Alignas(64) _Atomic uint64_t tail;
    _Alignas(64) _Atomic uint64_t head;
    _Alignas(64) _Atomic uint32_t sleeping; /* 1: the consumer sleeps on it, or is about to */
    _Alignas(64) struct user_ring_entry cell[];
};

const char ring_claims[] = "producer-death consumer-death hostile-indices no-lost-wakeup";

static uint32_t capacity; /* this process's own copy: the memory may say anything */

static uint32_t ring_capacity(uint32_t entries)
{
    uint32_t power = 1;
    while (power < entries)
        power *= 2;
    return power;
}

static size_t ring_size(uint32_t entries)
{
    return sizeof(struct ring) + ring_capacity(entries) * sizeof(struct user_ring_entry);
}

static int ring_init(void *memory, uint32_t entries)
{
    ((struct ring *)memory)->mask = ring_capacity(entries) - 1;
    return 0;
}

static int ring_attach(void *memory, int producer)
{
    (void)producer;
    capacity = ((struct ring *)memory)->mask + 1;
    return 0;
}

static int ring_push_many(void *memory, const struct user_ring_entry *entries, uint32_t count)
{
    struct ring *ring = memory;
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    /* Acquire: the consumer has read the cells that it gave back. */
    uint64_t used = tail - atomic_load_explicit(&ring->head, memory_order_acquire);
    if (used > capacity)
        return -1;
    if (count > capacity - used)
        count = (uint32_t)(capacity - used);
    if (!count)
        return 0;
    for (uint32_t i = 0; i < count; i++)
        ring->cell[(tail + i) & (capacity - 1)] = entries[i];
    RING_POINT("before tail");
    /* Release: the consumer sees the cells before the count that includes them. */
    atomic_store_explicit(&ring->tail, tail + count, memory_order_release);
    RING_POINT("before wake");
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&ring->sleeping, memory_order_relaxed)) {
        atomic_store_explicit(&ring->sleeping, 0, memory_order_relaxed);
        syscall(SYS_futex, &ring->sleeping, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
    return (int)count;
}

static int ring_pop_many(void *memory, struct user_ring_entry *entries, uint32_t most)
{
    struct ring *ring = memory;
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint64_t count = atomic_load_explicit(&ring->tail, memory_order_acquire) - head;
    if (count > capacity)
        return -1;
    if (count > most)
        count = most;
    for (uint64_t i = 0; i < count; i++)
        entries[i] = ring->cell[(head + i) & (capacity - 1)];
    RING_POINT("before head");
    if (count)
        atomic_store_explicit(&ring->head, head + count, memory_order_release);
    return (int)count;
}

static int ring_push(void *memory, const struct user_ring_entry *entry)
{
    return ring_push_many(memory, entry, 1);
}

static int ring_pop(void *memory, struct user_ring_entry *entry)
{
    return ring_pop_many(memory, entry, 1);
}

static int ring_empty(struct ring *ring)
{
    return atomic_load_explicit(&ring->tail, memory_order_acquire) ==
           atomic_load_explicit(&ring->head, memory_order_relaxed);
}

static int ring_wait(void *memory, int milliseconds)
{
    struct ring *ring = memory;
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    sched_yield(); /* the ring was empty: perhaps the producer wants this processor */
    atomic_store_explicit(&ring->sleeping, 1, memory_order_seq_cst);
    syscall(SYS_futex, &ring->sleeping, FUTEX_WAIT, 1, &time, NULL, 0);
    atomic_store_explicit(&ring->sleeping, 0, memory_order_relaxed);
    return !ring_empty(ring);
}

/*
 * A ring that loses a cell when its producer dies: `coalesced stress --ring examples/rings/lost_cell.h`.
 *
 * The producer claims a cell, fills it, and then marks it full. Killed in between it leaves a
 * claimed cell that nobody ever marks: the next producer goes on behind it, and the consumer waits
 * for it for good.
 */
#include <stdatomic.h>

struct cell {
    _Atomic uint32_t full;
    struct user_ring_entry entry;
};

struct ring {
    uint32_t capacity;
    _Alignas(64) _Atomic uint64_t claimed;
    _Alignas(64) _Atomic uint64_t taken;
    _Alignas(64) struct cell cell[];
};

const char ring_claims[] = "producer-death";

static size_t ring_size(uint32_t entries)
{
    return sizeof(struct ring) + entries * sizeof(struct cell);
}

static int ring_init(void *memory, uint32_t entries)
{
    ((struct ring *)memory)->capacity = entries;
    return 0;
}

static int ring_push(void *memory, const struct user_ring_entry *entry)
{
    struct ring *ring = memory;
    uint64_t number = atomic_load_explicit(&ring->claimed, memory_order_relaxed);
    struct cell *cell = &ring->cell[number % ring->capacity];
    if (atomic_load_explicit(&cell->full, memory_order_acquire) ||
        number - atomic_load_explicit(&ring->taken, memory_order_acquire) == ring->capacity)
        return 0;
    atomic_store_explicit(&ring->claimed, number + 1, memory_order_relaxed);
    RING_POINT("claimed");
    cell->entry = *entry;
    atomic_store_explicit(&cell->full, 1, memory_order_release);
    return 1;
}

static int ring_pop(void *memory, struct user_ring_entry *entry)
{
    struct ring *ring = memory;
    uint64_t number = atomic_load_explicit(&ring->taken, memory_order_relaxed);
    struct cell *cell = &ring->cell[number % ring->capacity];
    if (!atomic_load_explicit(&cell->full, memory_order_acquire))
        return 0;
    *entry = cell->entry;
    atomic_store_explicit(&cell->full, 0, memory_order_release);
    atomic_store_explicit(&ring->taken, number + 1, memory_order_release);
    return 1;
}

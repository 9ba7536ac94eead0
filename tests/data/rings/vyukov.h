/* A bounded queue for many producers and consumers after Vyukov: each cell has a sequence number. */
#include <stdatomic.h>

struct cell {
    _Atomic uint64_t sequence;
    struct user_ring_entry entry;
};

struct queue {
    uint64_t mask;
    _Alignas(64) _Atomic uint64_t pushed;
    _Alignas(64) _Atomic uint64_t popped;
    _Alignas(64) struct cell cell[];
};

const char ring_claims[] = ""; /* a side that dies between claim and sequence takes a cell along */

static uint64_t capacity_of(uint32_t entries)
{
    uint64_t power = 2; /* one cell cannot tell full from empty */
    while (power < entries)
        power *= 2;
    return power;
}

size_t ring_size(uint32_t entries)
{
    return sizeof(struct queue) + capacity_of(entries) * sizeof(struct cell);
}

int ring_init(void *memory, uint32_t entries)
{
    struct queue *q = memory;
    q->mask = capacity_of(entries) - 1;
    for (uint64_t i = 0; i <= q->mask; i++)
        atomic_store_explicit(&q->cell[i].sequence, i, memory_order_relaxed);
    return 0;
}

/* The cell of the next position whose sequence is `ahead` of it; NULL: full, or empty. */
static struct cell *claim(struct queue *q, _Atomic uint64_t *position, uint64_t ahead, uint64_t *at)
{
    *at = atomic_load_explicit(position, memory_order_relaxed);
    for (;;) {
        struct cell *cell = &q->cell[*at & q->mask];
        uint64_t sequence = atomic_load_explicit(&cell->sequence, memory_order_acquire);
        int64_t difference = (int64_t)(sequence - *at - ahead);
        if (difference < 0)
            return NULL;
        if (difference > 0)
            *at = atomic_load_explicit(position, memory_order_relaxed);
        else if (atomic_compare_exchange_weak_explicit(position, at, *at + 1, memory_order_relaxed,
                                                       memory_order_relaxed))
            return cell;
    }
}

int ring_push(void *memory, const struct user_ring_entry *entry)
{
    struct queue *q = memory;
    uint64_t at;
    struct cell *cell = claim(q, &q->pushed, 0, &at);
    if (!cell)
        return 0;
    cell->entry = *entry;
    atomic_store_explicit(&cell->sequence, at + 1, memory_order_release);
    return 1;
}

int ring_pop(void *memory, struct user_ring_entry *entry)
{
    struct queue *q = memory;
    uint64_t at;
    struct cell *cell = claim(q, &q->popped, 1, &at);
    if (!cell)
        return 0;
    *entry = cell->entry;
    atomic_store_explicit(&cell->sequence, at + q->mask + 1, memory_order_release);
    return 1;
}

/*
 * A ring whose publication is relaxed: `coalesced stress --ring examples/rings/relaxed_publication.h`.
 *
 * The entries are written past the cache, as copies of large messages often are, and `tail` right
 * after them, with nothing in between that orders the two. x86 keeps ordinary stores in order, but
 * not these: the consumer sees the count before the cells, and reads what a lap ago lay there. With
 * atomic_thread_fence(memory_order_seq_cst) before the store of `tail` it is correct.
 */
#include <stdatomic.h>
#ifdef __SSE2__
#include <emmintrin.h>
#define STREAM(to, value) _mm_stream_si64((long long *)(to), (long long)(value))
#else
#define STREAM(to, value) \
    atomic_store_explicit((_Atomic uint64_t *)(to), value, memory_order_relaxed)
#endif

struct ring {
    uint32_t capacity;
    _Alignas(64) _Atomic uint64_t tail;
    _Alignas(64) _Atomic uint64_t head;
    _Alignas(64) struct user_ring_entry cell[];
};

static size_t ring_size(uint32_t entries)
{
    return sizeof(struct ring) + entries * sizeof(struct user_ring_entry);
}

static int ring_init(void *memory, uint32_t entries)
{
    ((struct ring *)memory)->capacity = entries;
    return 0;
}

static int ring_push(void *memory, const struct user_ring_entry *entry)
{
    struct ring *ring = memory;
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (tail - atomic_load_explicit(&ring->head, memory_order_acquire) == ring->capacity)
        return 0;
    struct user_ring_entry *cell = &ring->cell[tail % ring->capacity];
    for (int i = 0; i < 3; i++)
        STREAM(&cell->word[i], entry->word[i]);
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_relaxed);
    return 1;
}

static int ring_pop(void *memory, struct user_ring_entry *entry)
{
    struct ring *ring = memory;
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (head == atomic_load_explicit(&ring->tail, memory_order_acquire))
        return 0;
    *entry = ring->cell[head % ring->capacity];
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    return 1;
}

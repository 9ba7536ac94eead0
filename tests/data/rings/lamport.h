/* A queue after Lamport: each side keeps a copy of the other's index and reads it anew when the copy says full or empty. */
#include <stdatomic.h>

struct queue {
    uint32_t capacity;
    _Alignas(64) _Atomic uint32_t tail;
    _Alignas(64) _Atomic uint32_t head;
    _Alignas(64) struct user_ring_entry cell[];
};

static uint32_t seen_head, seen_tail; /* of the other side; both indices count without end */

static size_t ring_size(uint32_t entries)
{
    return sizeof(struct queue) + entries * sizeof(struct user_ring_entry);
}

static int ring_init(void *memory, uint32_t entries)
{
    ((struct queue *)memory)->capacity = entries;
    return 0;
}

static int ring_attach(void *memory, int producer)
{
    struct queue *q = memory;
    (void)producer;
    seen_head = atomic_load(&q->head);
    seen_tail = atomic_load(&q->tail);
    return 0;
}

/* 2^32 is no multiple of most capacities: the indices start again at 0 before it. */
static uint32_t after(const struct queue *q, uint32_t index)
{
    return index + 1 == 2 * q->capacity ? 0 : index + 1;
}

static uint32_t used(const struct queue *q, uint32_t tail, uint32_t head)
{
    return tail >= head ? tail - head : tail + 2 * q->capacity - head;
}

static int ring_push(void *memory, const struct user_ring_entry *entry)
{
    struct queue *q = memory;
    uint32_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
    if (used(q, tail, seen_head) == q->capacity) {
        seen_head = atomic_load_explicit(&q->head, memory_order_acquire);
        if (used(q, tail, seen_head) == q->capacity)
            return 0;
    }
    q->cell[tail % q->capacity] = *entry;
    atomic_store_explicit(&q->tail, after(q, tail), memory_order_release);
    return 1;
}

static int ring_pop(void *memory, struct user_ring_entry *entry)
{
    struct queue *q = memory;
    uint32_t head = atomic_load_explicit(&q->head, memory_order_relaxed);
    if (head == seen_tail) {
        seen_tail = atomic_load_explicit(&q->tail, memory_order_acquire);
        if (head == seen_tail)
            return 0;
    }
    *entry = q->cell[head % q->capacity];
    atomic_store_explicit(&q->head, after(q, head), memory_order_release);
    return 1;
}

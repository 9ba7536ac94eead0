/* A mailbox for one entry, with a sequence as a seqlock has it: odd while an entry is in it. */
#include <stdatomic.h>

struct mailbox {
    _Atomic uint32_t sequence;
    struct user_ring_entry entry;
};

size_t ring_size(uint32_t entries)
{
    return entries > 1 ? 0 : sizeof(struct mailbox);
}

int ring_init(void *memory, uint32_t entries)
{
    (void)memory;
    return entries != 1;
}

int ring_push(void *memory, const struct user_ring_entry *entry)
{
    struct mailbox *box = memory;
    uint32_t sequence = atomic_load_explicit(&box->sequence, memory_order_acquire);
    if (sequence % 2)
        return 0;
    box->entry = *entry;
    atomic_store_explicit(&box->sequence, sequence + 1, memory_order_release);
    return 1;
}

int ring_pop(void *memory, struct user_ring_entry *entry)
{
    struct mailbox *box = memory;
    uint32_t sequence = atomic_load_explicit(&box->sequence, memory_order_acquire);
    if (sequence % 2 == 0)
        return 0;
    *entry = box->entry;
    atomic_store_explicit(&box->sequence, sequence + 1, memory_order_release);
    return 1;
}

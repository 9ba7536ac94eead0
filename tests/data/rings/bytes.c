/* A stream of bytes in which each entry follows its length; either may wrap around in the middle. */
#include <stdatomic.h>
#include <string.h>

#define RECORD (sizeof(uint32_t) + sizeof(struct user_ring_entry))

struct stream {
    uint64_t room;
    _Atomic uint64_t written, read;
    unsigned char byte[];
};

size_t ring_size(uint32_t entries)
{
    return sizeof(struct stream) + entries * RECORD + 5; /* no multiple of a record */
}

int ring_init(void *memory, uint32_t entries)
{
    ((struct stream *)memory)->room = entries * RECORD + 5;
    return 0;
}

static uint64_t put(struct stream *s, uint64_t at, const void *data, size_t size)
{
    size_t place = at % s->room, first = s->room - place < size ? s->room - place : size;
    memcpy(s->byte + place, data, first);
    memcpy(s->byte, (const char *)data + first, size - first);
    return at + size;
}

static uint64_t get(struct stream *s, uint64_t at, void *data, size_t size)
{
    size_t place = at % s->room, first = s->room - place < size ? s->room - place : size;
    memcpy(data, s->byte + place, first);
    memcpy((char *)data + first, s->byte, size - first);
    return at + size;
}

int ring_push_many(void *memory, const struct user_ring_entry *entries, uint32_t count)
{
    struct stream *s = memory;
    uint64_t at = atomic_load_explicit(&s->written, memory_order_relaxed), done = 0;
    uint64_t end = atomic_load_explicit(&s->read, memory_order_acquire) + s->room;
    uint32_t length = sizeof *entries;
    for (; done < count && end - at >= RECORD; done++) {
        at = put(s, at, &length, sizeof length);
        at = put(s, at, &entries[done], length);
    }
    atomic_store_explicit(&s->written, at, memory_order_release);
    return (int)done;
}

int ring_pop_many(void *memory, struct user_ring_entry *entries, uint32_t most)
{
    struct stream *s = memory;
    uint64_t at = atomic_load_explicit(&s->read, memory_order_relaxed), done = 0;
    uint64_t end = atomic_load_explicit(&s->written, memory_order_acquire);
    for (uint32_t length; done < most && at != end; done++) {
        at = get(s, at, &length, sizeof length);
        if (length != sizeof *entries)
            return -1;
        at = get(s, at, &entries[done], length);
    }
    atomic_store_explicit(&s->read, at, memory_order_release);
    return (int)done;
}

int ring_push(void *memory, const struct user_ring_entry *entry)
{
    return ring_push_many(memory, entry, 1);
}

int ring_pop(void *memory, struct user_ring_entry *entry)
{
    return ring_pop_many(memory, entry, 1);
}

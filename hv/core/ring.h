/*
 * The coalesced ring: one producer (the kernel's part), one consumer (the VMM).
 *
 * Layout, byte for byte struct kvm_coalesced_mmio_ring of <linux/kvm.h>:
 *
 *      0        4        8                 32                56
 *      | first  | last   | entry 0         | entry 1         | ...
 *      |  u32   |  u32   | 24 bytes        |                 |
 *
 *      entry:  phys_addr u64 | len u32 | pio u32 | data u8[8]
 *
 * `first` belongs to the consumer, `last` to the producer; both count slots. The ring is empty
 * when they are equal and full when last + 1 (modulo slots) is first, so one slot stays unused.
 *
 * Neither side believes the other: an index is read once into a private copy and checked, and
 * only the copy is used; so is an entry. Entries are read and written as relaxed 64-bit words,
 * which cost what plain accesses cost and keep the compiler from reading one twice.
 *
 * `coalesced litmus` runs these functions through every execution of a small ring. P1 to P3 and C1
 * to C3 are the steps that tools/litmus/steps.py names; a comment starts with the step that the
 * access below it is.
 */
#ifndef COALESCED_RING_H
#define COALESCED_RING_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* The orders that a test weakens one at a time, to see that something finds it. */
#ifndef ORDER_ACQUIRE_FIRST
#define ORDER_ACQUIRE_FIRST memory_order_acquire
#endif
#ifndef ORDER_RELEASE_LAST
#define ORDER_RELEASE_LAST memory_order_release
#endif
#ifndef ORDER_ACQUIRE_LAST
#define ORDER_ACQUIRE_LAST memory_order_acquire
#endif
#ifndef ORDER_RELEASE_FIRST
#define ORDER_RELEASE_FIRST memory_order_release
#endif

/* A place where a test ends the process; nothing in the product. */
#ifndef INJECT
#define INJECT(point) ((void)0)
#endif

struct coalesced_entry {
    uint64_t phys_addr;
    uint32_t len;
    uint32_t pio;
    uint64_t data; /* little endian; bytes from len on mean nothing in the ring */
};

struct coalesced_slot {
    _Atomic uint64_t word[3]; /* phys_addr; len | pio << 32; data */
};

struct coalesced_ring {
    _Atomic uint32_t first;
    _Atomic uint32_t last;
    struct coalesced_slot slot[];
};

_Static_assert(sizeof(struct coalesced_ring) == 8, "ring header");
_Static_assert(sizeof(struct coalesced_slot) == 24, "ring slot");
_Static_assert(sizeof(struct coalesced_entry) == 24, "ring entry");
_Static_assert(offsetof(struct coalesced_entry, data) == 16, "entry data");
_Static_assert(sizeof(_Atomic uint64_t) == 8 && ATOMIC_LLONG_LOCK_FREE == 2, "lock-free words");
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the ring's layout is little endian"
#endif

enum ring_status {
    RING_OK = 0,
    RING_FULL = 1,
    RING_BAD_FIRST = -1,   /* first is no slot, or not one the consumer may be at */
    RING_BAD_LAST = -2,    /* last is no slot, or went backwards */
    RING_BAD_LEN = -3,     /* len not in 1..8 */
    RING_BAD_PIO = -4,     /* pio not in {0, 1} */
    RING_BAD_ADDRESS = -5, /* address + len passes the end of its space */
};

/* Number of slots in a ring of `bytes` bytes, header included; all but one are usable. */
static inline uint32_t ring_slots(size_t bytes)
{
    return (uint32_t)((bytes - sizeof(struct coalesced_ring)) / sizeof(struct coalesced_slot));
}

/* Slots from `from` forward to `to`. */
static inline uint32_t ring_distance(uint32_t from, uint32_t to, uint32_t slots)
{
    return to >= from ? to - from : to + slots - from;
}

/* ---- producer ---------------------------------------------------------------------------- */

struct ring_producer {
    struct coalesced_ring *ring;
    uint32_t slots;
    uint32_t next;      /* slot of the next entry */
    uint32_t published; /* what `last` says; next runs ahead of it within a batch */
    uint32_t first;     /* last checked copy of the consumer's index */
    uint32_t bad;       /* the value behind a RING_BAD_ status */
};

/* Take up a ring where its indices stand. */
static inline enum ring_status ring_producer_init(struct ring_producer *p,
                                                  struct coalesced_ring *ring, size_t bytes)
{
    p->ring = ring;
    p->slots = ring_slots(bytes);
    /* Our own index: no other thread writes it. */
    p->next = p->published = atomic_load_explicit(&ring->last, memory_order_relaxed);
    if (p->next >= p->slots) {
        p->bad = p->next;
        return RING_BAD_LAST;
    }
    /* P1, as in ring_look_first. */
    p->first = atomic_load_explicit(&ring->first, ORDER_ACQUIRE_FIRST);
    if (p->first >= p->slots) {
        p->bad = p->first;
        return RING_BAD_FIRST;
    }
    return RING_OK;
}

/*
 * Ask for the line 16 slots ahead, for writing: the consumer has read it in the last turn, and a
 * store to a line in its cache waits for the line, and so do all stores behind it.
 */
static inline void ring_want(const struct ring_producer *p)
{
    const void *slot = &p->ring->slot[p->next + 16 < p->slots ? p->next + 16 : 0];
#if defined(__x86_64__) || defined(__i386__)
    /* Without -mprfchw __builtin_prefetch would ask to read. Older processors pass it over. */
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)slot));
#else
    __builtin_prefetch(slot, 1);
#endif
}

/* Read the consumer's index anew, and check it. */
static inline enum ring_status ring_look_first(struct ring_producer *p)
{
    /*
     * P1, acquire: pairs with C3, the consumer's release of `first` in ring_commit. Without it
     * what is written after this could land in a slot that the consumer is still reading.
     */
    uint32_t first = atomic_load_explicit(&p->ring->first, ORDER_ACQUIRE_FIRST);
    if (first >= p->slots || ring_distance(p->first, first, p->slots) >
                                 ring_distance(p->first, p->published, p->slots)) {
        p->bad = first;
        return RING_BAD_FIRST;
    }
    p->first = first;
    return RING_OK;
}

/* How many entries ring_put may write before the next look at `first`, up to the ring's end. */
static inline uint32_t ring_room(const struct ring_producer *p)
{
    uint32_t end = p->first > p->next ? p->first - 1 : p->slots - (p->first == 0);
    return end - p->next;
}

/* ring_append where ring_room says that there is room. */
static inline void ring_put(struct ring_producer *p, uint64_t phys_addr, uint32_t len, uint32_t pio,
                            uint64_t data)
{
    struct coalesced_slot *slot = &p->ring->slot[p->next];
    ring_want(p);
    /* P2: P3 orders these words before `last`. */
    atomic_store_explicit(&slot->word[0], phys_addr, memory_order_relaxed);
    atomic_store_explicit(&slot->word[1], (uint64_t)pio << 32 | len, memory_order_relaxed);
    atomic_store_explicit(&slot->word[2], data, memory_order_relaxed);
    p->next = p->next + 1 == p->slots ? 0 : p->next + 1;
}

/*
 * Write one entry behind the last; ring_publish shows it. len is 1..8, pio 0 or 1.
 * RING_FULL leaves the ring as it was.
 */
static inline enum ring_status ring_append(struct ring_producer *p, uint64_t phys_addr,
                                           uint32_t len, uint32_t pio, uint64_t data)
{
    uint32_t after = p->next + 1 == p->slots ? 0 : p->next + 1;

    if (after == p->first) {
        enum ring_status status = ring_look_first(p);
        if (status != RING_OK)
            return status;
        if (after == p->first)
            return RING_FULL;
    }
    ring_put(p, phys_addr, len, pio, data);
    return RING_OK;
}

/* Show the consumer what was appended. */
static inline void ring_publish(struct ring_producer *p)
{
    if (p->published == p->next)
        return;
    INJECT(before_last);
    /*
     * P3, release: pairs with C1, the consumer's acquire of `last` in ring_look. Without it the
     * consumer could see the slot counted in before the slot's bytes (smp_wmb in KVM).
     */
    atomic_store_explicit(&p->ring->last, p->next, ORDER_RELEASE_LAST);
    p->published = p->next;
}

/* ---- consumer ---------------------------------------------------------------------------- */

struct ring_consumer {
    struct coalesced_ring *ring;
    uint32_t slots;
    uint32_t next;   /* what `first` says: the oldest entry not committed */
    uint32_t peeked; /* entries copied out behind next, not yet committed */
    uint32_t last;   /* last checked copy of the producer's index */
    uint32_t slot;   /* the slot behind a RING_BAD_ status of an entry */
    uint64_t bad;    /* the value behind a RING_BAD_ status */
};

/* Take up a ring where its indices stand. */
static inline enum ring_status ring_consumer_init(struct ring_consumer *c,
                                                  struct coalesced_ring *ring, size_t bytes)
{
    c->ring = ring;
    c->slots = ring_slots(bytes);
    c->peeked = 0;
    /* Our own index: no other thread writes it. */
    c->next = c->last = atomic_load_explicit(&ring->first, memory_order_relaxed);
    if (c->next >= c->slots) {
        c->bad = c->next;
        return RING_BAD_FIRST;
    }
    return RING_OK;
}

/* Read the producer's index once, check it, keep the copy. */
static inline enum ring_status ring_look(struct ring_consumer *c)
{
    /*
     * C1, acquire: pairs with P3, the producer's release of `last` in ring_publish. Without it the
     * slots could be read before the index that counts them in (missing in QEMU, harmless only on
     * x86).
     */
    uint32_t last = atomic_load_explicit(&c->ring->last, ORDER_ACQUIRE_LAST);
    if (last >= c->slots ||
        ring_distance(c->next, last, c->slots) < ring_distance(c->next, c->last, c->slots)) {
        c->bad = last;
        return RING_BAD_LAST;
    }
    c->last = last;
    return RING_OK;
}

/* What word 1 of a slot determines. Most entries have the word of the one before. */
struct ring_shape {
    uint64_t word;
    uint64_t mask; /* of data */
    uint64_t most; /* the greatest address */
};

static inline struct ring_shape ring_shape_of(uint32_t len, uint32_t pio)
{
    return (struct ring_shape){.word = (uint64_t)pio << 32 | len,
                               .mask = UINT64_MAX >> (64u - 8u * len),
                               .most = (pio ? UINT64_C(0xffff) : UINT64_MAX) - (len - 1u)};
}

static inline enum ring_status ring_check_entry(const struct coalesced_entry *e, uint64_t *bad)
{
    if (e->len - 1u > 7u) {
        *bad = e->len;
        return RING_BAD_LEN;
    }
    if (e->pio > 1u) {
        *bad = e->pio;
        return RING_BAD_PIO;
    }
    if (e->phys_addr > ring_shape_of(e->len, e->pio).most) {
        *bad = e->phys_addr;
        return RING_BAD_ADDRESS;
    }
    return RING_OK;
}

/*
 * Copy up to `max` of the oldest entries out, checked, data cut to len. They stay in the ring
 * until ring_commit; peeking again before that gives them again. *count is how many. An entry
 * that breaks the rules ends the batch; the status reports it when it is the first.
 */
static inline enum ring_status ring_peek(struct ring_consumer *c, struct coalesced_entry *out,
                                         uint32_t max, uint32_t *count)
{
    *count = 0;
    c->peeked = 0;
    enum ring_status status = ring_look(c);
    if (status != RING_OK)
        return status;
    uint32_t available = ring_distance(c->next, c->last, c->slots);
    if (available > max)
        available = max;
    uint32_t at = c->next, end = c->slots, i;
    struct ring_shape shape = ring_shape_of(1, 0);
    for (i = 0; i < available; i++) {
        const struct coalesced_slot *slot = &c->ring->slot[at];
        struct coalesced_entry *e = &out[i];
        /*
         * Each line comes out of the producer's cache: ask for the sixth from here already. Not for
         * one behind `last`: the producer is writing to it.
         */
        __builtin_prefetch(&c->ring->slot[i + 16 < available && at + 16 < end ? at + 16 : at]);
        /* C2: C1 orders these words after `last`, C3 before `first`. */
        uint64_t address = atomic_load_explicit(&slot->word[0], memory_order_relaxed);
        uint64_t len_pio = atomic_load_explicit(&slot->word[1], memory_order_relaxed);
        uint64_t data = atomic_load_explicit(&slot->word[2], memory_order_relaxed);
        *e = (struct coalesced_entry){address, (uint32_t)len_pio, (uint32_t)(len_pio >> 32), data};
        if (len_pio != shape.word || address > shape.most) {
            status = ring_check_entry(e, &c->bad);
            if (status != RING_OK) {
                c->slot = at;
                break;
            }
            shape = ring_shape_of(e->len, e->pio);
        }
        e->data = data & shape.mask;
        at = at + 1 == end ? 0 : at + 1;
    }
    *count = c->peeked = i;
    return i ? RING_OK : status;
}

/* Give `count` peeked entries' slots back; count is at most what the last peek copied. */
static inline void ring_commit(struct ring_consumer *c, uint32_t count)
{
    c->next += count;
    if (c->next >= c->slots)
        c->next -= c->slots;
    c->peeked -= count;
    INJECT(before_first);
    /*
     * C3, release: pairs with P1, the producer's acquire of `first` in ring_look_first. Without it
     * the slot could be handed back before its reads are done (left open in the 2008 patch).
     */
    atomic_store_explicit(&c->ring->first, c->next, ORDER_RELEASE_FIRST);
}

#endif

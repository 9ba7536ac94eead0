/*
 * The waits of queued writes: notes of the guest beside the ring, whose entries have no room.
 *
 * After each exit, and after each sleep, the guest notes the time of the next entry that it
 * publishes, and the entry's number since the start. The VMM drains the VM's ring at every exit, so
 * that this is the oldest entry of a batch; those behind it waited no longer. In a ring of a
 * device's own the first entry after the ring was empty takes the place of that after an exit.
 * Notes go ahead of `last` (P3 and C1 of ring.h order them), and none is changed before the next
 * exit, or before the own ring is empty again.
 */
#ifndef COALESCED_WAITS_H
#define COALESCED_WAITS_H

#include "exit.h"
#include "ring.h"

#define WAITS_OFFSET 3072u /* in page 0 of the run segment, behind our other words */
#define WAIT_NOTES 16u     /* between two exits; entries after the last one go by it */

struct run_waits {
    _Alignas(64) _Atomic uint64_t slept; /* entries published when the guest slept on some */
    _Atomic uint64_t noted;
    struct {
        _Atomic uint64_t number, ns;
    } note[WAIT_NOTES];
};

_Static_assert(RUN_WORDS_OFFSET + sizeof(struct run_words) <= WAITS_OFFSET, "words, then notes");
_Static_assert(WAITS_OFFSET + sizeof(struct run_waits) <= 4096, "notes fit in page 0");

static inline struct run_waits *run_waits_of(void *run_page)
{
    return (struct run_waits *)(void *)((uint8_t *)run_page + WAITS_OFFSET);
}

/* The guest's side. */
struct wait_noter {
    struct run_waits *shared;
    uint64_t published; /* entries so far */
    uint32_t noted;
    bool due; /* the next entry gets a note */
};

/* An exit has ended: the ring is empty, and what was noted is of no more use. */
static inline void waits_restart(struct wait_noter *w)
{
    w->noted = 0;
    w->due = true;
}

/* Publish what was appended, with a note where one is due. */
static inline void waits_publish(struct wait_noter *w, struct ring_producer *ring)
{
    if (ring->published == ring->next)
        return;
    if (w->due) {
        w->due = false;
        if (w->noted < WAIT_NOTES) {
            atomic_store_explicit(&w->shared->note[w->noted].number, w->published,
                                  memory_order_relaxed);
            atomic_store_explicit(&w->shared->note[w->noted].ns, now_ns(), memory_order_relaxed);
            atomic_store_explicit(&w->shared->noted, ++w->noted, memory_order_relaxed);
        }
    }
    w->published += ring_distance(ring->published, ring->next, ring->slots);
    ring_publish(ring);
}

/* Are entries queued, as far as the VMM's index says? */
static inline bool waits_queued(const struct ring_producer *ring)
{
    return atomic_load_explicit(&ring->ring->first, memory_order_relaxed) != ring->published;
}

/* The guest is about to sleep: say so if entries are queued. */
static inline void waits_sleep(struct wait_noter *w, const struct ring_producer *ring)
{
    w->due = true;
    if (waits_queued(ring))
        atomic_store_explicit(&w->shared->slept, w->published, memory_order_relaxed);
}

/* The VMM's side: a histogram of 16 steps an octave, and the ranges that were slept on. */
#define WAIT_BUCKETS 976u
#define WAIT_RANGES 16u

struct wait_range {
    uint64_t low, high, writes, ns;
    uint32_t pio;
};

struct wait_counts {
    struct run_waits *shared; /* NULL: nobody notes */
    uint64_t taken;           /* entries committed so far */
    uint64_t looked_at, looked_before;
    uint64_t bucket[WAIT_BUCKETS];
    uint64_t longest;
    struct coalesced_entry longest_entry;
    uint32_t ranges;
    struct wait_range range[WAIT_RANGES];
};

void waits_follow(struct wait_counts *w, void *run_page);
/* The `count` oldest entries of what was looked at at `looked_at` are done. */
void waits_account(struct wait_counts *w, const struct coalesced_entry *batch, uint32_t count);
/* The wait in ns that a share of the writes, `percent` of 100, did not exceed. */
uint64_t waits_percentile(const struct wait_counts *w, uint64_t percent);

#endif

/* A ring of a kernel: how many entries it holds, and when a write exits. */
#ifndef COALESCED_ADVISE_RING_H
#define COALESCED_ADVISE_RING_H

#include "record.h"

/* Kernels that are not mended take it for full with `least` entries where these do not go round its
 * end. `first`: slots that were drained since the first one. */
struct ring {
    uint64_t slots, least, first, entries;
    int mended;
    int64_t exits;
};

static inline uint64_t room_of(const struct ring *ring)
{
    bool most = ring->mended || ring->first % ring->slots + ring->least >= ring->slots;
    return most ? ring->slots - 1 : ring->least;
}

static inline void drain(struct ring *ring)
{
    ring->first += ring->entries;
    ring->entries = 0;
}

/* Does the write exit, because the ring is full? */
static inline bool put(struct ring *ring)
{
    if (ring->entries < room_of(ring)) {
        ring->entries++;
        return false;
    }
    drain(ring);
    ring->exits++;
    return true;
}

/* Of writes in zones that were queued: those right before which the ring was drained, though no
 * line of an exit shows it. By their number among all that were queued, ascending. */
struct drained {
    size_t count, next;
    int64_t *at, queued;
};

/* Is the ring drained right before a write that was queued? */
static inline bool was_drained(struct drained *d)
{
    d->queued++;
    if (d->next == d->count || d->at[d->next] != d->queued - 1)
        return false;
    d->next++;
    return true;
}

/* The outcome of an event in some zones. */
struct outcome {
    bool within,
        exits; /* is it a write in a zone; does it exit otherwise, which drains the ring? */
};

/* An event with these zones, in place of those that were in force. */
static inline struct outcome with_zones(const struct whole *w, const struct record *r, bool within)
{
    bool exited = exits(w, r);
    bool queued = (r->traits & (WRITE | PORT | KERNEL)) == WRITE && !exited;
    bool alone = (exited && is_single(r)) || queued;
    return (struct outcome){within, drains(w, r) || (alone && !within)};
}

#endif

/* One side of a ring at full speed, each entry numbered and checked. */
#ifndef COALESCED_DRIVE_H
#define COALESCED_DRIVE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "user_ring.h"

#define BATCH_MOST 1024u
#define SEEN 65536u    /* numbers remembered, to tell a late entry from a second one */
#define SAMPLES 65536u /* latencies kept */

struct ring_ops {
    size_t (*size)(uint32_t entries);
    int (*init)(void *memory, uint32_t entries);
    int (*push)(void *memory, const struct user_ring_entry *entry);
    int (*pop)(void *memory, struct user_ring_entry *entry);
    int (*push_many)(void *memory, const struct user_ring_entry *entries, uint32_t count);
    int (*pop_many)(void *memory, struct user_ring_entry *entries, uint32_t most);
    int (*wait)(void *memory, int milliseconds);
    int (*attach)(void *memory, int producer);
};

/* Shared by the two sides and their parent; control.py has the same words. */
struct control {
    /* The parent's. */
    _Alignas(64) _Atomic uint64_t go;
    _Atomic uint64_t stop;
    _Atomic uint64_t gap_from, gap_to; /* numbers that a killed side may have taken along */
    _Atomic uint64_t again_from;       /* to gap_to: numbers that may come a second time */
    /* The producer's. */
    _Alignas(64) _Atomic uint64_t producer_ready;
    _Atomic uint64_t producer_done, producer_calls; /* done: its loop has returned */
    _Atomic uint64_t pushing;                       /* numbers below may be in the ring */
    _Atomic uint64_t pushed;                        /* numbers below are */
    _Atomic uint64_t pushed_at, pushed_by; /* ns around the last push in a run of single entries */
    /* The consumer's. */
    _Alignas(64) _Atomic uint64_t consumer_ready;
    _Atomic uint64_t consumer_done, consumer_calls;
    _Atomic uint64_t next;    /* the number that must come next */
    _Atomic uint64_t popping; /* entries that a pop may be taking out */
    _Atomic uint64_t lost, duplicated, redelivered, reordered, torn, waits, slept_through, samples;
    _Alignas(64) _Atomic uint64_t seen[SEEN];
    uint32_t latency[SAMPLES]; /* ns */
};

struct drive_job {
    void *memory;
    struct control *control;
    uint64_t seed;
    uint64_t until; /* number of the entry that ends the run */
    uint32_t burst; /* entries a push_many or pop_many at most */
    uint32_t pause; /* loop turns at most before a single entry, once the last was taken; 0: none */
    int wait;       /* ms that the consumer waits when the ring is empty; 0: it looks again */
    bool strict;    /* false: a third party writes into the memory, entries are not judged */
};

enum drive_status { DRIVE_OK = 0, DRIVE_REFUSED = 1, DRIVE_NONSENSE = 2 };

/* The ring: the user's, ours through the same pointers, or ours inlined. */
enum { RING_USERS, RING_OURS, RING_FLOOR };

extern struct ring_ops drive_user;
extern const struct ring_ops drive_ours;

enum drive_status drive_produce(int ring, const struct drive_job *job);
enum drive_status drive_consume(int ring, const struct drive_job *job);

#endif

/*
 * Two threads on one ring: every entry arrives once, in order and whole.
 *
 *     ring_stress BYTES START ENTRIES
 *
 * BYTES is the ring's size, START where both indices stand at first. The producer publishes in
 * batches of changing length, the consumer peeks and commits in parts. Beside each slot lies a plain
 * number, written and read as the slot is: the slots' own words are atomic, so that TSan would say
 * nothing about a missing acquire or release, but of the plain numbers it does. Exit status 0 when
 * all is well; a line on stderr and 1 otherwise. Run under TSan, ASan and UBSan.
 */
#define _GNU_SOURCE
#include "ring.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 64

static struct coalesced_ring *ring;
static size_t bytes;
static uint64_t entries;
static uint32_t start;
static uint64_t *beside; /* a plain number per slot */

/* All of an entry follows from its number, so that a torn one shows. */
static struct coalesced_entry expected(uint64_t n)
{
    struct coalesced_entry e;
    e.len = 1 + (uint32_t)(n % 8);
    e.pio = (uint32_t)(n / 8 % 2);
    e.phys_addr = e.pio ? n % 0xfff0 : n * UINT64_C(0x9e3779b97f4a7c15) >> 8;
    e.data = (n * UINT64_C(0xd1342543de82ef95)) & (UINT64_MAX >> (64 - 8 * e.len));
    return e;
}

static void fail(const char *what, uint64_t n)
{
    fprintf(stderr, "entry %llu: %s\n", (unsigned long long)n, what);
    exit(1);
}

static void *produce(void *unused)
{
    struct ring_producer p;
    (void)unused;
    if (ring_producer_init(&p, ring, bytes) != RING_OK)
        fail("the producer does not start", 0);
    uint32_t hidden = 0;
    for (uint64_t n = 0; n < entries;) {
        struct coalesced_entry e = expected(n);
        enum ring_status status = ring_append(&p, e.phys_addr, e.len, e.pio, e.data);
        if (status < 0)
            fail("the producer finds a bad index", n);
        if (status == RING_FULL) {
            ring_publish(&p);
            hidden = 0;
            sched_yield();
            continue;
        }
        beside[(start + n) % p.slots] = n;
        n++;
        if (++hidden > n % BATCH) {
            ring_publish(&p);
            hidden = 0;
        }
    }
    ring_publish(&p);
    return NULL;
}

static void consume(void)
{
    struct ring_consumer c;
    struct coalesced_entry out[BATCH];
    if (ring_consumer_init(&c, ring, bytes) != RING_OK)
        fail("the consumer does not start", 0);
    for (uint64_t n = 0; n < entries;) {
        uint32_t count;
        if (ring_peek(&c, out, 1 + (uint32_t)(n % BATCH), &count) != RING_OK)
            fail("the consumer finds what breaks the rules", n);
        if (count == 0) {
            sched_yield();
            continue;
        }
        /* Not always all of them: the rest must come again. */
        uint32_t taken = n % 3 ? count : (count + 1) / 2;
        for (uint32_t i = 0; i < taken; i++) {
            struct coalesced_entry e = expected(n + i);
            if (memcmp(&out[i], &e, sizeof e) != 0)
                fail("it is lost, doubled, out of order or torn", n + i);
            if (beside[(start + n + i) % c.slots] != n + i)
                fail("it was seen before what was written before it", n + i);
        }
        ring_commit(&c, taken);
        n += taken;
    }
    uint32_t count;
    if (ring_peek(&c, out, BATCH, &count) != RING_OK || count != 0)
        fail("there are more than were put in", entries);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    bytes = strtoul(argv[1], NULL, 0);
    start = (uint32_t)strtoul(argv[2], NULL, 0);
    entries = strtoull(argv[3], NULL, 0);
    /* Exactly so many bytes: ASan sees a slot too far. */
    ring = aligned_alloc(8, bytes);
    beside = calloc(ring_slots(bytes), sizeof *beside);
    if (!ring || !beside)
        return 2;
    memset(ring, 0, bytes);
    atomic_store(&ring->first, start);
    atomic_store(&ring->last, start);
    pthread_t producer;
    if (pthread_create(&producer, NULL, produce, NULL) != 0)
        return 2;
    consume();
    pthread_join(producer, NULL);
    if (atomic_load(&ring->first) != (start + entries) % ring_slots(bytes))
        fail("the indices do not stand where they should", entries);
    free(beside);
    free(ring);
    return 0;
}

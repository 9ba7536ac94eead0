/*
 * Several producers on one ring under its lock, and a consumer that accounts for every entry.
 *
 *     ring_lock PRODUCERS ENTRIES BATCH
 *
 * Each producer appends ENTRIES entries, up to BATCH per holding of the lock.
 */
#define _GNU_SOURCE
#include "exit.h"
#include "ring.h"

#include "ring_lock.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define BYTES 4096u
#define MOST_PRODUCERS 8u

static _Alignas(64) uint8_t memory[BYTES];
static struct ring_lock lock;
static struct ring_producer producer; /* plain memory: the lock orders it */
static uint32_t entries, batch;

static void *produce(void *number)
{
    uint64_t who = (uint64_t)(uintptr_t)number;
    uint32_t done = 0;
    while (done < entries) {
        uint32_t end = entries - done < batch ? entries : done + batch;
        ring_lock_take(&lock);
        while (done < end && ring_append(&producer, who, 8, 0, done) == RING_OK)
            done++;
        ring_publish(&producer);
        ring_lock_give(&lock);
        sched_yield();
    }
    return NULL;
}

static int consume(struct ring_consumer *c, uint32_t producers)
{
    static struct coalesced_entry out[BYTES / sizeof(struct coalesced_slot)];
    static uint64_t next[MOST_PRODUCERS];
    for (uint64_t left = (uint64_t)producers * entries; left > 0;) {
        uint32_t count;
        if (ring_peek(c, out, c->slots, &count) != RING_OK)
            return 1;
        for (uint32_t i = 0; i < count; i++) {
            if (out[i].phys_addr >= producers || out[i].data != next[out[i].phys_addr]++) {
                fprintf(stderr, "producer %u: entry %u is not the next one\n",
                        (unsigned)out[i].phys_addr, (unsigned)out[i].data);
                return 1;
            }
        }
        ring_commit(c, count);
        left -= count;
        if (count == 0)
            sched_yield();
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    uint32_t producers = (uint32_t)strtoul(argv[1], NULL, 0);
    entries = (uint32_t)strtoul(argv[2], NULL, 0);
    batch = (uint32_t)strtoul(argv[3], NULL, 0);
    struct coalesced_ring *ring = (struct coalesced_ring *)(void *)memory;
    struct ring_consumer consumer;
    pthread_t thread[MOST_PRODUCERS];
    if (producers > MOST_PRODUCERS || ring_producer_init(&producer, ring, BYTES) != RING_OK ||
        ring_consumer_init(&consumer, ring, BYTES) != RING_OK)
        return 2;
    for (uint32_t i = 0; i < producers; i++)
        if (pthread_create(&thread[i], NULL, produce, (void *)(uintptr_t)i) != 0)
            return 2;
    int result = consume(&consumer, producers);
    if (result)
        return result; /* the producers end with the process */
    for (uint32_t i = 0; i < producers; i++)
        pthread_join(thread[i], NULL);
    return 0;
}

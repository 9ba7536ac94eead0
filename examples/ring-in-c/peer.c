/*
 * One side of a Ring of Python, in C alone:
 *
 *      peer produce|consume MEMORY PRODUCER_BELL CONSUMER_BELL
 *
 * The numbers are those of the descriptors that `Ring.fds` has, inherited from Python.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "shared_ring.h"

#define NUMBERS 100000u
#define BATCH 64u

/* Why nothing comes from the other side any more. */
static int ended(enum shared_ring_result result)
{
    static const char *const words[] = {
        [SHARED_RING_CLOSED_BY_PEER] = "the other side has closed its end",
        [SHARED_RING_PEER_GONE] = "the other side's process has ended",
        [SHARED_RING_ERROR] = "no descriptors are left",
    };
    fprintf(stderr, "peer: %s\n", words[result]);
    return 1;
}

static int produce(struct shared_ring_end *end, struct coalesced_ring *ring, size_t bytes)
{
    struct ring_producer producer;
    if (ring_producer_init(&producer, ring, bytes) != RING_OK)
        return 1;
    for (uint64_t number = 0; number < NUMBERS;) {
        enum ring_status status = ring_append(&producer, number, 8, 0, number * number);
        if (status < 0)
            return 1; /* the consumer broke the rules: producer.bad is what it wrote */
        number += status == RING_OK;
        if (status == RING_OK && number % BATCH && number < NUMBERS)
            continue;
        ring_publish(&producer);
        doorbell_signal(&end->bell);
        if (status == RING_FULL) {
            enum shared_ring_result result = shared_ring_sleep(end, NULL, &producer, UINT64_MAX);
            if (result != SHARED_RING_READY)
                return ended(result);
        }
    }
    return 0;
}

static int consume(struct shared_ring_end *end, struct coalesced_ring *ring, size_t bytes)
{
    struct ring_consumer consumer;
    struct coalesced_entry batch[BATCH];
    uint64_t received = 0, total = 0;
    if (ring_consumer_init(&consumer, ring, bytes) != RING_OK)
        return 1;
    for (;;) {
        uint32_t count;
        if (ring_peek(&consumer, batch, BATCH, &count) != RING_OK)
            return 1; /* the producer broke the rules: consumer.slot and consumer.bad say where */
        for (uint32_t i = 0; i < count; i++)
            total += batch[i].data;
        received += count;
        if (count) {
            ring_commit(&consumer, count);
            doorbell_signal(&end->bell);
            continue;
        }
        enum shared_ring_result result = shared_ring_sleep(end, &consumer, NULL, UINT64_MAX);
        if (result == SHARED_RING_CLOSED_BY_PEER)
            break;
        if (result != SHARED_RING_READY)
            return ended(result);
    }
    printf("%llu numbers, sum %llu\n", (unsigned long long)received, (unsigned long long)total);
    return 0;
}

int main(int count, char **words)
{
    struct stat memory;
    struct shared_ring_end end;
    if (count != 5 || fstat(atoi(words[2]), &memory) < 0)
        return 2;
    size_t bytes = (size_t)memory.st_size;
    struct shared_ring *shared =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(words[2]), 0);
    if (shared == MAP_FAILED || !shared_ring_is_one(shared, bytes))
        return 2;
    bool produces = strcmp(words[1], "produce") == 0;
    if (!shared_ring_join(&end, shared, produces, atoi(words[produces ? 3 : 4])))
        return 2;
    struct coalesced_ring *ring = shared_ring_ring(shared);
    size_t ring_bytes = bytes - SHARED_RING_OFFSET;
    int status = produces ? produce(&end, ring, ring_bytes) : consume(&end, ring, ring_bytes);
    shared_ring_leave(&end);
    return status;
}

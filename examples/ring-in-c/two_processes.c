/* The ring of ring.h from C alone: a child appends numbers, the parent adds them up. */
#include <stdio.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ring.h"

#define BYTES 4096u
#define NUMBERS 100000u
#define BATCH 64u

static int produce(struct coalesced_ring *ring)
{
    struct ring_producer producer;
    if (ring_producer_init(&producer, ring, BYTES) != RING_OK)
        return 1;
    for (uint64_t number = 0; number < NUMBERS;) {
        enum ring_status status = ring_append(&producer, number, 8, 0, number * number);
        if (status < 0)
            return 1; /* the consumer broke the rules: producer.bad is what it wrote */
        number += status == RING_OK;
        if (status == RING_FULL || number % BATCH == 0)
            ring_publish(&producer);
        if (status == RING_FULL)
            sched_yield();
    }
    ring_publish(&producer);
    return 0;
}

static int consume(struct coalesced_ring *ring)
{
    struct ring_consumer consumer;
    struct coalesced_entry batch[BATCH];
    uint64_t received = 0, total = 0;
    if (ring_consumer_init(&consumer, ring, BYTES) != RING_OK)
        return 1;
    while (received < NUMBERS) {
        uint32_t count;
        if (ring_peek(&consumer, batch, BATCH, &count) != RING_OK)
            return 1; /* the producer broke the rules: consumer.slot and consumer.bad say where */
        for (uint32_t i = 0; i < count; i++)
            total += batch[i].data;
        if (count)
            ring_commit(&consumer, count);
        else
            sched_yield();
        received += count;
    }
    printf("%u numbers through %u slots, sum %llu\n", NUMBERS, ring_slots(BYTES) - 1,
           (unsigned long long)total);
    return 0;
}

int main(void)
{
    int status;
    void *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return 1;
    pid_t child = fork();
    if (child < 0)
        return 1;
    if (child == 0)
        _exit(produce(memory));
    int failed = consume(memory);
    waitpid(child, &status, 0);
    return failed || status;
}

/*
 * Two threads, a ring and its descriptor: no entry waits behind a signal that nobody sends.
 *
 *     own_ring ROUNDS
 *
 * In each round the guest publishes two entries, the second at about the time at which the VMM
 * answers the signal of the first, and waits until both are consumed.
 */
#define _GNU_SOURCE
#include "exit.h"
#include "own_ring.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#define BYTES 4096u
#define PATIENCE UINT64_C(3000000000) /* ns after which nobody signals any more */
#define DELAYS 400u                   /* of the second entry: up to so many pauses */

static _Alignas(64) uint8_t memory[BYTES];
static struct own_ring_words words;
static uint32_t rounds;
static int fd;

static void append(struct ring_producer *p, uint64_t value)
{
    ring_append(p, 0, 8, 0, value);
    ring_publish(p);
    static const uint64_t one = 1;
    if (own_ring_announce(&words, p, 1) && write(fd, &one, sizeof one) < 0)
        exit(2);
}

static void *run_guest(void *unused)
{
    (void)unused;
    struct ring_producer p;
    ring_producer_init(&p, (struct coalesced_ring *)(void *)memory, BYTES);
    uint32_t chance = 1;
    for (uint64_t n = 0; n < rounds; n++) {
        append(&p, 2 * n);
        chance = chance * 1664525u + 1013904223u;
        for (uint32_t i = (chance >> 16) % DELAYS; i > 0; i--)
            cpu_relax();
        append(&p, 2 * n + 1);
        while (atomic_load_explicit(&p.ring->first, memory_order_relaxed) != p.published)
            cpu_relax();
    }
    return NULL;
}

/* Wait for a signal, and answer it. */
static void await(uint64_t done)
{
    uint64_t count, limit = now_ns() + PATIENCE;
    while (read(fd, &count, sizeof count) < 0)
        if (now_ns() > limit) {
            fprintf(stderr, "the signal behind entry %llu is lost\n", (unsigned long long)done);
            exit(1);
        }
    own_ring_answer(&words);
}

int main(int argc, char **argv)
{
    static struct coalesced_entry out[BYTES / sizeof(struct coalesced_slot)];
    struct ring_consumer c;
    pthread_t thread;
    fd = eventfd(0, EFD_NONBLOCK);
    if (argc < 2 || fd < 0 ||
        ring_consumer_init(&c, (struct coalesced_ring *)(void *)memory, BYTES) != RING_OK)
        return 2;
    rounds = (uint32_t)strtoul(argv[1], NULL, 0);
    if (pthread_create(&thread, NULL, run_guest, NULL) != 0)
        return 2;
    for (uint64_t done = 0; done < 2 * (uint64_t)rounds;) {
        uint32_t count;
        await(done);
        if (ring_peek(&c, out, c.slots, &count) != RING_OK)
            return 1;
        for (uint32_t i = 0; i < count; i++)
            if (out[i].data != done++) {
                fprintf(stderr, "entry %llu is another one\n", (unsigned long long)done - 1);
                return 1;
            }
        ring_commit(&c, count);
    }
    pthread_join(thread, NULL);
    return 0;
}

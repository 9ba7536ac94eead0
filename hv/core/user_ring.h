/*
 * A ring of your own, as `coalesced stress --ring FILE` and `coalesced bench ring --ring FILE` run it.
 *
 * FILE is a C file or header that defines the functions below (extern or static), or a shared
 * object that exports them:
 *
 *      size_t ring_size(uint32_t entries);
 *          Bytes of shared memory for a ring that holds at least `entries` entries (1 to 16384);
 *          0 for more than it can hold, as for 2 of a mailbox of one.
 *      int ring_init(void *memory, uint32_t entries);
 *          Called once for zeroed memory of that size, aligned to 64 bytes, before either side
 *          runs; 0 on success.
 *      int ring_push(void *memory, const struct user_ring_entry *entry);
 *          The producer: 1 when the entry is in the ring, 0 when the ring is full, below 0 when
 *          the memory breaks the ring's rules.
 *      int ring_pop(void *memory, struct user_ring_entry *entry);
 *          The consumer: 1 with the oldest entry, 0 when the ring is empty, below 0 as above.
 *
 * and may define
 *
 *      int ring_push_many(void *memory, const struct user_ring_entry *entries, uint32_t count);
 *      int ring_pop_many(void *memory, struct user_ring_entry *entries, uint32_t most);
 *          How many of the entries went in or came out, from the first on; below 0 as above.
 *      int ring_wait(void *memory, int milliseconds);
 *          The consumer: sleep until there is an entry, 1, or until the time has passed, 0. A push
 *          wakes it.
 *      int ring_attach(void *memory, int producer);
 *          Called by each side's process (producer: 1, consumer: 0) before its first operation,
 *          also when it takes the place of one that was killed; 0 on success. A ring that keeps
 *          something in variables of its own sets it up here.
 *      const char ring_claims[];
 *          The properties, separated by spaces, that the ring promises beside lossless, in order
 *          and untorn: producer-death, consumer-death, hostile-indices, no-lost-wakeup. Without
 *          it all but hostile-indices are tested, the last one where there is a ring_wait.
 *
 * There is one producer and one consumer, each a process of its own, mapped at the same address.
 * Within push and pop RING_POINT("name") names a place at which a test kills the process.
 *
 * Promises when a side is killed:
 *      producer-death: every entry whose push returned 1 arrives; of the push that was cut short,
 *          any entries from its first on may. The next producer goes on, and the ring holds as many as before.
 *      consumer-death: the next consumer goes on. The entries of the pop that was cut short, and
 *          no others, may be missing; entries may come a second time. The ring holds as many as
 *          before.
 *      hostile-indices: whatever stands in the memory, each function returns, within the memory.
 */
#ifndef COALESCED_USER_RING_H
#define COALESCED_USER_RING_H

#include <stddef.h>
#include <stdint.h>

struct user_ring_entry {
    uint64_t word[3];
};

/* Set by the test in the process that it is about to kill. */
__attribute__((weak, visibility("default"))) void (*user_ring_point)(const char *name);

#define RING_POINT(name) (user_ring_point ? user_ring_point(name) : (void)0)

#endif

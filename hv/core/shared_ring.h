/*
 * A ring of ring.h that two processes share, each of which can wait for the other.
 *
 * The memory is a page of words, then the ring. Beside it either side has one end of a connected
 * pair of stream sockets, as its doorbell (exit.h): a byte wakes the other side, and says nothing.
 *
 * A side's `owner` says which process is there: its id in the low 32 bits, above it 31 bits of its
 * start time, so that another process that has got the id since is not taken for it. Bit 63 is set
 * when the owner has closed its end; 0: nobody has been there yet.
 */
#ifndef COALESCED_SHARED_RING_H
#define COALESCED_SHARED_RING_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "exit.h"
#include "ring.h"

#define SHARED_RING_MAGIC UINT64_C(0x676e69726c616f63) /* "coalring" */
#define SHARED_RING_VERSION 1u
#define SHARED_RING_OFFSET 4096u /* where the ring begins */
#define SHARED_RING_CLOSED (UINT64_C(1) << 63)

struct shared_ring_side {
    _Alignas(64) _Atomic uint64_t owner;       /* this side */
    _Alignas(64) _Atomic uint32_t need_wakeup; /* this side: about to sleep, or asleep */
};

struct shared_ring {
    uint64_t magic;
    uint32_t version;
    uint32_t ring_bytes;
    struct shared_ring_side producer, consumer;
};

_Static_assert(sizeof(struct shared_ring) <= SHARED_RING_OFFSET, "the words fit in their page");
_Static_assert(offsetof(struct shared_ring, producer) == 64, "producer's words");
_Static_assert(offsetof(struct shared_ring, consumer) == 192, "consumer's words");

/* Prepare zeroed memory of `bytes` bytes. */
static inline void shared_ring_init(struct shared_ring *s, size_t bytes)
{
    s->magic = SHARED_RING_MAGIC;
    s->version = SHARED_RING_VERSION;
    s->ring_bytes = (uint32_t)(bytes - SHARED_RING_OFFSET);
}

static inline struct coalesced_ring *shared_ring_ring(struct shared_ring *s)
{
    return (struct coalesced_ring *)(void *)((uint8_t *)s + SHARED_RING_OFFSET);
}

/* What `owner` says of process `pid`; 0 when it is gone. Needs /proc. */
static inline uint64_t shared_ring_mark(pid_t pid)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    /* Field 22; the second, the name, is in parentheses and may hold spaces. */
    const char *at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (!at)
        return 0;
    return (strtoull(at, NULL, 10) & 0x7fffffffu) << 32 | (uint32_t)pid;
}

/*
 * A descriptor that is readable when the process of `owner` has ended (a pidfd); -1 with errno
 * ESRCH when it has ended and is gone, with another errno when the machine has no room.
 */
static inline int shared_ring_watch(uint64_t owner)
{
    pid_t pid = (pid_t)(owner & 0xffffffffu);
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) {
        if (errno == EINVAL) /* no process has such an id */
            errno = ESRCH;
        return -1;
    }
    /* The pidfd keeps the id from being used anew: after this it is the right process. */
    if (shared_ring_mark(pid) == (owner & ~SHARED_RING_CLOSED))
        return fd;
    close(fd);
    errno = ESRCH;
    return -1;
}

static inline bool shared_ring_owner_lives(uint64_t owner)
{
    if (owner == 0 || owner & SHARED_RING_CLOSED)
        return false;
    int fd = shared_ring_watch(owner);
    if (fd < 0)
        return errno != ESRCH;
    struct pollfd ended = {.fd = fd, .events = POLLIN};
    bool lives = poll(&ended, 1, 0) == 0;
    close(fd);
    return lives;
}

/* Wake the other side, whether it says that it sleeps or not: the state of this side has changed. */
static inline void shared_ring_call(int bell)
{
    ssize_t n;
    do
        n = write(bell, "", 1);
    while (n < 0 && errno == EINTR);
}

/*
 * Become the owner of a side, also in place of one that has closed it or has ended. False when it
 * has an owner that lives, whose word is then in *owner, or 0 without /proc. Call ring_producer_init or
 * ring_consumer_init after this: both go on where the indices stand.
 */
static inline bool shared_ring_attach(struct shared_ring_side *own, int bell, uint64_t *owner)
{
    uint64_t mark = shared_ring_mark(getpid());
    /* Acquire: pairs with the release of the last owner's shared_ring_detach: its index is final. */
    *owner = atomic_load_explicit(&own->owner, memory_order_acquire);
    if (mark == 0) /* no /proc */
        *owner = 0;
    if (mark == 0 || shared_ring_owner_lives(*owner))
        return false;
    if (!atomic_compare_exchange_strong_explicit(&own->owner, owner, mark, memory_order_acq_rel,
                                                 memory_order_acquire))
        return false;
    *owner = mark;
    atomic_store_explicit(&own->need_wakeup, 0, memory_order_relaxed);
    shared_ring_call(bell);
    return true;
}

/* Close a side. */
static inline void shared_ring_detach(struct shared_ring_side *own, uint64_t mark, int bell)
{
    /*
     * Release: pairs with the other side's acquire in shared_ring_peer. Without it the consumer
     * could see that the producer is gone before the last entries, and end without them.
     */
    atomic_store_explicit(&own->owner, mark | SHARED_RING_CLOSED, memory_order_release);
    shared_ring_call(bell);
}

/* The other side's `owner`; the ring's index of that side is to be read after this. */
static inline uint64_t shared_ring_peer(struct shared_ring_side *peer)
{
    return atomic_load_explicit(&peer->owner, memory_order_acquire);
}

/* The doorbell of a side; `fd`: its socket. */
static inline struct doorbell shared_ring_bell(struct shared_ring_side *own,
                                               struct shared_ring_side *peer, int fd)
{
    return (struct doorbell){.own_need_wakeup = &own->need_wakeup,
                             .peer_need_wakeup = &peer->need_wakeup,
                             .sleep_fd = fd,
                             .wake_fd = fd,
                             .life_fd = -1,
                             .watch_fd = -1,
                             .policy = WAIT_ADAPTIVE,
                             .spin_ns = SPIN_MOST_NS,
                             .undrained = true};
}

#endif

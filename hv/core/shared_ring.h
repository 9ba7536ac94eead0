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

#ifndef ORDER_RELEASE_OWNER
#define ORDER_RELEASE_OWNER memory_order_release
#endif
#ifndef ORDER_ACQUIRE_OWNER
#define ORDER_ACQUIRE_OWNER memory_order_acquire
#endif
#ifndef ORDER_TAKE_OWNER
#define ORDER_TAKE_OWNER memory_order_acquire
#endif

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

/* Is a mapping of `bytes` bytes that another process has passed such a ring? */
static inline bool shared_ring_is_one(const struct shared_ring *s, size_t bytes)
{
    return bytes >= SHARED_RING_OFFSET + 4096 && s->magic == SHARED_RING_MAGIC &&
           s->version == SHARED_RING_VERSION && s->ring_bytes == bytes - SHARED_RING_OFFSET;
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
    *owner = atomic_load_explicit(&own->owner, memory_order_relaxed);
    if (mark == 0) /* no /proc */
        *owner = 0;
    if (mark == 0 || shared_ring_owner_lives(*owner))
        return false;
    /* O3, acquire: pairs with O1 of the last owner, whose index is final then. */
    if (!atomic_compare_exchange_strong_explicit(&own->owner, owner, mark, ORDER_TAKE_OWNER,
                                                 memory_order_relaxed))
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
     * O1, release: pairs with O2, the other side's acquire in shared_ring_peer. Without it the
     * consumer could see that the producer is gone before the last entries, and end without them.
     */
    atomic_store_explicit(&own->owner, mark | SHARED_RING_CLOSED, ORDER_RELEASE_OWNER);
    shared_ring_call(bell);
}

/* The other side's `owner`; the ring's index of that side is to be read after this. */
static inline uint64_t shared_ring_peer(struct shared_ring_side *peer)
{
    /* O2, acquire: pairs with O1, the close. Without it the index could be older than the word. */
    return atomic_load_explicit(&peer->owner, ORDER_ACQUIRE_OWNER);
}

/* One side in its process. */
struct shared_ring_end {
    struct shared_ring_side *own, *peer;
    struct doorbell bell;
    uint64_t mark;     /* of this process as the owner */
    uint64_t followed; /* the other side's owner, whose pidfd life_fd is, */
    bool gone;         /* and it has ended */
};

/* Become the owner of a side with its socket, as shared_ring_attach does. */
static inline bool shared_ring_join(struct shared_ring_end *e, struct shared_ring *s, bool produces,
                                    int socket)
{
    *e = (struct shared_ring_end){.own = produces ? &s->producer : &s->consumer,
                                  .peer = produces ? &s->consumer : &s->producer};
    e->bell = (struct doorbell){.own_need_wakeup = &e->own->need_wakeup,
                                .peer_need_wakeup = &e->peer->need_wakeup,
                                .sleep_fd = socket,
                                .wake_fd = socket,
                                .life_fd = -1,
                                .watch_fd = -1,
                                .policy = WAIT_ADAPTIVE,
                                .spin_ns = SPIN_MOST_NS,
                                .undrained = true};
    return shared_ring_attach(e->own, socket, &e->mark);
}

/* Forget the other side. */
static inline void shared_ring_unfollow(struct shared_ring_end *e)
{
    if (e->bell.life_fd >= 0)
        close(e->bell.life_fd);
    e->bell.life_fd = -1;
    e->followed = 0;
    e->gone = false;
}

/* Close the end. */
static inline void shared_ring_leave(struct shared_ring_end *e)
{
    shared_ring_detach(e->own, e->mark, e->bell.wake_fd);
    shared_ring_unfollow(e);
}

/* Know who the other side's owner is, and whether it lives; -1 with errno without room for that. */
static inline int shared_ring_follow(struct shared_ring_end *e)
{
    uint64_t owner = shared_ring_peer(e->peer);
    if (owner != e->followed) {
        shared_ring_unfollow(e);
        if (owner != 0 && !(owner & SHARED_RING_CLOSED)) {
            e->bell.life_fd = shared_ring_watch(owner);
            e->gone = e->bell.life_fd < 0;
            if (e->gone && errno != ESRCH)
                return -1;
        }
        e->followed = owner;
    }
    if (!e->gone && e->bell.life_fd >= 0)
        e->gone = doorbell_peer_gone(&e->bell);
    return 0;
}

/*
 * Are there entries, or is there room, as far as the other side's index says? A hint: ring_peek and
 * ring_append read the index again, with acquire, and check it. doorbell_arm orders it.
 */
static inline bool shared_ring_has_entries(const struct ring_consumer *c)
{
    return atomic_load_explicit(&c->ring->last, memory_order_relaxed) != c->next;
}

static inline bool shared_ring_has_room(const struct ring_producer *p)
{
    uint32_t after = p->next + 1 == p->slots ? 0 : p->next + 1;
    return after != p->first ||
           atomic_load_explicit(&p->ring->first, memory_order_relaxed) != p->first;
}

enum shared_ring_result {
    SHARED_RING_READY, /* there are entries, or there is room */
    SHARED_RING_CLOSED_BY_PEER,
    SHARED_RING_PEER_GONE,
    SHARED_RING_TIMEOUT,
    SHARED_RING_ERROR, /* errno */
};

/*
 * Sleep until there are entries (`consumer`) or there is room (`producer`; the other one is NULL),
 * at most `timeout` ns at a time (UINT64_MAX: no limit). Publish before, and call doorbell_signal
 * for the other side after ring_publish and ring_commit.
 */
static inline enum shared_ring_result shared_ring_sleep(struct shared_ring_end *e,
                                                        const struct ring_consumer *consumer,
                                                        const struct ring_producer *producer,
                                                        uint64_t timeout)
{
    for (bool late = false;;) {
        /* First who is there, then its index: a producer that is gone has published its last. */
        if (shared_ring_follow(e) < 0)
            return SHARED_RING_ERROR;
        if (consumer ? shared_ring_has_entries(consumer) : shared_ring_has_room(producer))
            return SHARED_RING_READY;
        if (e->followed & SHARED_RING_CLOSED)
            return SHARED_RING_CLOSED_BY_PEER;
        if (e->gone)
            return SHARED_RING_PEER_GONE;
        if (late)
            return SHARED_RING_TIMEOUT;
        if (e->bell.undrained)
            doorbell_drain(&e->bell);
        doorbell_arm(&e->bell);
        if (shared_ring_peer(e->peer) == e->followed &&
            !(consumer ? shared_ring_has_entries(consumer) : shared_ring_has_room(producer)))
            late = doorbell_sleep(&e->bell, timeout) == SLEPT_TIMEOUT;
        doorbell_disarm(&e->bell);
    }
}

#endif

/*
 * The exit and its answer: words in the run page, and a doorbell on either side.
 *
 * The words carry the news, the pipes only wake a sleeper: a byte too many does no harm, and a
 * byte is never missing. Each word has one writer and a cache line of its own; the two that the VMM
 * waits for together share one.
 *
 *   guest                                         VMM
 *   G1  kvm_run payload
 *   G2  exit_sequence += 1     --release-->       V1  acquire
 *                                                 V2  reads the payload
 *                                                 V3  result of a load into kvm_run
 *   G3  acquire                <--release--       V4  resume_sequence += 1
 *   G4  reads the result
 *
 * G, V and, for the sleep and the wake-up, S and W are the steps that tools/litmus/steps.py names.
 * G1, G4, V2 and V3 are plain accesses of the caller of the functions below, which `coalesced
 * litmus` runs through every execution.
 *
 * Stopped: resume_sequence == exit_sequence. Running: resume_sequence == exit_sequence + 1.
 */
#ifndef COALESCED_EXIT_H
#define COALESCED_EXIT_H

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

/* The orders that a test weakens one at a time, to see that something finds it. */
#ifndef ORDER_RELEASE_EXIT
#define ORDER_RELEASE_EXIT memory_order_release
#endif
#ifndef ORDER_ACQUIRE_EXIT
#define ORDER_ACQUIRE_EXIT memory_order_acquire
#endif
#ifndef ORDER_RELEASE_RESUME
#define ORDER_RELEASE_RESUME memory_order_release
#endif
#ifndef ORDER_ACQUIRE_RESUME
#define ORDER_ACQUIRE_RESUME memory_order_acquire
#endif
#ifndef FENCE_WAKEUP
#define FENCE_WAKEUP memory_order_seq_cst
#endif

/* A place where a test ends the process; nothing in the product. */
#ifndef INJECT
#define INJECT(point) ((void)0)
#endif

#define RUN_WORDS_OFFSET 2368u /* first cache line past sizeof(struct kvm_run), 2352 */

/* Bits of `interrupt`; the vector is in the lowest eight. */
#define INTERRUPT_PENDING 0x100u
#define INTERRUPT_RESET 0x200u /* a reset of the processor */

#define WRITTEN_NOTES 8u

struct run_words {
    _Alignas(64) _Atomic uint32_t exit_sequence;    /* guest: exits so far */
    _Atomic uint32_t posted_sequence;               /* guest: posted writes so far (posted.h) */
    _Atomic uint32_t exit_bytes;                    /* guest: bytes into the exit pipe so far */
    _Alignas(64) _Atomic uint32_t vmm_need_wakeup;  /* VMM: about to sleep, or asleep */
    _Alignas(64) _Atomic uint32_t resume_sequence;  /* VMM: entries into the guest so far */
    _Atomic uint32_t resume_bytes;                  /* VMM: bytes into the resume pipe so far */
    _Alignas(64) _Atomic uint32_t hv_need_wakeup;   /* guest: about to sleep, or asleep */
    _Alignas(64) _Atomic uint32_t request_sequence; /* VMM: requests sent so far */
    _Alignas(64) _Atomic uint64_t irq_lines;        /* VMM: a bit per raised line */
    _Alignas(64) _Atomic uint64_t first_operation;  /* guest: CLOCK_MONOTONIC ns, 0 before it */
    _Alignas(64) _Atomic uint32_t interrupt;        /* VMM: KVM_INTERRUPT of the next entry */
    _Alignas(64) _Atomic uint32_t written_count;    /* VMM: writes of devices to RAM so far, */
    struct {
        _Atomic uint64_t start, size;
    } written[WRITTEN_NOTES]; /* and where the last ones went */
};

_Static_assert(RUN_WORDS_OFFSET + sizeof(struct run_words) <= 4096, "words fit in page 0");

/* Guest: exit number `n`; its payload (G1) is in place. */
static inline void exit_post(struct run_words *w, uint32_t n)
{
    INJECT(before_exit);
    /*
     * G2, release: pairs with V1, the VMM's acquire in exit_take. Without it the VMM could handle a
     * half-written exit, or miss ring entries that went before it.
     */
    atomic_store_explicit(&w->exit_sequence, n, ORDER_RELEASE_EXIT);
}

/* VMM: how many exits there have been; their payload may be read (V2). */
static inline uint32_t exit_take(struct run_words *w)
{
    /*
     * V1, acquire: pairs with G2, the guest's release in exit_post. Without it the payload, or the
     * ring, could be read before the sequence that announces it.
     */
    return atomic_load_explicit(&w->exit_sequence, ORDER_ACQUIRE_EXIT);
}

/* VMM: entry number `n` into the guest; the result of a load (V3) is in place. */
static inline void resume_post(struct run_words *w, uint32_t n)
{
    INJECT(before_resume);
    /*
     * V4, release: pairs with G3, the guest's acquire in resume_take. Without it the guest could
     * read the result of the load before, or overwrite a payload that the VMM is still reading.
     */
    atomic_store_explicit(&w->resume_sequence, n, ORDER_RELEASE_RESUME);
}

/* Guest: how many entries there have been; the result may be read (G4). */
static inline uint32_t resume_take(struct run_words *w)
{
    /*
     * G3, acquire: pairs with V4, the VMM's release in resume_post. Without it the result could be
     * read, or the next payload be written, before the sequence that allows it.
     */
    return atomic_load_explicit(&w->resume_sequence, ORDER_ACQUIRE_RESUME);
}

enum wait_policy { WAIT_BLOCK = 0, WAIT_ADAPTIVE = 1, WAIT_POLL = 2 };

/* Bounds of the adaptive spin. Above the upper one a sleep and its wake-up cost less. */
#define SPIN_LEAST_NS 2000u
#define SPIN_MOST_NS 200000u

struct doorbell {
    _Atomic uint32_t *own_need_wakeup;
    _Atomic uint32_t *peer_need_wakeup;
    int sleep_fd; /* read end: the peer's bytes wake us */
    int wake_fd;  /* write end: our byte wakes the peer */
    int life_fd;  /* readable when the peer has ended (a pidfd), or -1 */
    int watch_fd; /* readable when something else ends the wait (an epoll), or -1 */
    enum wait_policy policy;
    uint64_t spin_ns;
    uint64_t look_at;            /* when a wait looks for the peer's end next; 0: not waiting */
    uint64_t signals;            /* bytes written to wake_fd, */
    _Atomic uint32_t *own_bytes; /* the same for the peer's edges, or NULL */
    struct edges *edges;         /* of the sleep (edges.h), or NULL */
    bool undrained;              /* the pipe is to be emptied before the next sleep */
};

static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Write the byte that wakes the peer. */
static inline void doorbell_ring(struct doorbell *b)
{
    ssize_t n;
    b->signals++;
    if (b->own_bytes)
        atomic_store_explicit(b->own_bytes, (uint32_t)b->signals, memory_order_relaxed);
    do /* W4 */
        n = write(b->wake_fd, "", 1);
    while (n < 0 && errno == EINTR);
    /* EAGAIN: the pipe is full of earlier wake-ups. EPIPE: the sleeper's own wait reports it. */
}

/* Wake the peer; the word that it waits for (W1: G2 or V4) is stored. */
static inline void doorbell_signal(struct doorbell *b)
{
    if (b->policy != WAIT_BLOCK) {
        /*
         * W2, fence: pairs with S2, the sleeper's in doorbell_arm. Without it our test of
         * need-wakeup could be older than our store of the word, while the sleeper's re-check is
         * older than that store: nobody wakes anybody.
         */
        atomic_thread_fence(FENCE_WAKEUP);
        /* W3: W2 orders it after the word. */
        if (!atomic_load_explicit(b->peer_need_wakeup, memory_order_relaxed))
            return;
    }
    doorbell_ring(b);
}

/* Announce that we are about to sleep; the caller re-checks its word (S3) after this. */
static inline void doorbell_arm(struct doorbell *b)
{
    /* S1: S2 orders it before the re-check. */
    atomic_store_explicit(b->own_need_wakeup, 1, memory_order_relaxed);
    /* S2, fence: pairs with W2, the waker's in doorbell_signal, between its word and its test. */
    atomic_thread_fence(FENCE_WAKEUP);
}

static inline void doorbell_disarm(struct doorbell *b)
{
    /* S5: a wake-up that comes on account of the old value is a byte too many. */
    atomic_store_explicit(b->own_need_wakeup, 0, memory_order_relaxed);
}

enum sleep_result { SLEPT_WOKEN, SLEPT_TIMEOUT, SLEPT_SIGNAL, SLEPT_PEER_GONE, SLEPT_WATCHED };

/*
 * Take bytes of earlier wake-ups out of the pipe; the caller checks its word after this. false: some
 * may be left, which end the next ppoll at once: a peer that writes without end is not read without
 * end.
 */
static inline bool doorbell_drain(struct doorbell *b)
{
    char bytes[4096]; /* a page: a full pipe takes no byte before one is free */
    /* S6: S2 orders it before the re-check. What it says, or an error, is of no interest. */
    ssize_t n = read(b->sleep_fd, bytes, sizeof bytes);
    b->undrained = false;
    return n < (ssize_t)sizeof bytes;
}

/*
 * Announce a sleep, then look at the word once more (S3). true: nothing is there; the caller sleeps
 * and disarms. false: `ready` has seen the word, and the announcement is withdrawn.
 */
static inline bool doorbell_arm_unless(struct doorbell *b, bool (*ready)(void *), void *ctx)
{
    doorbell_arm(b);
    if (!ready(ctx))
        return true;
    doorbell_disarm(b);
    return false;
}

/* The same where bytes of earlier wake-ups may be left, which would end the sleep. */
static inline bool doorbell_may_sleep(struct doorbell *b, bool (*ready)(void *), void *ctx)
{
    /* Where each word brings a byte, one may have come after we saw the word without sleeping. */
    if (b->undrained || b->policy == WAIT_BLOCK)
        doorbell_drain(b);
    return doorbell_arm_unless(b, ready, ctx);
}

/*
 * Sleep until the peer writes a byte, ends, what is watched has news, `timeout` ns pass
 * (UINT64_MAX: no limit) or a signal arrives. The byte is left for doorbell_drain before the next
 * sleep: taking it out now would only delay the answer.
 */
static inline enum sleep_result doorbell_sleep(struct doorbell *b, uint64_t timeout)
{
    struct pollfd fds[3] = {
        {.fd = b->sleep_fd, .events = POLLIN},
        {.fd = b->life_fd, .events = POLLIN}, /* a negative descriptor is passed over */
        {.fd = b->watch_fd, .events = POLLIN},
    };
    struct timespec limit = {.tv_sec = (time_t)(timeout / 1000000000u),
                             .tv_nsec = (long)(timeout % 1000000000u)};
    /* S4 */
    int n = ppoll(fds, 3, timeout == UINT64_MAX ? NULL : &limit, NULL);
    if (n < 0)
        return SLEPT_SIGNAL;
    if (n == 0)
        return SLEPT_TIMEOUT;
    if (fds[0].revents & POLLIN) {
        b->undrained = true;
        return SLEPT_WOKEN;
    }
    return fds[0].revents || fds[1].revents ? SLEPT_PEER_GONE : SLEPT_WATCHED;
}

/* Has what is watched news? Does not wait. */
static inline bool doorbell_watched(const struct doorbell *b)
{
    struct pollfd fd = {.fd = b->watch_fd, .events = POLLIN};
    return b->watch_fd >= 0 && poll(&fd, 1, 0) > 0;
}

/* Has the peer ended? Does not wait. */
static inline bool doorbell_peer_gone(const struct doorbell *b)
{
    struct pollfd fds[2] = {
        {.fd = b->sleep_fd, .events = 0}, /* POLLHUP and POLLERR are always reported */
        {.fd = b->life_fd, .events = POLLIN},
    };
    return poll(fds, 2, 0) > 0;
}

/*
 * Choose the limit of the next spin: twice the last wait, at once if that is longer, an eighth of
 * the way if it is shorter; half the limit after a wait that no spin would have covered.
 */
static inline void doorbell_tune(struct doorbell *b, uint64_t waited)
{
    if (waited > SPIN_MOST_NS) {
        b->spin_ns /= 2;
    } else {
        uint64_t wish = 2 * waited;
        b->spin_ns = wish > b->spin_ns ? wish : b->spin_ns - (b->spin_ns - wish) / 8;
    }
    if (b->spin_ns < SPIN_LEAST_NS)
        b->spin_ns = SPIN_LEAST_NS;
    if (b->spin_ns > SPIN_MOST_NS)
        b->spin_ns = SPIN_MOST_NS;
}

#endif

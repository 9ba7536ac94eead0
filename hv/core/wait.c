/* Waiting for the other side, by each policy, for either side. */
#define _GNU_SOURCE
#include "core.h"
#include "edges.h"

#include <sched.h>

#define POLITE_NS 8000u        /* a spin this long may be what keeps the other side off the CPU */
#define LIVENESS_NS 1000000u   /* how often a spin looks for signals and the peer's end, */
#define LOOKS_WITHOUT_CLOCK 64 /* some microseconds at most */
#define WATCH_NS 10000u        /* and for news of what is watched, which costs a system call, too */

/* 0, or -1 with an exception set: a signal handler raised. *save goes and comes back suspended. */
static int check_signals(PyThreadState **save)
{
    PyEval_RestoreThread(*save);
    int result = PyErr_CheckSignals();
    *save = PyEval_SaveThread();
    return result;
}

static enum wait_result truncation(const MappingObject *guard, PyThreadState **save)
{
    PyEval_RestoreThread(*save);
    mapping_check(guard);
    *save = PyEval_SaveThread();
    return WAIT_ERROR;
}

/* Spin until ready or the policy's limit; WAIT_TIMEOUT stands for both limits. */
static enum wait_result spin(struct doorbell *b, bool (*ready)(void *), void *ctx, uint64_t start,
                             uint64_t deadline, const MappingObject *guard, PyThreadState **save)
{
    uint64_t limit = b->policy == WAIT_POLL ? UINT64_MAX : start + b->spin_ns;
    uint64_t watch = start + WATCH_NS;
    if (limit > deadline)
        limit = deadline;
    /* Kept over waits that time out: a row of short ones finds the peer's end as a long one does. */
    if (b->look_at == 0)
        b->look_at = start + LIVENESS_NS;
    for (;;) {
        for (int i = 0; i < 16; i++) {
            if (ready(ctx)) {
                doorbell_tune(b, now_ns() - start);
                b->look_at = 0;
                return WAIT_READY;
            }
            cpu_relax();
        }
        uint64_t now = now_ns();
        if (mapping_truncated(guard))
            return truncation(guard, save);
        if (now >= watch) {
            if (doorbell_watched(b)) {
                /* News that never end must not hide the peer's end. */
                enum wait_result r = doorbell_peer_gone(b) ? WAIT_PEER_GONE : WAIT_WATCHED;
                return ready(ctx) ? WAIT_READY : r;
            }
            watch = now + WATCH_NS;
        }
        if (now >= b->look_at) {
            if (check_signals(save) < 0)
                return WAIT_ERROR;
            if (doorbell_peer_gone(b))
                return ready(ctx) ? WAIT_READY : WAIT_PEER_GONE;
            b->look_at = now + LIVENESS_NS;
        }
        if (now >= limit)
            return WAIT_TIMEOUT;
        if (now - start > POLITE_NS)
            sched_yield();
    }
}

/* A byte without a word: a peer that sends such bytes without end must hide no other news. */
static enum wait_result woken_for_nothing(struct doorbell *b, bool (*ready)(void *), void *ctx,
                                          PyThreadState **save)
{
    if (check_signals(save) < 0)
        return WAIT_ERROR;
    if (doorbell_peer_gone(b))
        return ready(ctx) ? WAIT_READY : WAIT_PEER_GONE;
    return doorbell_watched(b) ? WAIT_WATCHED : WAIT_TIMEOUT;
}

static enum wait_result sleep_once(struct doorbell *b, bool (*ready)(void *), void *ctx,
                                   uint64_t deadline, PyThreadState **save)
{
    if (!edges_may_sleep(b, ready, ctx))
        return WAIT_READY;
    /*
     * A signal just before the sleep does not end it, and is seen after LONGEST_SLEEP_NS. Blocking
     * signals around the look and unblocking them in the sleep would close the gap, but cost every
     * exit two more system calls.
     */
    enum sleep_result slept = edges_sleep(b, deadline);
    /*
     * The byte of a word that was seen without a sleep ends the next one. On one CPU there are many:
     * the side that is woken often answers before the other one runs on. One is not worth a look at
     * all else; the announcement still stands, so that a new word brings a new byte.
     */
    if (slept == SLEPT_WOKEN && !ready(ctx))
        slept = edges_sleep(b, deadline);
    doorbell_disarm(b);
    if (ready(ctx))
        return WAIT_READY;
    b->undrained = true; /* bytes that no word explains must not fill the pipe */
    if (slept == SLEPT_PEER_GONE)
        return WAIT_PEER_GONE;
    if (slept == SLEPT_WATCHED)
        return WAIT_WATCHED;
    return slept == SLEPT_WOKEN      ? woken_for_nothing(b, ready, ctx, save)
           : check_signals(save) < 0 ? WAIT_ERROR
                                     : WAIT_TIMEOUT;
}

/* Look for what takes no longer than a clock is worth: reading it twice costs half a short wait. */
static bool comes_at_once(bool (*ready)(void *), void *ctx)
{
    for (int i = 0; i < LOOKS_WITHOUT_CLOCK; i++) {
        cpu_relax();
        if (ready(ctx))
            return true;
    }
    return false;
}

enum wait_result core_wait(struct doorbell *b, bool (*ready)(void *), void *ctx, uint64_t deadline,
                           const MappingObject *guard, PyThreadState **save)
{
    if (ready(ctx))
        return WAIT_READY;
    /* ready has just looked at the page: what it cannot see any more must not be slept for. */
    if (mapping_truncated(guard))
        return truncation(guard, save);
    if (deadline == 0)
        return WAIT_TIMEOUT;
    if (b->policy != WAIT_BLOCK && comes_at_once(ready, ctx))
        return WAIT_READY;
    uint64_t start = 0; /* block neither spins nor tunes, and looks at no clock it can do without */
    if (b->policy != WAIT_BLOCK) {
        start = now_ns();
        enum wait_result r = spin(b, ready, ctx, start, deadline, guard, save);
        if (r != WAIT_TIMEOUT)
            return r;
    }
    while (deadline == UINT64_MAX || now_ns() < deadline) {
        enum wait_result r = sleep_once(b, ready, ctx, deadline, save);
        if (r == WAIT_READY && b->policy != WAIT_BLOCK)
            doorbell_tune(b, now_ns() - start);
        else if (r == WAIT_WATCHED)
            doorbell_tune(b, UINT64_MAX); /* no spin would have seen an exit */
        if (mapping_truncated(guard))
            return truncation(guard, save);
        if (r != WAIT_TIMEOUT)
            return r;
    }
    return WAIT_TIMEOUT;
}

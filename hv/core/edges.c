/* Sleeping until a byte comes, whether or not older ones are still in the pipe. */
#define _GNU_SOURCE
#include "edges.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#define BYTES_LEFT 256u /* in the pipe, which has room for 4,096 at least */

enum { EDGE_BYTE, EDGE_LIFE, EDGE_WATCH, EDGE_TIME }; /* epoll_event.data */

static int edges_add(int epoll, int fd, uint32_t events, uint32_t what)
{
    struct epoll_event event = {.events = events, .data.u32 = what};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

/* Is each of two writes to a pipe reported, although nobody reads? */
static bool reported_twice(int epoll, const int ends[2])
{
    struct epoll_event event;
    for (int i = 0; i < 2; i++)
        if (write(ends[1], "", 1) != 1 || epoll_wait(epoll, &event, 1, 0) != 1)
            return false;
    return true;
}

static bool kernel_reports_each_write(void)
{
    static _Atomic int known; /* 0: not yet; 1: it does; -1: it does not */
    int ends[2];
    if (known == 0 && pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0) {
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        if (epoll >= 0 && edges_add(epoll, ends[0], EPOLLIN | EPOLLET, EDGE_BYTE) == 0)
            known = reported_twice(epoll, ends) ? 1 : -1;
        if (epoll >= 0)
            close(epoll);
        close(ends[0]);
        close(ends[1]);
    }
    return known > 0;
}

/* Set the timer to a moment, which may be past. */
static int edges_set(struct edges *e, uint64_t due)
{
    const struct itimerspec at = {
        .it_value = {.tv_sec = (time_t)(due / 1000000000u), .tv_nsec = (long)(due % 1000000000u)}};
    e->due = due;
    return timerfd_settime(e->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

void edges_open(struct doorbell *b, struct edges *e, const _Atomic uint32_t *bytes)
{
    if (!kernel_reports_each_write())
        return;
    *e = (struct edges){.fd = epoll_create1(EPOLL_CLOEXEC),
                        .timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
                        .watch_fd = -1,
                        .bytes = bytes};
    b->edges = e;
    if (e->fd < 0 || edges_add(e->fd, b->sleep_fd, EPOLLIN | EPOLLET, EDGE_BYTE) < 0 ||
        (b->life_fd >= 0 && edges_add(e->fd, b->life_fd, EPOLLIN, EDGE_LIFE) < 0) ||
        edges_add(e->fd, e->timer_fd, EPOLLIN, EDGE_TIME) < 0 ||
        edges_set(e, now_ns() + LONGEST_SLEEP_NS) < 0)
        edges_close(b);
}

void edges_close(struct doorbell *b)
{
    if (!b->edges)
        return;
    if (b->edges->fd >= 0)
        close(b->edges->fd);
    if (b->edges->timer_fd >= 0)
        close(b->edges->timer_fd);
    b->edges = NULL;
    b->undrained = true;
}

void edges_restart(struct doorbell *b, enum wait_policy policy)
{
    b->policy = policy;
    b->spin_ns = SPIN_MOST_NS;
    b->look_at = b->signals = 0;
    b->undrained = false;
    if (b->edges && doorbell_drain(b))
        b->edges->taken = 0;
}

bool edges_may_sleep(struct doorbell *b, bool (*ready)(void *), void *ctx)
{
    struct edges *e = b->edges;
    if (!e)
        return doorbell_may_sleep(b, ready, ctx);
    uint32_t bytes = atomic_load_explicit(e->bytes, memory_order_relaxed);
    if ((b->undrained || bytes - e->taken >= BYTES_LEFT) && doorbell_drain(b))
        e->taken = bytes;
    return doorbell_arm_unless(b, ready, ctx);
}

void edges_forget(struct doorbell *b)
{
    if (!b->edges || b->edges->watch_fd < 0)
        return;
    /* An error: it is closed, which has the same effect. */
    epoll_ctl(b->edges->fd, EPOLL_CTL_DEL, b->edges->watch_fd, NULL);
    b->edges->watch_fd = -1;
}

/* Have epoll watch what the doorbell does; false: it cannot. */
static bool edges_watch(struct doorbell *b)
{
    struct edges *e = b->edges;
    int fd = b->watch_fd;
    if (e->watch_fd == fd)
        return true;
    edges_forget(b);
    if (fd >= 0 && edges_add(e->fd, fd, EPOLLIN, EDGE_WATCH) < 0)
        return false;
    e->watch_fd = fd;
    return true;
}

static enum sleep_result sleep_without_edges(struct doorbell *b, uint64_t deadline)
{
    if (deadline == UINT64_MAX) /* no clock is needed */
        return doorbell_sleep(b, LONGEST_SLEEP_NS);
    uint64_t now = now_ns(), left = deadline > now ? deadline - now : 0;
    return doorbell_sleep(b, left < LONGEST_SLEEP_NS ? left : LONGEST_SLEEP_NS);
}

enum sleep_result edges_sleep(struct doorbell *b, uint64_t deadline)
{
    if (b->edges &&
        (!edges_watch(b) || (deadline < b->edges->due && edges_set(b->edges, deadline) < 0)))
        edges_close(b);
    if (!b->edges)
        return sleep_without_edges(b, deadline);
    struct epoll_event event;
    if (epoll_wait(b->edges->fd, &event, 1, -1) != 1)
        return SLEPT_SIGNAL;
    switch (event.data.u32) {
    case EDGE_TIME:
        edges_set(b->edges, now_ns() + LONGEST_SLEEP_NS);
        return SLEPT_TIMEOUT;
    case EDGE_LIFE:
        return SLEPT_PEER_GONE;
    case EDGE_WATCH:
        return SLEPT_WATCHED;
    }
    if (event.events & (EPOLLHUP | EPOLLERR))
        edges_close(b); /* an edge reports the end once, ppoll reports it each time */
    return event.events & EPOLLIN ? SLEPT_WOKEN : SLEPT_PEER_GONE;
}

/* Sleeping until a byte comes, whether or not older ones are still in the pipe. */
#define _GNU_SOURCE
#include "edges.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#define BYTES_LEFT 256u /* in the pipe, which has room for 4,096 at least */

enum { EDGE_BYTE, EDGE_LIFE, EDGE_WATCH, EDGE_TICK }; /* epoll_event.data */

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

void edges_open(struct doorbell *b, struct edges *e, const _Atomic uint32_t *bytes)
{
    if (!kernel_reports_each_write())
        return;
    const struct timespec tick = {.tv_sec = LONGEST_SLEEP_NS / 1000000000u,
                                  .tv_nsec = LONGEST_SLEEP_NS % 1000000000u};
    const struct itimerspec ticks = {.it_interval = tick, .it_value = tick};
    *e = (struct edges){.fd = epoll_create1(EPOLL_CLOEXEC),
                        .tick_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
                        .watch_fd = -1,
                        .bytes = bytes};
    b->edges = e;
    if (e->fd < 0 || edges_add(e->fd, b->sleep_fd, EPOLLIN | EPOLLET, EDGE_BYTE) < 0 ||
        (b->life_fd >= 0 && edges_add(e->fd, b->life_fd, EPOLLIN, EDGE_LIFE) < 0) ||
        timerfd_settime(e->tick_fd, 0, &ticks, NULL) < 0 ||
        edges_add(e->fd, e->tick_fd, EPOLLIN, EDGE_TICK) < 0)
        edges_close(b);
}

void edges_close(struct doorbell *b)
{
    if (!b->edges)
        return;
    if (b->edges->fd >= 0)
        close(b->edges->fd);
    if (b->edges->tick_fd >= 0)
        close(b->edges->tick_fd);
    b->edges = NULL;
    b->undrained = true;
}

void edges_restart(struct doorbell *b)
{
    if (b->edges && doorbell_drain(b))
        b->edges->taken = 0;
}

bool edges_may_sleep(struct doorbell *b, bool (*ready)(void *), void *ctx)
{
    struct edges *e = b->edges;
    if (!e)
        return doorbell_may_sleep(b, ready, ctx);
    uint32_t bytes = atomic_load_explicit(e->bytes, memory_order_relaxed);
    if (bytes - e->taken >= BYTES_LEFT && doorbell_drain(b))
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

/* As epoll_wait, with a timeout in nanoseconds: it has milliseconds. */
static int edges_wait(int epoll, struct epoll_event *event, uint64_t timeout)
{
    if (timeout == UINT64_MAX || timeout == LONGEST_SLEEP_NS)
        return epoll_wait(epoll, event, 1, -1);
    if (timeout % 1000000u == 0 && timeout / 1000000u <= INT_MAX)
        return epoll_wait(epoll, event, 1, (int)(timeout / 1000000u));
    struct pollfd fd = {.fd = epoll, .events = POLLIN};
    struct timespec limit = {.tv_sec = (time_t)(timeout / 1000000000u),
                             .tv_nsec = (long)(timeout % 1000000000u)};
    int n = ppoll(&fd, 1, &limit, NULL);
    return n > 0 ? epoll_wait(epoll, event, 1, 0) : n;
}

/* Take note of a tick: the timer goes on behind it. */
static void edges_tick(const struct edges *e)
{
    uint64_t ticks;
    ssize_t n = read(e->tick_fd, &ticks, sizeof ticks);
    (void)n; /* or it was taken before */
}

enum sleep_result edges_sleep(struct doorbell *b, uint64_t timeout)
{
    if (b->edges && !edges_watch(b))
        edges_close(b);
    if (!b->edges)
        return doorbell_sleep(b, timeout);
    struct epoll_event event;
    int n = edges_wait(b->edges->fd, &event, timeout);
    if (n < 0)
        return SLEPT_SIGNAL;
    if (n == 0)
        return SLEPT_TIMEOUT;
    switch (event.data.u32) {
    case EDGE_TICK:
        edges_tick(b->edges);
        return SLEPT_TIMEOUT;
    case EDGE_LIFE:
        return SLEPT_PEER_GONE;
    case EDGE_WATCH:
        return SLEPT_WATCHED;
    }
    if (event.events & (EPOLLHUP | EPOLLERR))
        edges_close(b); /* an edge would tell of this end once; ppoll tells of it each time */
    return event.events & EPOLLIN ? SLEPT_WOKEN : SLEPT_PEER_GONE;
}

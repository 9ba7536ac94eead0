/*
 * System calls on pipes, for headers under the explorer: descriptor n is a flag that a byte sets.
 * The kernel's lock of a pipe makes a write a release and a read an acquire, and no more.
 */
#ifndef LITMUS_PIPES_H
#define LITMUS_PIPES_H

#include "litmus.h"

#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#define PIPES_MAX 8
static _Atomic uint32_t litmus_pipe[PIPES_MAX];

static inline ssize_t litmus_pipe_write(int fd, const void *bytes, size_t size)
{
    (void)bytes;
    atomic_exchange_explicit(&litmus_pipe[fd], 1u, memory_order_release);
    return (ssize_t)size;
}

static inline ssize_t litmus_pipe_read(int fd, void *bytes, size_t size)
{
    (void)bytes;
    (void)size;
    if (atomic_exchange_explicit(&litmus_pipe[fd], 0u, memory_order_acquire))
        return 1;
    errno = EAGAIN;
    return -1;
}

/* Waits for the first descriptor only; the others are those of a peer that lives. */
static inline int litmus_pipe_poll(struct pollfd *fds)
{
    await(atomic_load_explicit(&litmus_pipe[fds[0].fd], memory_order_acquire));
    fds[0].revents = POLLIN;
    return 1;
}

#define write litmus_pipe_write
#define read litmus_pipe_read
#define ppoll(fds, count, limit, signals) ((void)(limit), litmus_pipe_poll(fds))

#endif

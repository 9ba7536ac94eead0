/* Channels of the kernel and the ring between two processes: one entry or a batch per call. */
#define _GNU_SOURCE
#include "floors.h"

#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#define ENTRY sizeof(struct coalesced_entry)
#define RING_BYTES (8u * PAGE)
#define MESSAGES 10 /* of a queue: an unprivileged process may have no more */
#define PATIENCE 1  /* seconds before the child's end is looked for */
#define RETRY(call) TEMP_FAILURE_RETRY(call) /* a signal may come at any time */

struct side {
    const struct channel_job *job;
    int in, out;                 /* descriptors; with eventfd both are the same */
    struct coalesced_ring *ring; /* of CHANNEL_RING, CHANNEL_EVENTFD */
    struct coalesced_entry *entries;
    struct ring_producer producer;
    struct ring_consumer consumer;
    int child; /* pidfd, in the parent */
};

static bool is_ring(const struct channel_job *job)
{
    return job->kind == CHANNEL_RING || job->kind == CHANNEL_EVENTFD;
}

/* A queue without a name. By number: the C library has these calls in a library of their own. */
static int queue(size_t size)
{
    char name[64];
    struct mq_attr attributes = {.mq_maxmsg = MESSAGES, .mq_msgsize = (long)size};
    snprintf(name, sizeof name, "coalesced-floor-%d", getpid());
    int fd =
        (int)syscall(SYS_mq_open, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &attributes);
    if (fd >= 0)
        syscall(SYS_mq_unlink, name);
    return fd;
}

static int open_side(struct side *s)
{
    int fds[2] = {-1, -1}, got = 0;
    if (s->job->kind == CHANNEL_PIPE)
        got = pipe2(fds, O_CLOEXEC);
    else if (s->job->kind == CHANNEL_SOCKETPAIR)
        got = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
    else if (s->job->kind == CHANNEL_QUEUE)
        got = fds[0] = fds[1] = queue(ENTRY * s->job->batch);
    else if (s->job->kind == CHANNEL_EVENTFD)
        got = fds[0] = fds[1] = eventfd(0, EFD_CLOEXEC);
    s->in = fds[0];
    s->out = fds[1];
    return got < 0 ? -1 : 0;
}

static void close_side(const struct side *s)
{
    if (s->in >= 0)
        close(s->in);
    if (s->out >= 0 && s->out != s->in)
        close(s->out);
}

/* Append a batch and publish it once. */
static int append(struct side *s)
{
    uint32_t looks = 0;
    for (uint32_t done = 0; done < s->job->batch;) {
        enum ring_status status = ring_append(&s->producer, 0xa0000 + done, 1, 0, done & 0xff);
        if (status < 0)
            return -1;
        if (status == RING_OK)
            done++;
        else /* what is published was announced: the consumer is awake */
            look_again(++looks, YIELD_AFTER);
    }
    ring_publish(&s->producer);
    uint64_t news = 1;
    if (s->job->kind == CHANNEL_EVENTFD)
        return RETRY(write(s->out, &news, sizeof news)) == sizeof news ? 0 : -1;
    return 0;
}

/* One call: a batch. */
static int send_batch(struct side *s)
{
    size_t size = ENTRY * s->job->batch;
    if (is_ring(s->job))
        return append(s);
    if (s->job->kind == CHANNEL_QUEUE)
        return (int)RETRY(syscall(SYS_mq_timedsend, s->out, s->entries, size, 0, NULL));
    for (size_t sent = 0; sent < size;) {
        ssize_t n = RETRY(write(s->out, (const char *)s->entries + sent, size - sent));
        if (n < 0)
            return -1;
        sent += (size_t)n;
    }
    return 0;
}

/* Entries of the ring that are there, at least one; 0: an error. */
static uint32_t drain(struct side *s)
{
    uint32_t looks = 0, count = 0;
    for (;;) {
        if (ring_peek(&s->consumer, s->entries, s->consumer.slots, &count) != RING_OK)
            return 0;
        if (count) {
            ring_commit(&s->consumer, count);
            return count;
        }
        struct pollfd fds[] = {{.fd = s->in, .events = POLLIN}, {.fd = s->child, .events = POLLIN}};
        uint64_t news;
        if (s->job->kind == CHANNEL_RING) {
            look_again(++looks, YIELD_AFTER);
            if (looks % (1u << 16) == 0 && poll(fds + 1, 1, 0) > 0 && !ring_look(&s->consumer) &&
                s->consumer.last == s->consumer.next)
                return 0;
        } else if (RETRY(poll(fds, 2, -1)) < 0 || !(fds[0].revents & POLLIN) ||
                   RETRY(read(s->in, &news, sizeof news)) < 0) {
            return 0;
        }
    }
}

/* Entries of a message; 0: an error. */
static uint32_t receive_message(struct side *s)
{
    for (;;) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += PATIENCE;
        long n =
            syscall(SYS_mq_timedreceive, s->in, s->entries, ENTRY * s->job->batch, NULL, &until);
        if (n >= 0)
            return (uint32_t)((size_t)n / ENTRY);
        struct pollfd child = {.fd = s->child, .events = POLLIN};
        if ((errno != ETIMEDOUT && errno != EINTR) || RETRY(poll(&child, 1, 0)) != 0)
            return 0;
    }
}

/* Entries of one call, at least one; 0: an error, or the child has ended. */
static uint32_t receive(struct side *s)
{
    size_t got = 0;
    if (is_ring(s->job))
        return drain(s);
    if (s->job->kind == CHANNEL_QUEUE)
        return receive_message(s);
    do { /* a part of an entry may arrive before the rest */
        ssize_t n = RETRY(read(s->in, (char *)s->entries + got, ENTRY * s->job->batch - got));
        if (n <= 0)
            return 0;
        got += (size_t)n;
    } while (got % ENTRY);
    return (uint32_t)(got / ENTRY);
}

/* In the child. `sent` gets the time before each call. */
static void produce_calls(struct side *s, _Atomic uint64_t *sent)
{
    if (is_ring(s->job) && ring_producer_init(&s->producer, s->ring, RING_BYTES) != RING_OK)
        _exit(1);
    for (uint64_t call = 0; call < s->job->calls; call++) {
        uint64_t at = now_ns(), due = at + s->job->pause_ns;
        while (at < due)
            at = now_ns();
        if (s->job->pause_ns || call == 0)
            atomic_store_explicit(&sent[call], at, memory_order_relaxed);
        if (send_batch(s) < 0)
            _exit(1);
    }
    _exit(0);
}

/* Nanoseconds from the first call to the end of the last, or -1. */
static double consume_calls(struct side *s, _Atomic uint64_t *sent, uint64_t *each)
{
    uint64_t entries = 0, now = 0;
    if (is_ring(s->job) && ring_consumer_init(&s->consumer, s->ring, RING_BYTES) != RING_OK)
        return -1;
    for (uint64_t call = 0; call < s->job->calls;) {
        uint32_t got = receive(s);
        if (got == 0)
            return -1;
        entries += got;
        now = now_ns();
        for (; call < s->job->calls && entries >= (call + 1) * s->job->batch; call++)
            if (each)
                each[call] = now - atomic_load_explicit(&sent[call], memory_order_relaxed);
    }
    return (double)(now - atomic_load_explicit(&sent[0], memory_order_relaxed));
}

static double between(struct side *s, _Atomic uint64_t *sent, int here, int there, uint64_t *each)
{
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        child_begin(there, parent);
        produce_calls(s, sent);
    }
    if (child < 0)
        return -1;
    if (s->out >= 0 && s->out != s->in) { /* the child's end is then the end of the stream */
        close(s->out);
        s->out = -1;
    }
    double ns = -1;
    s->child = (int)syscall(SYS_pidfd_open, child, 0);
    if (s->child >= 0 && pin(here) == 0)
        ns = consume_calls(s, sent, each);
    int error = errno;
    if (s->child >= 0)
        close(s->child);
    if (ns < 0)
        kill(child, SIGKILL);
    if (child_end(child) < 0)
        ns = -1;
    errno = error;
    return ns;
}

double floor_channel(const struct channel_job *job, int here, int there, uint64_t *each)
{
    size_t bytes = RING_BYTES + job->calls * sizeof(uint64_t);
    size_t room = is_ring(job) ? ring_slots(RING_BYTES) : job->batch;
    uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct side side = {.job = job, .in = -1, .out = -1, .entries = calloc(room, ENTRY)};
    double ns = -1;
    if (memory != MAP_FAILED && side.entries && open_side(&side) == 0) {
        side.ring = (struct coalesced_ring *)(void *)memory;
        ns = between(&side, (_Atomic uint64_t *)(void *)(memory + RING_BYTES), here, there, each);
    }
    int error = errno;
    close_side(&side);
    free(side.entries);
    if (memory != MAP_FAILED)
        munmap(memory, bytes);
    errno = error;
    return ns;
}

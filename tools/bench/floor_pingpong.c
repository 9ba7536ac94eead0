/* A round trip between two processes, by each means that Linux has to wake the other one. */
#define _GNU_SOURCE
#include "floors.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>

/* Shared memory: each side's news for the other, on lines of their own. */
struct words {
    _Alignas(64) _Atomic uint32_t to_child;
    _Alignas(64) _Atomic uint32_t to_parent;
};

struct end {
    enum floor_kind kind;
    int in, out; /* descriptors, or -1 */
    _Atomic uint32_t *in_word, *out_word;
    uint32_t seen, sent, yield_after;
    _Atomic int gone; /* the other side has ended */
};

static void futex(_Atomic uint32_t *word, int operation, uint32_t value)
{
    /* EAGAIN, EINTR: the caller looks at the word again. */
    syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

static int pass(int fd, void *bytes, size_t size, bool out)
{
    ssize_t n;
    do
        n = out ? write(fd, bytes, size) : read(fd, bytes, size);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)size ? 0 : -1;
}

static int give(struct end *e)
{
    uint64_t news = 1;
    if (e->kind < BY_FUTEX)
        return pass(e->out, &news, e->kind == BY_EVENTFD ? 8 : 1, true);
    atomic_store_explicit(e->out_word, ++e->sent, memory_order_release);
    if (e->kind == BY_FUTEX)
        futex(e->out_word, FUTEX_WAKE, 1);
    return 0;
}

/* As a side sleeps that waits for more than this byte. */
static int await(int fd)
{
    struct pollfd news = {.fd = fd, .events = POLLIN};
    int n;
    do
        n = ppoll(&news, 1, NULL, NULL);
    while (n < 0 && errno == EINTR);
    return n;
}

/* `last`: the other side may end after this one. */
static int take(struct end *e, bool last)
{
    uint64_t news;
    uint32_t looks = 0;
    if (e->kind == BY_PPOLL && await(e->in) < 0)
        return -1;
    if (e->kind < BY_FUTEX) {
        if (pass(e->in, &news, e->kind == BY_EVENTFD ? 8 : 1, false) < 0)
            return -1;
        return !last && atomic_load(&e->gone) ? -1 : 0;
    }
    while (atomic_load_explicit(e->in_word, memory_order_acquire) == e->seen) {
        if (atomic_load(&e->gone) &&
            atomic_load_explicit(e->in_word, memory_order_acquire) == e->seen)
            return -1;
        if (e->kind == BY_FUTEX)
            futex(e->in_word, FUTEX_WAIT, e->seen);
        else
            look_again(++looks, e->yield_after);
    }
    e->seen++;
    return 0;
}

/* A thread beside the parent, asleep: a channel without end of file needs a thread that reports the end. */
struct watch {
    struct end *end;
    pid_t child;
    int kick; /* eventfd that the parent reads, or -1 */
};

static void *watch_child(void *argument)
{
    struct watch *w = argument;
    siginfo_t info;
    while (waitid(P_PID, (id_t)w->child, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
        ;
    uint64_t one = 1;
    atomic_store(&w->end->gone, 1);
    if (w->kick >= 0)
        pass(w->kick, &one, sizeof one, true);
    else if (w->end->kind == BY_FUTEX)
        /* It may be between its look and its sleep: the sleep compares the word once more. */
        while (atomic_load(&w->end->gone) == 1) {
            futex(w->end->in_word, FUTEX_WAKE, 1);
            usleep(1000);
        }
    return NULL;
}

/* The parent's side; nanoseconds, or -1. One round trip more goes before the clock runs. */
static double run_parent(struct end *e, uint64_t count, uint64_t *each)
{
    if (give(e) < 0 || take(e, false) < 0)
        return -1;
    uint64_t started = now_ns(), before = started;
    for (uint64_t i = 0; i < count; i++) {
        if (give(e) < 0 || take(e, i + 1 == count) < 0)
            return -1;
        if (each) {
            uint64_t now = now_ns();
            each[i] = now - before;
            before = now;
        }
    }
    return (double)(now_ns() - started);
}

static double watched(struct end *e, pid_t child, int kick, uint64_t count, uint64_t *each)
{
    struct watch watch = {.end = e, .child = child, .kick = kick};
    pthread_t thread;
    errno = pthread_create(&thread, NULL, watch_child, &watch);
    if (errno) {
        kill(child, SIGKILL);
        return -1;
    }
    double ns = run_parent(e, count, each);
    if (ns < 0)
        kill(child, SIGKILL);
    /* The watcher ends when the child has ended, and this side waits no more. */
    while (!atomic_load(&e->gone))
        usleep(50);
    atomic_store(&e->gone, 2);
    pthread_join(thread, NULL);
    errno = 0;
    return ns;
}

static bool by_pipes(enum floor_kind kind)
{
    return kind == BY_PIPE || kind == BY_PPOLL;
}

/* Descriptors: [0] the parent writes, [1] the child reads, [2] the child writes, [3] the parent. */
static int open_channel(enum floor_kind kind, int fds[4])
{
    int pair[2];
    if (by_pipes(kind)) {
        if (pipe2(pair, O_CLOEXEC) < 0)
            return -1;
        fds[0] = pair[1];
        fds[1] = pair[0];
        if (pipe2(pair, O_CLOEXEC) < 0)
            return -1;
        fds[2] = pair[1];
        fds[3] = pair[0];
    } else if (kind == BY_SOCKETPAIR) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
            return -1;
        fds[0] = fds[3] = pair[0];
        fds[1] = fds[2] = pair[1];
    } else if (kind == BY_EVENTFD) {
        if ((fds[0] = fds[1] = eventfd(0, EFD_CLOEXEC)) < 0 ||
            (fds[2] = fds[3] = eventfd(0, EFD_CLOEXEC)) < 0)
            return -1;
    }
    return 0;
}

static void close_one(int *fd, int *other)
{
    if (*fd >= 0)
        close(*fd);
    if (*other == *fd)
        *other = -1;
    *fd = -1;
}

/* A side closes what only the other one uses: the end of one is then seen by the other. */
static void close_theirs(enum floor_kind kind, int fds[4], bool child)
{
    if (by_pipes(kind)) {
        close_one(&fds[child ? 0 : 1], &fds[child ? 0 : 1]);
        close_one(&fds[child ? 3 : 2], &fds[child ? 3 : 2]);
    } else if (kind == BY_SOCKETPAIR) {
        close_one(&fds[child ? 0 : 1], &fds[child ? 3 : 2]);
    }
}

static void close_all(int fds[4])
{
    close_one(&fds[0], &fds[fds[0] == fds[1] ? 1 : 3]);
    for (int i = 1; i < 4; i++)
        close_one(&fds[i], &fds[3]);
}

double floor_ping_pong(enum floor_kind kind, uint64_t count, int here, int there, uint64_t *each)
{
    int fds[4] = {-1, -1, -1, -1};
    double ns = -1;
    struct words *words =
        mmap(NULL, sizeof *words, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int error = words == MAP_FAILED || open_channel(kind, fds) < 0 ? errno : 0;
    if (error == 0) {
        uint32_t yield_after = here >= 0 && here == there ? 1 : YIELD_AFTER;
        pid_t parent = getpid(), child = fork();
        if (child == 0) {
            struct end e = {.kind = kind,
                            .in = fds[1],
                            .out = fds[2],
                            .yield_after = yield_after,
                            .in_word = &words->to_child,
                            .out_word = &words->to_parent};
            child_begin(there, parent);
            close_theirs(kind, fds, true);
            for (uint64_t i = 0; i <= count; i++)
                if (take(&e, false) < 0 || give(&e) < 0)
                    _exit(1);
            _exit(0);
        }
        error = child < 0 || pin(here) < 0 ? errno : 0;
        close_theirs(kind, fds, false);
        struct end e = {.kind = kind,
                        .in = fds[3],
                        .out = fds[0],
                        .yield_after = yield_after,
                        .in_word = &words->to_parent,
                        .out_word = &words->to_child};
        if (error == 0) {
            ns = watched(&e, child, kind == BY_EVENTFD ? fds[3] : -1, count, each);
            error = errno;
        } else if (child > 0) {
            kill(child, SIGKILL);
        }
        if (child > 0 && child_end(child) < 0)
            ns = -1;
    }
    close_all(fds);
    if (words != MAP_FAILED)
        munmap(words, sizeof *words);
    errno = error;
    return ns;
}

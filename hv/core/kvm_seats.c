/* The threads of a VM's vCPUs in KVM_RUN, and the one thread that handles their exits. */
#define _GNU_SOURCE
#include "kvm_seats.h"

#include <stdio.h>
#include <sys/eventfd.h>

#define STACK_BYTES (256u << 10)

/* ---- a vCPU's thread, which holds the lock but for KVM_RUN ---------------------------------- */

static void ring_bell(struct seats *g)
{
    const uint64_t one = 1;
    ssize_t n;
    do
        n = write(g->bell, &one, sizeof one);
    while (n < 0 && errno == EINTR);
}

/* KVM_RUN until there is an exit, or it is to be left. */
static void run_inside(struct seat *s)
{
    struct seats *g = s->all;
    pthread_mutex_unlock(&g->lock);
    do
        s->error = kvm_enter(s->k);
    while (s->error == EINTR &&
           !atomic_load_explicit(&s->k->run->immediate_exit, memory_order_relaxed));
    pthread_mutex_lock(&g->lock);
    s->place = s->error == EINTR ? OUTSIDE : AT_EXIT;
    pthread_cond_broadcast(&g->left);
    if (g->sleeping)
        ring_bell(g);
}

static void *run_vcpu(void *seat)
{
    struct seat *s = seat;
    struct seats *g = s->all;
    pthread_mutex_lock(&g->lock);
    while (!g->ending)
        if (s->place == INSIDE)
            run_inside(s);
        else
            pthread_cond_wait(&s->go, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

/* ---- the VMM's side, with the lock held ----------------------------------------------------- */

static void let_in(struct seat *s)
{
    atomic_store_explicit(&s->k->run->immediate_exit, 0, memory_order_relaxed);
    s->place = INSIDE;
    pthread_cond_signal(&s->go);
}

static void let_all_in(struct seats *g)
{
    for (uint32_t i = 0; i < g->count; i++)
        if (g->seat[i].place == OUTSIDE && !(g->parked & 1u << i))
            let_in(&g->seat[i]);
}

static void kick_all(struct seats *g)
{
    for (uint32_t i = 0; i < g->count; i++) {
        struct seat *s = &g->seat[i];
        if (s->place != INSIDE)
            continue;
        /* Before the signal, which may come before KVM_RUN does. */
        atomic_store_explicit(&s->k->run->immediate_exit, 1, memory_order_relaxed);
        pthread_kill(s->thread, LEAVE_SIGNAL);
    }
}

static bool any_inside(const struct seats *g)
{
    for (uint32_t i = 0; i < g->count; i++)
        if (g->seat[i].place == INSIDE)
            return true;
    return false;
}

static void take_all_out(struct seats *g)
{
    kick_all(g);
    while (any_inside(g))
        pthread_cond_wait(&g->left, &g->lock);
}

/* The vCPU whose exit is returned next, or -1. */
static int next_exited(const struct seats *g)
{
    for (uint32_t n = 0; n < g->count; n++) {
        uint32_t i = (g->turn + n) % g->count;
        if (g->seat[i].place == AT_EXIT)
            return (int)i;
    }
    return -1;
}

static void settle(struct seat *s)
{
    if (s->place != AT_EXIT)
        return;
    if (s->k->element + 1 < exit_elements(s->k->run))
        s->k->element++;
    else
        s->place = OUTSIDE;
}

/* Sleep until the bell rings, `deadline`, a signal, or for LEAVE_NS: one may have come before. */
static void sleep_until(struct seats *g, uint64_t deadline)
{
    uint64_t now = now_ns(), ns = deadline > now ? deadline - now : 0, rings;
    struct timespec limit = {.tv_nsec = (long)(ns < LEAVE_NS ? ns : LEAVE_NS)};
    struct pollfd bell = {.fd = g->bell, .events = POLLIN};
    g->sleeping = true;
    pthread_mutex_unlock(&g->lock);
    if (ppoll(&bell, 1, &limit, NULL) > 0 && read(g->bell, &rings, sizeof rings) < 0)
        rings = 0; /* it was taken: of no interest */
    pthread_mutex_lock(&g->lock);
    g->sleeping = false;
}

/* ---- the VMM's side, without the lock ------------------------------------------------------- */

bool seats_usable(const struct seats *g)
{
    return g->threads && g->forks == forks_seen;
}

int seats_wait(struct seats *g, uint64_t deadline)
{
    pthread_mutex_lock(&g->lock);
    let_all_in(g);
    int i = next_exited(g);
    if (i < 0 && deadline > now_ns()) {
        sleep_until(g, deadline);
        i = next_exited(g);
    }
    pthread_mutex_unlock(&g->lock);
    return i;
}

void seats_handled(struct seat *s)
{
    pthread_mutex_lock(&s->all->lock);
    settle(s);
    pthread_mutex_unlock(&s->all->lock);
}

void seats_enter(struct seat *s)
{
    pthread_mutex_lock(&s->all->lock);
    if (s->k->untaken)
        settle(s);
    if (s->place != INSIDE)
        s->k->untaken = false;
    if (s->place == OUTSIDE)
        let_in(s);
    pthread_mutex_unlock(&s->all->lock);
}

void seats_pause(struct seats *g)
{
    pthread_mutex_lock(&g->lock);
    take_all_out(g);
    pthread_mutex_unlock(&g->lock);
}

void seats_restart(struct seats *g)
{
    pthread_mutex_lock(&g->lock);
    take_all_out(g);
    for (uint32_t i = 0; i < g->count; i++)
        g->seat[i].place = OUTSIDE;
    g->parked = 0;
    pthread_mutex_unlock(&g->lock);
}

/* ---- beginning and end ---------------------------------------------------------------------- */

static void join_all(struct seats *g)
{
    pthread_mutex_lock(&g->lock);
    g->ending = true;
    kick_all(g);
    for (uint32_t i = 0; i < g->threads; i++)
        pthread_cond_signal(&g->seat[i].go);
    pthread_mutex_unlock(&g->lock);
    for (uint32_t i = 0; i < g->threads; i++)
        pthread_join(g->seat[i].thread, NULL);
}

void seats_end(struct seats *g)
{
    if (seats_usable(g))
        join_all(g);
    g->threads = 0;
    if (g->bell >= 0)
        close(g->bell);
    g->bell = -1;
}

/* Signals are for Python's threads, but for the one to leave by and those of a crash. */
static void mask_of_threads(sigset_t *mask)
{
    const int taken[] = {LEAVE_SIGNAL, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    sigfillset(mask);
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        sigdelset(mask, taken[i]);
}

static int start_thread(struct seats *g, struct seat *s, const pthread_attr_t *attributes)
{
    char name[16];
    s->all = g;
    pthread_cond_init(&s->go, NULL);
    int error = pthread_create(&s->thread, attributes, run_vcpu, s);
    snprintf(name, sizeof name, "vCPU %u", (unsigned)(s - g->seat));
    if (!error)
        pthread_setname_np(s->thread, name); /* for top and a debugger */
    return error;
}

int seats_start(struct seats *g)
{
    sigset_t mask, before;
    pthread_attr_t attributes;
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->left, NULL);
    if (kvm_handle_signal() < 0 || (g->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        return errno;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    mask_of_threads(&mask);
    pthread_sigmask(SIG_SETMASK, &mask, &before);
    int error = 0;
    while (!error && g->threads < g->count) {
        error = start_thread(g, &g->seat[g->threads], &attributes);
        g->threads += !error;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

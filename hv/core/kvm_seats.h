/*
 * The vCPUs of a VM of the real KVM, a thread for each. Exits are handed to the VMM's thread, which
 * handles one after the other while the other vCPUs run on, as QEMU does under its big lock. The
 * vCPUs' threads never take Python's lock.
 *
 * Its place says whose a vCPU is: INSIDE it belongs to its thread, otherwise to the VMM's. A thread
 * that is to leave KVM_RUN finds immediate_exit set, or is ended by a signal that comes after it:
 * none is missed.
 */
#ifndef COALESCED_KVM_SEATS_H
#define COALESCED_KVM_SEATS_H

#include "kvm.h"

#include <pthread.h>

enum place {
    OUTSIDE, /* entered by the next seats_wait, unless it is parked */
    INSIDE,  /* in KVM_RUN, or on the way */
    AT_EXIT, /* has an exit that is returned until it is handled */
};

struct seats;

struct seat {
    struct seats *all;
    KvmObject *k;
    pthread_t thread;
    pthread_cond_t go; /* it is INSIDE now, or all end */
    enum place place;
    int error; /* of its last KVM_RUN */
};

struct seats {
    pthread_mutex_t lock; /* never held while Python's objects are touched */
    pthread_cond_t left;  /* one that was INSIDE no longer is */
    struct seat seat[VCPUS_MAX];
    uint32_t count;
    uint32_t threads; /* how many of them have one: all, or, at the end, none */
    uint32_t forks;   /* `forks_seen` of the process that has them */
    uint32_t turn;    /* who is looked at first: the one behind the last that was served */
    uint32_t parked;  /* a bit for each that is not entered: it has halted */
    int bell;         /* an eventfd, on which seats_wait sleeps */
    bool sleeping, ending;
};

/* Start a thread for each seat that is taken: 0, or the error's number. */
int seats_start(struct seats *g);
/* End all threads; a fork of the process has none. May be called twice. */
void seats_end(struct seats *g);
/* Are the threads there? */
bool seats_usable(const struct seats *g);

/* These five are called by one thread, which need not have the GIL. */

/*
 * Enter those that are OUTSIDE, and wait: the one whose exit is next, or -1 at `deadline`, after a
 * signal and now and then.
 */
int seats_wait(struct seats *g, uint64_t deadline);
/* Its exit is handled: the next access of the same string instruction follows, or the guest. */
void seats_handled(struct seat *s);
/* The same for a write, and the guest runs on at once. */
void seats_enter(struct seat *s);
/* Have all leave KVM_RUN, until the next seats_wait. */
void seats_pause(struct seats *g);
/* All begin anew: none is parked, no exit is kept. */
void seats_restart(struct seats *g);

#endif

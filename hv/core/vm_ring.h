/*
 * A ring as the vCPUs of a VM write to it: the VM's, or one of a device's own.
 *
 * Several vCPUs append under a lock, a batch of at most PUBLISH_AT_LATEST entries per holding, and
 * a batch is published before the lock is given back: what a vCPU has queued is visible before any
 * later store of it. With one vCPU there is no lock, and it publishes the VM's ring when it must; a
 * ring of a device's own it publishes with each batch, so that nobody needs to know which of them
 * it has written to.
 */
#ifndef COALESCED_VM_RING_H
#define COALESCED_VM_RING_H

#include "core.h"
#include "ring_lock.h"

#define PUBLISH_AT_LATEST 64 /* entries appended by a bulk operation before they are shown */

struct vm_ring {
    struct ring_producer producer;
    struct wait_noter waits;
    uint32_t unpublished;
    bool shared;                /* there are several vCPUs */
    bool eager;                 /* each holding ends with everything published */
    struct own_ring_words *own; /* NULL: it is the VM's */
    uint32_t wake_at;           /* of an own one: entries from which on its descriptor is written */
    int fd;
    const MappingObject *mapping;
    struct ring_lock lock;
};

typedef struct {
    PyObject_HEAD
    MappingObject *mapping;
    struct vm_ring *ring;
} VmRingObject;

extern PyTypeObject *VmRingType;

static inline void vm_ring_publish(struct vm_ring *r)
{
    waits_publish(&r->waits, &r->producer);
    r->unpublished = 0;
}

/* Let the VMM know that it should look into an own ring. */
void vm_ring_wake(const struct vm_ring *r);

/* Around each use of the ring but vm_ring_show. */
static inline void vm_ring_hold(struct vm_ring *r)
{
    if (__builtin_expect(!r->eager, true))
        return;
    if (r->shared)
        ring_lock_take(&r->lock);
    if (r->own && !waits_queued(&r->producer))
        waits_restart(&r->waits); /* no exit does: an own ring is drained without them */
}

static inline void vm_ring_release(struct vm_ring *r)
{
    if (__builtin_expect(!r->eager, true))
        return;
    vm_ring_publish(r);
    bool wake = r->own && own_ring_announce(r->own, &r->producer, r->wake_at);
    if (r->shared)
        ring_lock_give(&r->lock);
    if (wake)
        vm_ring_wake(r);
}

/* Publish what the vCPU has queued in the VM's ring. NULL: there is none. */
static inline void vm_ring_show(struct vm_ring *r)
{
    if (r && !r->eager)
        vm_ring_publish(r);
}

/* A vCPU has been entered again: its exit emptied the ring, but other vCPUs may have gone on. */
static inline void vm_ring_entered(struct vm_ring *r)
{
    if (!r)
        return;
    vm_ring_hold(r);
    if (r->shared && waits_queued(&r->producer))
        r->waits.due = true;
    else
        waits_restart(&r->waits);
    vm_ring_release(r);
}

/* A vCPU is about to sleep. */
static inline void vm_ring_sleeps(struct vm_ring *r)
{
    vm_ring_hold(r);
    waits_sleep(&r->waits, &r->producer);
    vm_ring_release(r);
}

#endif

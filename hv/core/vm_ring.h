/*
 * The ring of a VM as its vCPUs write to it.
 *
 * Several vCPUs append under a lock, a batch of at most PUBLISH_AT_LATEST entries per holding, and
 * a batch is published before the lock is given back: what a vCPU has queued is visible before any
 * later store of it. With one vCPU there is no lock, and it publishes when it must.
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
    bool shared; /* there are several vCPUs */
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

/* Around each use of the ring but vm_ring_show. */
static inline void vm_ring_hold(struct vm_ring *r)
{
    if (__builtin_expect(r->shared, false))
        ring_lock_take(&r->lock);
}

static inline void vm_ring_release(struct vm_ring *r)
{
    if (__builtin_expect(r->shared, false)) {
        vm_ring_publish(r);
        ring_lock_give(&r->lock);
    }
}

/* Publish what the vCPU has queued. NULL: there is no ring. */
static inline void vm_ring_show(struct vm_ring *r)
{
    if (r && !r->shared) /* each holding of a shared ring ends with that */
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

/* A VMM's handle of a vCPU: its state, and the functions that its files share. */
#ifndef COALESCED_HANDLE_H
#define COALESCED_HANDLE_H

#include "core.h"
#include "edges.h"

typedef struct {
    PyObject_HEAD
    MappingObject *mapping, *first; /* `first`: of the first vCPU, by whose word the VMM sleeps */
    ConsumerObject *ring;           /* or NULL */
    struct run_page *run;
    uint8_t *io_data;
    struct run_words *words;
    struct doorbell bell;
    struct edges edges; /* the doorbell's */
    int watch_fd;       /* or -1 */
    uint64_t looked_at; /* for news of watch_fd, though exits kept coming */
    uint32_t exits, resumes, requests;
    uint32_t posted; /* posted writes that were reported */
    uint32_t waits_held;
    uint64_t lines;
    struct pending_load load;
    bool running, kicked;
    uint8_t watched;  /* of WATCH_RING, WATCH_POSTED and POSTED_APART */
    bool unread;      /* the guest exited for its own reasons when it was paused */
    bool keeps;       /* KEEP_WRITES was asked for */
    bool untaken;     /* a write that the caller has until `enter` */
    bool passed_over; /* another event was reported before an exit that was there */
    bool posts_first; /* the same of posted writes */
} HandleObject;

extern PyTypeObject *HandleType, *HandlesType;

/* The arguments of a wait. */
struct waiting {
    uint64_t deadline, due; /* `due` also passes over exits that keep coming */
    long watch;
};

/*
 * Bits of a wait. POSTED_APART, beside WATCH_POSTED: posted writes may be in rings that an exit does
 * not drain, so that an exit that follows one does not replace its report.
 */
enum {
    WATCH_RING = 1,
    WATCH_DESCRIPTOR = 2,
    KEEP_WRITES = 4,
    WATCH_POSTED = 8,
    POSTED_APART = 16,
};

/* handle_run.c: methods, */
PyObject *handle_enter(PyObject *self, PyObject *unused);
/* wait(timeout, watch[, due]): TIMED_OUT, EXITED, RING_FILLED or READABLE. */
PyObject *handle_wait(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *handle_exit(PyObject *self, PyObject *unused);
/* run(timeout, watch[, due]): enter unless running, wait; the exit, or another event. */
PyObject *handle_run(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *handle_complete(PyObject *self, PyObject *argument);
/* from Python's (timeout, watch[, due]): 0, or -1 with an exception set, */
int waiting_from(PyObject *const *args, Py_ssize_t n, struct waiting *w);
/* letting the guest run on: 0, or -1 with an exception set, */
int handle_enter_now(HandleObject *h);
/* waiting for the exit of a guest that was kicked: as wait, or -1 with an exception set, */
int handle_stopped(HandleObject *h);
/* the parts of a wait, for handles.c: what `handle_ready` sees from now on, */
void handle_watch_for(HandleObject *h, long watch);
/* whether there is something to see of a handle, */
bool handle_ready(void *handle);
/* waiting, with the doorbell of one: EXITED once `ready` is true, another event, or -1, */
int handle_wait_until(HandleObject *h, bool (*ready)(void *), void *ctx, const struct waiting *w);
/* whether it has posted writes that no exit drains, */
bool handle_posted_apart(const HandleObject *h);
/* what there is of one: EXITED, which is noted, TIMED_OUT for no exit, or -1, */
int handle_look(HandleObject *h);
/* EXITED with its exit, or -1, */
int handle_tell_exit(HandleObject *h, struct guest_exit *e);
/* and what calls.h has. */
int handle_add_calls(PyObject *module);

/*
 * Has it an exit that is to be returned? One that came before a pause, and one that nobody handled:
 * an exception of a signal handler may have taken its place.
 */
static inline bool handle_has_exit(const HandleObject *h)
{
    return !h->running && (h->unread || h->untaken || h->load.size);
}

/*
 * Are posted writes reported before an exit that may be there? Every other time, so that neither of
 * them waits while a guest makes more and more of the other.
 */
static inline bool handle_posts_first(HandleObject *h, bool posted)
{
    h->posts_first = posted && !h->posts_first;
    return h->posts_first;
}

/* handles.c: as VcpuHandle.run for all of a VM's vCPUs; *of is the handle whose exit it is. */
int handles_run(PyObject *handles, const struct waiting *w, struct guest_exit *e, PyObject **of);

/* handle_code.c: methods for a guest that is machine code. */
PyObject *handle_interrupt_window(PyObject *self, PyObject *wanted);
PyObject *handle_interrupt(PyObject *self, PyObject *vector);
PyObject *handle_reset(PyObject *self, PyObject *unused);
PyObject *handle_note_written(PyObject *self, PyObject *args);
PyObject *handle_get_resetting(PyObject *self, void *unused);

#endif

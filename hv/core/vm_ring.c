/* VmRing: a ring of a VM, for its vCPUs. */
#define _GNU_SOURCE
#include "vm_ring.h"

#include <poll.h>
#include <stdlib.h>

PyTypeObject *VmRingType;

/* Take the ring up where its indices stand; 0, or -1 with ProtocolError set. */
static int take_up(struct vm_ring *r, struct coalesced_ring *ring, size_t size)
{
    struct ring_producer *p = &r->producer;
    r->waits = (struct wait_noter){.shared = r->waits.shared, .due = true};
    r->unpublished = 0;
    enum ring_status status = ring_producer_init(p, ring, size);
    return status < 0 ? ring_raise(status, p->bad, 0, p->slots) : 0;
}

static PyObject *vm_ring_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    MappingObject *mapping;
    Py_ssize_t size;
    struct coalesced_ring *ring = ring_from(args, kwargs, &mapping, &size);
    void *run = ring ? mapping_range(mapping, 0, PAGE, 64) : NULL;
    if (!run)
        return NULL;
    VmRingObject *self = (VmRingObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self)
        return NULL;
    self->mapping = (MappingObject *)Py_NewRef((PyObject *)mapping);
    self->ring = aligned_alloc(_Alignof(struct vm_ring), sizeof *self->ring);
    if (!self->ring) {
        Py_DECREF((PyObject *)self);
        return PyErr_NoMemory();
    }
    *self->ring =
        (struct vm_ring){.waits = {.shared = run_waits_of(run)}, .fd = -1, .mapping = mapping};
    if (take_up(self->ring, ring, (size_t)size) < 0) {
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyObject *vm_ring_restart(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct vm_ring *r = ((VmRingObject *)self)->ring;
    if (take_up(r, r->producer.ring, ring_bytes(r->producer.slots)) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static void vm_ring_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    free(((VmRingObject *)self)->ring);
    Py_XDECREF((PyObject *)((VmRingObject *)self)->mapping);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

void vm_ring_wake(const struct vm_ring *r)
{
    static const uint64_t one = 1;
    /*
     * Who shares the open file may have let it count up to its end, and made it block. Then it is
     * readable already, and a VMM that waits for this vCPU would not read it.
     */
    struct pollfd room = {r->fd, POLLOUT, 0};
    if (poll(&room, 1, 0) == 0)
        return;
    ssize_t n;
    do /* D4 */
        n = write(r->fd, &one, sizeof one);
    while (n < 0 && errno == EINTR);
    /* EAGAIN: it is readable already. */
}

static PyObject *vm_ring_share(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct vm_ring *r = ((VmRingObject *)self)->ring;
    vm_ring_show(r);
    r->shared = r->eager = true;
    Py_RETURN_NONE;
}

static PyObject *vm_ring_own(PyObject *self, PyObject *args)
{
    struct vm_ring *r = ((VmRingObject *)self)->ring;
    int fd;
    unsigned int wake_at;
    if (!PyArg_ParseTuple(args, "iI", &fd, &wake_at))
        return NULL;
    if (wake_at < 1 || wake_at >= r->producer.slots) {
        PyErr_Format(PyExc_ValueError, "expected 1 to %u entries, got %u", r->producer.slots - 1,
                     wake_at);
        return NULL;
    }
    r->own = mapping_range(((VmRingObject *)self)->mapping, 0, PAGE, 64);
    if (!r->own)
        return NULL;
    r->fd = fd;
    r->wake_at = wake_at;
    r->eager = true;
    Py_RETURN_NONE;
}

static PyMethodDef vm_ring_methods[] = {
    {"restart", vm_ring_restart, METH_NOARGS,
     "Take the ring up anew, where its indices stand; no vCPU runs."},
    {"share", vm_ring_share, METH_NOARGS,
     "From now on several vCPUs append, under a lock; none of them runs."},
    {"own", vm_ring_own, METH_VARARGS, "own(fd, wake_at): it is a device's own."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot vm_ring_slots[] = {
    {Py_tp_doc, "A ring of a VM, for its vCPUs."},
    {Py_tp_new, vm_ring_new},
    {Py_tp_dealloc, vm_ring_dealloc},
    {Py_tp_methods, vm_ring_methods},
    {0, NULL},
};

static PyType_Spec vm_ring_spec = {
    .name = "coalesced.hv.core.VmRing",
    .basicsize = sizeof(VmRingObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = vm_ring_slots,
};

int vm_ring_init_type(PyObject *module)
{
    VmRingType = (PyTypeObject *)PyType_FromSpec(&vm_ring_spec);
    return VmRingType ? PyModule_AddType(module, VmRingType) : -1;
}

/* Consumer: the consumer's end of a ring, for Python. */
#define _GNU_SOURCE
#include "core.h"

#include <fcntl.h>
#include <sys/uio.h>

PyTypeObject *ConsumerType;

int ring_raise(enum ring_status status, uint64_t bad, uint32_t slot, uint32_t slots)
{
    switch (status) {
    case RING_BAD_FIRST:
        PyErr_Format(error_protocol,
                     "ring: index first is %llu, expected a slot below %u that the consumer "
                     "can have reached",
                     (unsigned long long)bad, slots);
        break;
    case RING_BAD_LAST:
        PyErr_Format(error_protocol,
                     "ring: index last is %llu, expected a slot below %u that the producer "
                     "can have reached",
                     (unsigned long long)bad, slots);
        break;
    case RING_BAD_LEN:
        PyErr_Format(error_protocol, "ring: slot %u has len %llu, expected 1 to 8", slot,
                     (unsigned long long)bad);
        break;
    case RING_BAD_PIO:
        PyErr_Format(error_protocol, "ring: slot %u has pio %llu, expected 0 or 1", slot,
                     (unsigned long long)bad);
        break;
    case RING_BAD_ADDRESS: {
        char text[24];
        PyOS_snprintf(text, sizeof text, "0x%llx", (unsigned long long)bad);
        PyErr_Format(error_protocol,
                     "ring: slot %u has address %s, and its last byte passes the end of the space",
                     slot, text);
        break;
    }
    default:
        PyErr_Format(PyExc_SystemError, "ring: unknown status %d", (int)status);
    }
    return -1;
}

struct coalesced_ring *ring_from(PyObject *args, PyObject *kwargs, MappingObject **mapping,
                                 Py_ssize_t *size)
{
    static char *names[] = {"mapping", "offset", "size", NULL};
    Py_ssize_t offset;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!nn", names, MappingType, mapping, &offset,
                                     size))
        return NULL;
    if (*size < (Py_ssize_t)(sizeof(struct coalesced_ring) + 2 * sizeof(struct coalesced_slot))) {
        PyErr_Format(PyExc_ValueError, "expected a ring of at least 56 bytes, got %zd", *size);
        return NULL;
    }
    return mapping_range(*mapping, offset, *size, 8);
}

/* The buffer's element for each slot. */
#define BATCH_ITEM (sizeof(struct coalesced_entry) + 2 * sizeof(uint64_t))

static PyObject *consumer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    MappingObject *mapping;
    Py_ssize_t size;
    struct coalesced_ring *ring = ring_from(args, kwargs, &mapping, &size);
    if (!ring)
        return NULL;
    ConsumerObject *self =
        (ConsumerObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self)
        return NULL;
    Py_INCREF((PyObject *)mapping);
    self->mapping = mapping;
    enum ring_status status = ring_consumer_init(&self->c, ring, (size_t)size);
    if (status < 0)
        ring_raise(status, self->c.bad, 0, self->c.slots);
    else if (!(self->batch = PyMem_Calloc(self->c.slots, BATCH_ITEM)))
        PyErr_NoMemory();
    if (!self->batch) {
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    self->offsets = (uint64_t *)(void *)(self->batch + self->c.slots);
    self->values = self->offsets + self->c.slots;
    return (PyObject *)self;
}

static void consumer_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyMem_Free(((ConsumerObject *)self)->batch);
    Py_XDECREF((PyObject *)((ConsumerObject *)self)->mapping);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* Empty the descriptor of an own ring, which is looked into after this. */
static void answer_signal(ConsumerObject *consumer)
{
    uint64_t count;
    struct iovec into = {&count, sizeof count};
    /* A1. The guest process shares the open file, and may have made it block: not here. */
    ssize_t n = preadv2(consumer->own_fd, &into, 1, -1, RWF_NOWAIT);
    if (n < 0 && errno == EOPNOTSUPP) { /* an older kernel; the guest process is hardly as quick */
        fcntl(consumer->own_fd, F_SETFL, O_NONBLOCK);
        n = read(consumer->own_fd, &count, sizeof count);
    }
    own_ring_answer(consumer->own);
}

static PyObject *consumer_answer(PyObject *self, PyObject *unused)
{
    (void)unused;
    ConsumerObject *consumer = (ConsumerObject *)self;
    if (consumer->own)
        answer_signal(consumer);
    if (mapping_check(consumer->mapping) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *consumer_own(PyObject *self, PyObject *argument)
{
    ConsumerObject *consumer = (ConsumerObject *)self;
    int fd = (int)PyLong_AsLong(argument);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    struct own_ring_words *own = mapping_range(consumer->mapping, 0, PAGE, 64);
    if (!own)
        return NULL;
    consumer->own = fd < 0 ? NULL : own;
    consumer->own_fd = fd;
    Py_RETURN_NONE;
}

Py_ssize_t consumer_fill(ConsumerObject *consumer, uint64_t most)
{
    struct ring_consumer *c = &consumer->c;
    uint32_t count;
    most = most < c->slots ? most : c->slots;
    if (consumer->own && own_ring_signalled(consumer->own))
        answer_signal(consumer);
    enum ring_status status = ring_peek(c, consumer->batch, (uint32_t)most, &count);
    if (mapping_check(consumer->mapping) < 0)
        return -1;
    if (status < 0)
        return ring_raise(status, c->bad, c->slot, c->slots);
    if (count && consumer->waits.shared)
        consumer->waits.looked_at = now_ns();
    return count;
}

static PyObject *consumer_peek(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    uint64_t most = UINT64_MAX;
    if (n > 1) {
        PyErr_Format(PyExc_TypeError, "expected at most 1 argument, got %zd", n);
        return NULL;
    }
    if (n == 1 && unsigned_from(args[0], &most) < 0)
        return NULL;
    Py_ssize_t count = consumer_fill((ConsumerObject *)self, most);
    return count < 0 ? NULL : PyLong_FromSsize_t(count);
}

/* Gapless columns, which array operations run through in less time than through the entries. */
static PyObject *consumer_rebase(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    ConsumerObject *consumer = (ConsumerObject *)self;
    uint64_t base, start, stop;
    if (n != 3) {
        PyErr_Format(PyExc_TypeError, "expected 3 arguments, got %zd", n);
        return NULL;
    }
    if (unsigned_from(args[0], &base) < 0 || unsigned_from(args[1], &start) < 0 ||
        unsigned_from(args[2], &stop) < 0)
        return NULL;
    if (stop > consumer->c.peeked) {
        PyErr_Format(PyExc_ValueError, "cannot rebase %llu entries: %u were peeked",
                     (unsigned long long)stop, consumer->c.peeked);
        return NULL;
    }
    for (uint64_t i = start; i < stop; i++) {
        consumer->offsets[i] = consumer->batch[i].phys_addr - base;
        consumer->values[i] = consumer->batch[i].data;
    }
    Py_RETURN_NONE;
}

static int consumer_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    ConsumerObject *consumer = (ConsumerObject *)self;
    Py_ssize_t size = (Py_ssize_t)(consumer->c.slots * BATCH_ITEM);
    return PyBuffer_FillInfo(view, self, consumer->batch, size, 1, flags);
}

int consumer_give_back(ConsumerObject *consumer, uint64_t count)
{
    if (count > consumer->c.peeked) {
        PyErr_Format(PyExc_ValueError, "cannot commit %llu entries: %u were peeked",
                     (unsigned long long)count, consumer->c.peeked);
        return -1;
    }
    if (count && consumer->waits.shared)
        waits_account(&consumer->waits, consumer->batch, (uint32_t)count);
    ring_commit(&consumer->c, (uint32_t)count);
    return mapping_check(consumer->mapping);
}

static PyObject *consumer_commit(PyObject *self, PyObject *argument)
{
    const struct ring_consumer *c = &((ConsumerObject *)self)->c;
    uint64_t count;
    if (unsigned_from(argument, &count) < 0 ||
        consumer_give_back((ConsumerObject *)self, count) < 0)
        return NULL;
    return PyLong_FromLong((long)ring_distance(c->next, c->last, c->slots));
}

static PyObject *consumer_pending(PyObject *self, PyObject *unused)
{
    (void)unused;
    ConsumerObject *consumer = (ConsumerObject *)self;
    struct ring_consumer *c = &consumer->c;
    enum ring_status status = ring_look(c);
    if (mapping_check(consumer->mapping) < 0)
        return NULL;
    if (status < 0) {
        ring_raise(status, c->bad, 0, c->slots);
        return NULL;
    }
    return PyLong_FromLong((long)ring_distance(c->next, c->last, c->slots));
}

static PyObject *consumer_get_slots(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromLong((long)((ConsumerObject *)self)->c.slots);
}

static PyObject *consumer_follow(PyObject *self, PyObject *unused)
{
    (void)unused;
    ConsumerObject *consumer = (ConsumerObject *)self;
    void *run = mapping_range(consumer->mapping, 0, PAGE, 64);
    if (!run)
        return NULL;
    waits_follow(&consumer->waits, run);
    Py_RETURN_NONE;
}

/* Nothing is peeked any more, and no wait is counted yet. */
static PyObject *consumer_restart(PyObject *self, PyObject *unused)
{
    ConsumerObject *consumer = (ConsumerObject *)self;
    struct ring_consumer *c = &consumer->c;
    enum ring_status status = ring_consumer_init(c, c->ring, ring_bytes(c->slots));
    if (status < 0) {
        ring_raise(status, c->bad, 0, c->slots);
        return NULL;
    }
    if (!consumer->waits.shared)
        Py_RETURN_NONE;
    consumer->waits = (struct wait_counts){0};
    return consumer_follow(self, unused);
}

/* (p50, p99, max in ns, address and pio of what waited longest, ranges slept on), or None. */
static PyObject *consumer_waits(PyObject *self, PyObject *unused)
{
    (void)unused;
    const struct wait_counts *w = &((ConsumerObject *)self)->waits;
    if (!w->shared || !w->taken)
        Py_RETURN_NONE;
    PyObject *ranges = PyList_New(0);
    for (uint32_t i = 0; ranges && i < w->ranges; i++) {
        const struct wait_range *r = &w->range[i];
        PyObject *item = Py_BuildValue("(KKNKK)", (unsigned long long)r->low,
                                       (unsigned long long)r->high, PyBool_FromLong(r->pio),
                                       (unsigned long long)r->writes, (unsigned long long)r->ns);
        if (!item || PyList_Append(ranges, item) < 0)
            Py_CLEAR(ranges);
        Py_XDECREF(item);
    }
    if (!ranges)
        return NULL;
    return Py_BuildValue("(KKKKNN)", (unsigned long long)waits_percentile(w, 50),
                         (unsigned long long)waits_percentile(w, 99),
                         (unsigned long long)w->longest,
                         (unsigned long long)w->longest_entry.phys_addr,
                         PyBool_FromLong(w->longest_entry.pio), ranges);
}

static PyMethodDef consumer_methods[] = {
    {"peek", (PyCFunction)(void (*)(void))consumer_peek, METH_FASTCALL,
     "peek([most]): copy the published entries to the batch; how many."},
    {"rebase", (PyCFunction)(void (*)(void))consumer_rebase, METH_FASTCALL,
     "rebase(base, start, stop): offsets from it, and values, as columns."},
    {"commit", consumer_commit, METH_O,
     "commit(count): give peeked entries' slots back; how many seen ones are left."},
    {"follow", consumer_follow, METH_NOARGS, "Count waits, by the notes in the mapping's page 0."},
    {"restart", consumer_restart, METH_NOARGS, "Take the ring up anew, where its indices stand."},
    {"waits", consumer_waits, METH_NOARGS, "(p50, p99, max, address, pio, slept on), ns, or None."},
    {"own", consumer_own, METH_O,
     "own(fd): it is a device's own, with that descriptor; -1: no more."},
    {"answer", consumer_answer, METH_NOARGS, "Empty the descriptor, before a look into the ring."},
    {"pending", consumer_pending, METH_NOARGS, "How many entries are published and not committed."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef consumer_getset[] = {
    {"slots", consumer_get_slots, NULL, "Slots of the ring; all but one are usable.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot consumer_slots[] = {
    {Py_tp_doc, "The consumer's end of a ring."},
    {Py_tp_new, consumer_new},
    {Py_tp_dealloc, consumer_dealloc},
    {Py_tp_methods, consumer_methods},
    {Py_bf_getbuffer, consumer_getbuffer},
    {Py_tp_getset, consumer_getset},
    {0, NULL},
};

static PyType_Spec consumer_spec = {
    .name = "coalesced.hv.core.Consumer",
    .basicsize = sizeof(ConsumerObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = consumer_slots,
};

int consumer_init_type(PyObject *module)
{
    ConsumerType = (PyTypeObject *)PyType_FromSpec(&consumer_spec);
    return ConsumerType ? PyModule_AddType(module, ConsumerType) : -1;
}

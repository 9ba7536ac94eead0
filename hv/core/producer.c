/* Producer: the producer's end of a ring, for Python. */
#define _GNU_SOURCE
#include "core.h"

#define PUBLISH_EVERY 64 /* entries; more than that saves little, and the consumer waits longer */

PyTypeObject *ProducerType;

static PyObject *producer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    MappingObject *mapping;
    Py_ssize_t size;
    struct coalesced_ring *ring = ring_from(args, kwargs, &mapping, &size);
    if (!ring)
        return NULL;
    ProducerObject *self =
        (ProducerObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self)
        return NULL;
    Py_INCREF((PyObject *)mapping);
    self->mapping = mapping;
    enum ring_status status = ring_producer_init(&self->p, ring, (size_t)size);
    if (status < 0) {
        ring_raise(status, self->p.bad, 0, self->p.slots);
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    return (PyObject *)self;
}

static void producer_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF((PyObject *)((ProducerObject *)self)->mapping);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

int producer_put(ProducerObject *self, PyObject *const *entry, int pio)
{
    uint64_t address, len, data;
    if (unsigned_from(entry[0], &address) < 0 || unsigned_from(entry[1], &len) < 0 ||
        unsigned_from(entry[2], &data) < 0)
        return -1;
    if (len < 1 || len > 8) {
        PyErr_Format(PyExc_ValueError, "expected a len of 1 to 8, got %llu",
                     (unsigned long long)len);
        return -1;
    }
    if (address > ring_shape_of((uint32_t)len, pio ? 1 : 0).most) {
        PyErr_SetString(PyExc_ValueError, "the last byte passes the end of the address space");
        return -1;
    }
    enum ring_status status = ring_append(&self->p, address, (uint32_t)len, pio ? 1 : 0, data);
    if (status < 0) {
        ring_raise(status, self->p.bad, 0, self->p.slots);
        return -1;
    }
    return mapping_check(self->mapping) < 0 ? -1 : status == RING_OK;
}

static PyObject *producer_append(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"phys_addr", "len", "data", "pio", NULL};
    PyObject *entry[3];
    int pio = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|p", names, &entry[0], &entry[1], &entry[2],
                                     &pio))
        return NULL;
    int put = producer_put((ProducerObject *)self, entry, pio);
    return put < 0 ? NULL : PyBool_FromLong(put);
}

static PyObject *producer_publish(PyObject *self, PyObject *unused)
{
    (void)unused;
    ring_publish(&((ProducerObject *)self)->p);
    if (mapping_check(((ProducerObject *)self)->mapping) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* Every entry's len, pio and address, as the consumer will check them; -1 with ValueError set. */
static int entries_check(const struct coalesced_entry *entry, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        uint64_t bad;
        switch (ring_check_entry(&entry[i], &bad)) {
        case RING_OK:
            continue;
        case RING_BAD_LEN:
            PyErr_Format(PyExc_ValueError, "entry %zd: expected a len of 1 to 8, got %llu", i,
                         (unsigned long long)bad);
            return -1;
        case RING_BAD_PIO:
            PyErr_Format(PyExc_ValueError, "entry %zd: expected a pio of 0 or 1, got %llu", i,
                         (unsigned long long)bad);
            return -1;
        default:
            PyErr_Format(PyExc_ValueError,
                         "entry %zd: its last byte passes the end of the address space", i);
            return -1;
        }
    }
    return 0;
}

/* The entries of a buffer, in *view, which the caller releases; -1 with an exception set. */
static int entries_of(PyObject *object, Py_buffer *view)
{
    if (PyObject_GetBuffer(object, view, PyBUF_SIMPLE) < 0)
        return -1;
    if (view->len % (Py_ssize_t)sizeof(struct coalesced_entry) == 0 &&
        (uintptr_t)view->buf % _Alignof(struct coalesced_entry) == 0)
        return 0;
    PyErr_Format(PyExc_ValueError, "expected aligned entries of 24 bytes, got %zd bytes",
                 view->len);
    PyBuffer_Release(view);
    return -1;
}

/* Append from `from` on until the ring is full, published at the latest every PUBLISH_EVERY. */
static enum ring_status append_all(struct ring_producer *p, const struct coalesced_entry *entry,
                                   Py_ssize_t from, Py_ssize_t count, Py_ssize_t *at)
{
    enum ring_status status = RING_OK;
    for (*at = from; *at < count; (*at)++) {
        const struct coalesced_entry *e = &entry[*at];
        status = ring_append(p, e->phys_addr, e->len, e->pio, e->data);
        if (status != RING_OK)
            break;
        if ((*at - from) % PUBLISH_EVERY == PUBLISH_EVERY - 1)
            ring_publish(p);
    }
    ring_publish(p);
    return status;
}

Py_ssize_t producer_extend(ProducerObject *producer, PyObject *entries, Py_ssize_t from)
{
    Py_buffer view;
    Py_ssize_t at = -1;
    if (entries_of(entries, &view) < 0)
        return -1;
    Py_ssize_t count = view.len / (Py_ssize_t)sizeof(struct coalesced_entry);
    enum ring_status status = RING_OK;
    if (from < 0 || from > count)
        PyErr_Format(PyExc_ValueError, "expected an entry of 0 to %zd to begin at, got %zd", count,
                     from);
    else if (from > 0 || entries_check(view.buf, count) == 0)
        status = append_all(&producer->p, view.buf, from, count, &at);
    PyBuffer_Release(&view);
    if (at < 0 || mapping_check(producer->mapping) < 0)
        return -1;
    return status < 0 ? ring_raise(status, producer->p.bad, 0, producer->p.slots) : at;
}

static PyObject *producer_get_slots(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromLong((long)((ProducerObject *)self)->p.slots);
}

static PyMethodDef producer_methods[] = {
    {"append", (PyCFunction)(void (*)(void))producer_append, METH_VARARGS | METH_KEYWORDS,
     "append(phys_addr, len, data, pio=False): False when the ring is full."},
    {"publish", producer_publish, METH_NOARGS, "Show the consumer what was appended."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef producer_getset[] = {
    {"slots", producer_get_slots, NULL, "Slots of the ring; all but one are usable.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot producer_slots[] = {
    {Py_tp_doc, "The producer's end of a ring."},
    {Py_tp_new, producer_new},
    {Py_tp_dealloc, producer_dealloc},
    {Py_tp_methods, producer_methods},
    {Py_tp_getset, producer_getset},
    {0, NULL},
};

static PyType_Spec producer_spec = {
    .name = "coalesced.hv.core.Producer",
    .basicsize = sizeof(ProducerObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = producer_slots,
};

int producer_init_type(PyObject *module)
{
    ProducerType = (PyTypeObject *)PyType_FromSpec(&producer_spec);
    return ProducerType ? PyModule_AddType(module, ProducerType) : -1;
}

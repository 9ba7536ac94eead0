/* Bell: an end of a shared ring (shared_ring.h) as its owner, which waits for the other end. */
#define _GNU_SOURCE
#include "core.h"

#define BELL_LOOKS 32 /* about a microsecond */

typedef struct {
    PyObject_HEAD
    MappingObject *mapping;
    ProducerObject *producer; /* one of these two, after attach_end */
    ConsumerObject *consumer;
    struct shared_ring_end end; /* mark 0: closed */
    bool produces;
    uint32_t forks; /* forks_seen of the process that may use it */
} BellObject;

static const char *bell_side(bool producer)
{
    return producer ? "producer" : "consumer";
}

/* 0, or -1 with an exception set when this process may not use the end. */
static int bell_check(const BellObject *self)
{
    if (!self->end.mark) {
        PyErr_Format(error_closed, "the %s's end is closed", bell_side(self->produces));
        return -1;
    }
    if (self->forks == forks_seen)
        return 0;
    PyErr_Format(error_busy, "the %s's end belongs to process %u, and this is a fork of it",
                 bell_side(self->produces), (unsigned)self->end.mark);
    return -1;
}

/* Are there entries, or is there room, as far as the other end's index says? */
static bool bell_news(const BellObject *self)
{
    return self->consumer ? shared_ring_has_entries(&self->consumer->c)
                          : shared_ring_has_room(&self->producer->p);
}

static bool bell_ready(void *context)
{
    const BellObject *self = context;
    return bell_news(self) || shared_ring_peer(self->end.peer) != self->end.followed;
}

/* Know who the other end's owner is, and whether it lives; -1 with an exception set. */
static int bell_follow(BellObject *self)
{
    if (shared_ring_follow(&self->end) == 0)
        return 0;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* The exception that says why nothing will come from the other end; 0 when it is there. */
static int bell_raise_end(const BellObject *self)
{
    const char *peer = bell_side(!self->produces);
    if (self->end.followed & SHARED_RING_CLOSED)
        PyErr_Format(error_closed, "the %s has closed its end", peer);
    else if (self->end.gone)
        PyErr_Format(error_peer_died, "the %s's process %u has ended without closing its end", peer,
                     (unsigned)self->end.followed);
    else
        return 0;
    return -1;
}

static PyObject *bell_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"mapping", "fd", "produces", NULL};
    MappingObject *mapping;
    int fd, produces;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!ip", names, MappingType, &mapping, &fd,
                                     &produces))
        return NULL;
    struct shared_ring *shared = mapping_range(mapping, 0, SHARED_RING_OFFSET, 64);
    if (!shared)
        return NULL;
    struct shared_ring_end end;
    if (!shared_ring_join(&end, shared, produces, fd)) {
        if (!end.mark)
            PyErr_SetString(error_host, "cannot read this process's start time in /proc");
        else
            PyErr_Format(error_busy, "the ring has a %s already: process %u", bell_side(produces),
                         (unsigned)end.mark);
        return NULL;
    }
    BellObject *self = (BellObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) {
        shared_ring_leave(&end);
        return NULL;
    }
    Py_INCREF((PyObject *)mapping);
    self->mapping = mapping;
    self->end = end;
    self->produces = produces;
    self->forks = forks_seen;
    return (PyObject *)self;
}

static PyObject *bell_attach_end(PyObject *object, PyObject *end)
{
    BellObject *self = (BellObject *)object;
    PyTypeObject *wanted = self->produces ? ProducerType : ConsumerType;
    if (!PyObject_TypeCheck(end, wanted) || self->producer || self->consumer) {
        PyErr_SetString(PyExc_TypeError, "expected the end of the ring that the bell is of, once");
        return NULL;
    }
    Py_INCREF(end);
    if (self->produces)
        self->producer = (ProducerObject *)end;
    else
        self->consumer = (ConsumerObject *)end;
    Py_RETURN_NONE;
}

/* Close the end, unless this process is a fork of the one that it belongs to. */
static PyObject *bell_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    BellObject *self = (BellObject *)object;
    if (self->end.mark && self->forks == forks_seen)
        shared_ring_leave(&self->end);
    self->end.mark = 0;
    shared_ring_unfollow(&self->end);
    Py_RETURN_NONE;
}

static void bell_dealloc(PyObject *object)
{
    BellObject *self = (BellObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->mapping)
        shared_ring_unfollow(&self->end);
    Py_XDECREF((PyObject *)self->producer);
    Py_XDECREF((PyObject *)self->consumer);
    Py_XDECREF((PyObject *)self->mapping);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

/* 0, or -1 with an exception set when entries can neither be appended nor taken. */
static int bell_usable(const BellObject *self)
{
    if (bell_check(self) < 0)
        return -1;
    /* Closed for good: who writes on would write for nobody. */
    if (self->produces && shared_ring_peer(self->end.peer) & SHARED_RING_CLOSED) {
        PyErr_SetString(error_closed, "the consumer has closed its end");
        return -1;
    }
    return 0;
}

static PyObject *bell_check_method(PyObject *object, PyObject *unused)
{
    (void)unused;
    if (bell_usable((BellObject *)object) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static bool bell_has_end(const BellObject *self)
{
    if (!self->producer && !self->consumer)
        PyErr_SetString(PyExc_TypeError, "expected an end of the ring first: attach_end");
    return self->producer || self->consumer;
}

/* append(address, len, data, pio): check, append, publish and signal: an entry a call. */
static PyObject *bell_append(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    BellObject *self = (BellObject *)object;
    if (n != 4 || !self->producer) {
        PyErr_SetString(PyExc_TypeError, "expected a producer's bell and 4 arguments");
        return NULL;
    }
    int pio = PyObject_IsTrue(args[3]);
    int put = pio < 0 || bell_usable(self) < 0 ? -1 : producer_put(self->producer, args, pio);
    if (put <= 0)
        return put < 0 ? NULL : Py_NewRef(Py_False);
    ring_publish(&self->producer->p);
    doorbell_signal(&self->end.bell);
    Py_RETURN_TRUE;
}

/* extend(entries, start): check, append what there is room for, publish and signal. */
static PyObject *bell_extend(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    BellObject *self = (BellObject *)object;
    if (n != 2 || !self->producer) {
        PyErr_SetString(PyExc_TypeError, "expected a producer's bell and 2 arguments");
        return NULL;
    }
    Py_ssize_t start = PyLong_AsSsize_t(args[1]);
    if (PyErr_Occurred() || bell_usable(self) < 0)
        return NULL;
    Py_ssize_t next = producer_extend(self->producer, args[0], start);
    if (next < 0)
        return NULL;
    doorbell_signal(&self->end.bell);
    return PyLong_FromSsize_t(next);
}

/* commit(count): check, commit and signal. */
static PyObject *bell_commit(PyObject *object, PyObject *argument)
{
    BellObject *self = (BellObject *)object;
    uint64_t count;
    if (!self->consumer) {
        PyErr_SetString(PyExc_TypeError, "expected a consumer's bell");
        return NULL;
    }
    if (bell_usable(self) < 0 || unsigned_from(argument, &count) < 0 ||
        consumer_give_back(self->consumer, count) < 0)
        return NULL;
    doorbell_signal(&self->end.bell);
    Py_RETURN_NONE;
}

/* Look for news for about as long as a look at the other process, a system call, takes. */
static bool bell_news_soon(const BellObject *self)
{
    for (int i = 0; i < BELL_LOOKS; i++) {
        if (bell_news(self))
            return true;
        cpu_relax();
    }
    return bell_news(self);
}

/* 1: there are entries, or there is room; 0 at the deadline; -1 with an exception set. */
static int bell_await(BellObject *self, uint64_t deadline)
{
    for (;;) {
        /* First who is there, then its index: a producer that is gone has published its last. */
        bool news = deadline ? bell_news_soon(self) : bell_news(self);
        if (!news && bell_follow(self) < 0)
            return -1;
        if (bell_news(self))
            break;
        if (mapping_check(self->mapping) < 0 || bell_raise_end(self) < 0)
            return -1;
        PyThreadState *save = PyEval_SaveThread();
        enum wait_result r =
            core_wait(&self->end.bell, bell_ready, self, deadline, self->mapping, &save);
        PyEval_RestoreThread(save);
        if (r == WAIT_ERROR)
            return -1;
        if (r == WAIT_TIMEOUT)
            return 0;
        self->end.gone = r == WAIT_PEER_GONE;
    }
    return mapping_check(self->mapping) < 0 ? -1 : 1;
}

static PyObject *bell_wait(PyObject *object, PyObject *timeout)
{
    BellObject *self = (BellObject *)object;
    uint64_t deadline;
    if (!bell_has_end(self) || bell_check(self) < 0 || deadline_from(timeout, &deadline) < 0)
        return NULL;
    int news = bell_await(self, deadline);
    return news < 0 ? NULL : PyBool_FromLong(news);
}

/* take(timeout, most): wait, copy, commit and signal, in a call. */
static PyObject *bell_take(PyObject *object, PyObject *const *args, Py_ssize_t n)
{
    BellObject *self = (BellObject *)object;
    uint64_t deadline, most = UINT64_MAX;
    if (n != 2 || !self->consumer) {
        PyErr_SetString(PyExc_TypeError, "expected a consumer's bell and 2 arguments");
        return NULL;
    }
    if (bell_check(self) < 0 || deadline_from(args[0], &deadline) < 0 ||
        (args[1] != Py_None && unsigned_from(args[1], &most) < 0))
        return NULL;
    Py_ssize_t count = bell_await(self, deadline);
    if (count > 0)
        count = consumer_fill(self->consumer, most);
    if (count < 0)
        return NULL;
    const struct coalesced_entry *batch = self->consumer->batch;
    PyObject *taken =
        PyByteArray_FromStringAndSize((const char *)batch, count * (Py_ssize_t)sizeof *batch);
    if (taken && count && consumer_give_back(self->consumer, (uint64_t)count) < 0)
        Py_CLEAR(taken);
    if (taken && count)
        doorbell_signal(&self->end.bell);
    return taken;
}

/* True: the caller may sleep until its socket, or life_fd, is readable. */
static PyObject *bell_arm(PyObject *object, PyObject *unused)
{
    (void)unused;
    BellObject *self = (BellObject *)object;
    if (!bell_has_end(self) || bell_check(self) < 0 || bell_follow(self) < 0)
        return NULL;
    doorbell_drain(&self->end.bell);
    doorbell_arm(&self->end.bell);
    if (!bell_ready(self) && !self->end.gone && !(self->end.followed & SHARED_RING_CLOSED))
        Py_RETURN_TRUE;
    doorbell_disarm(&self->end.bell);
    Py_RETURN_FALSE;
}

static PyObject *bell_disarm(PyObject *object, PyObject *unused)
{
    (void)unused;
    doorbell_disarm(&((BellObject *)object)->end.bell);
    Py_RETURN_NONE;
}

static PyObject *bell_get_life_fd(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromLong(((BellObject *)object)->end.bell.life_fd);
}

static PyObject *bell_get_signals(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((BellObject *)object)->end.bell.signals);
}

static PyMethodDef bell_methods[] = {
    {"attach_end", bell_attach_end, METH_O, "attach_end(end): the Producer or Consumer, made now."},
    {"close", bell_close, METH_NOARGS, "Close the end and wake the other one."},
    {"check", bell_check_method, METH_NOARGS, "Raise RingClosed or RingBusy for an unusable end."},
    {"append", (PyCFunction)(void (*)(void))bell_append, METH_FASTCALL,
     "append(address, len, data, pio): show the entry and wake; False when the ring is full."},
    {"extend", (PyCFunction)(void (*)(void))bell_extend, METH_FASTCALL,
     "extend(entries, start): show entries and wake until the ring is full; where to go on."},
    {"commit", bell_commit, METH_O, "commit(count): give slots of peeked entries back and wake."},
    {"take", (PyCFunction)(void (*)(void))bell_take, METH_FASTCALL,
     "take(timeout, most): a bytearray of entries, which are committed; empty after it."},
    {"wait", bell_wait, METH_O, "wait(timeout): for entries or for room; False after it."},
    {"arm", bell_arm, METH_NOARGS, "Announce a sleep; False when there is news already."},
    {"disarm", bell_disarm, METH_NOARGS, "The sleep is over."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef bell_getset[] = {
    {"life_fd", bell_get_life_fd, NULL, "Readable when the other end's process has ended; -1.",
     NULL},
    {"signals", bell_get_signals, NULL, "How often the other end was woken.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot bell_slots[] = {
    {Py_tp_doc, "An end of a shared ring as its owner."},
    {Py_tp_new, bell_new},
    {Py_tp_dealloc, bell_dealloc},
    {Py_tp_methods, bell_methods},
    {Py_tp_getset, bell_getset},
    {0, NULL},
};

static PyType_Spec bell_spec = {
    .name = "coalesced.hv.core.Bell",
    .basicsize = sizeof(BellObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = bell_slots,
};

int bell_init_type(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&bell_spec);
    return type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
}

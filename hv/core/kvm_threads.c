/* KvmThreads: the vCPUs of a VM of the real KVM as its VMM enters them and waits for them. */
#define _GNU_SOURCE
#include "kvm_seats.h"

#include <string.h>

typedef struct {
    PyObject_HEAD
    struct seats g;
    int current; /* whose exit was returned last, or -1 */
} ThreadsObject;

static struct seats *seats_of(PyObject *self)
{
    return &((ThreadsObject *)self)->g;
}

/* False with an exception set when the threads have ended. */
static bool have_threads(const struct seats *g)
{
    if (seats_usable(g))
        return true;
    PyErr_SetString(PyExc_RuntimeError, "the threads of these vCPUs have ended");
    return false;
}

/* The exit of a vCPU, or NULL with an exception set. */
static PyObject *exit_of(struct seat *s)
{
    KvmObject *k = s->k;
    PyObject *exit = NULL;
    if (s->error) {
        errno = s->error;
        PyErr_SetFromErrno(PyExc_OSError);
    } else {
        exit = kvm_tell(k);
    }
    /* Other exits need no answer: they are handled now. */
    if (!exit || !(k->load.size || k->untaken || k->run->exit_reason == EXIT_HLT))
        seats_handled(s);
    return exit;
}

static PyObject *return_exit(PyObject *self, int i)
{
    struct seats *g = seats_of(self);
    ((ThreadsObject *)self)->current = i;
    g->turn = ((uint32_t)i + 1) % g->count;
    return exit_of(&g->seat[i]);
}

static PyObject *threads_run(PyObject *self, PyObject *timeout)
{
    struct seats *g = seats_of(self);
    uint64_t deadline;
    if (deadline_from(timeout, &deadline) < 0 || !have_threads(g))
        return NULL;
    for (;;) {
        int i;
        Py_BEGIN_ALLOW_THREADS
        i = seats_wait(g, deadline);
        Py_END_ALLOW_THREADS
        if (i >= 0)
            return return_exit(self, i);
        if (PyErr_CheckSignals() < 0)
            return NULL;
        if (now_ns() >= deadline)
            return Py_NewRef(event_objects[TIMED_OUT]);
    }
}

/* The vCPU whose exit was returned last, or NULL with an exception set. */
static struct seat *exited_last(PyObject *self)
{
    int i = ((ThreadsObject *)self)->current;
    if (!have_threads(seats_of(self)))
        return NULL;
    if (i >= 0)
        return &seats_of(self)->seat[i];
    PyErr_SetString(PyExc_RuntimeError, "no vCPU has exited yet");
    return NULL;
}

static PyObject *threads_complete(PyObject *self, PyObject *argument)
{
    struct seat *s = exited_last(self);
    PyObject *done = s ? exit_answer(s->k->run, s->k->io_data, &s->k->load, argument) : NULL;
    if (done)
        seats_handled(s);
    return done;
}

static PyObject *threads_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct seat *s = exited_last(self);
    if (!s)
        return NULL;
    seats_enter(s);
    Py_RETURN_NONE;
}

static PyObject *threads_park(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct seat *s = exited_last(self);
    if (!s)
        return NULL;
    struct seats *g = seats_of(self);
    seats_handled(s);
    return PyBool_FromLong(park_one(&g->parked, (uint32_t)(s - g->seat), g->count));
}

static PyObject *threads_pause(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct seats *g = seats_of(self);
    if (!have_threads(g))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    seats_pause(g);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *threads_restart(PyObject *self, PyObject *unused)
{
    (void)unused;
    ThreadsObject *t = (ThreadsObject *)self;
    if (!have_threads(&t->g))
        return NULL;
    t->current = -1;
    Py_BEGIN_ALLOW_THREADS
    seats_restart(&t->g);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *threads_current(PyObject *self, void *unused)
{
    (void)unused;
    struct seat *s = exited_last(self);
    return s ? PyLong_FromLong((long)(s - seats_of(self)->seat)) : NULL;
}

static PyObject *threads_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    Py_BEGIN_ALLOW_THREADS
    seats_end(seats_of(self));
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* Take the handles; 0, or -1 with an exception set. */
static int take_handles(struct seats *g, PyObject *handles)
{
    Py_ssize_t count = PyTuple_Size(handles);
    if (count < 1 || count > (Py_ssize_t)VCPUS_MAX) {
        PyErr_Format(PyExc_ValueError, "expected 1 to %u handles, got %zd", VCPUS_MAX, count);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *k = PyTuple_GetItem(handles, i);
        if (Py_TYPE(k) != KvmType) {
            PyErr_SetString(PyExc_TypeError, "expected a tuple of KvmHandle");
            return -1;
        }
        g->seat[g->count++].k = (KvmObject *)Py_NewRef(k);
    }
    return 0;
}

static PyObject *threads_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"handles", NULL};
    PyObject *handles;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!", names, &PyTuple_Type, &handles))
        return NULL;
    ThreadsObject *t = (ThreadsObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!t)
        return NULL;
    t->current = t->g.bell = -1;
    t->g.forks = forks_seen;
    int error = take_handles(&t->g, handles) < 0 ? -1 : seats_start(&t->g);
    if (error > 0)
        PyErr_Format(error_host, "no thread for a vCPU: %s", strerror(error));
    if (error)
        Py_CLEAR(t);
    return (PyObject *)t;
}

static void threads_dealloc(PyObject *self)
{
    struct seats *g = seats_of(self);
    PyTypeObject *type = Py_TYPE(self);
    seats_end(g);
    for (uint32_t i = 0; i < g->count; i++)
        Py_DECREF((PyObject *)g->seat[i].k);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef threads_methods[] = {
    {"run", threads_run, METH_O,
     "run(timeout): enter those that are outside, wait; an exit, or TIMED_OUT."},
    {"complete", threads_complete, METH_O, "complete(value): answer the load that exited last."},
    {"enter", threads_enter, METH_NOARGS, "Let the vCPU that exited last run on."},
    {"park", threads_park, METH_NOARGS,
     "Do not enter the vCPU that exited last; False, and none is parked, when it was the last one."},
    {"pause", threads_pause, METH_NOARGS, "Have all leave KVM_RUN, until the next run."},
    {"restart", threads_restart, METH_NOARGS, "All begin anew: none is parked, no exit is kept."},
    {"close", threads_close, METH_NOARGS, "End the threads; may be called twice."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef threads_attributes[] = {
    {"current", threads_current, NULL, "The index of the vCPU that exited last.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot threads_slots[] = {
    {Py_tp_doc, "The vCPUs of a VM of the real KVM, each in KVM_RUN in a thread of its own."},
    {Py_tp_new, threads_new},
    {Py_tp_dealloc, threads_dealloc},
    {Py_tp_methods, threads_methods},
    {Py_tp_getset, threads_attributes},
    {0, NULL},
};

static PyType_Spec threads_spec = {
    .name = "coalesced.hv.core.KvmThreads",
    .basicsize = sizeof(ThreadsObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = threads_slots,
};

int kvm_threads_init_type(PyObject *module)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromSpec(&threads_spec);
    return type ? PyModule_AddType(module, type) : -1;
}

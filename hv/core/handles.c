/* VcpuHandles: the handles of a VM's vCPUs, for a VMM that waits for all of them in one place. */
#define _GNU_SOURCE
#include "handle.h"
#include "posted.h"

typedef struct {
    PyObject_HEAD
    HandleObject *handle[VCPUS_MAX]; /* the first one's doorbell is where the VMM sleeps */
    uint32_t count;
    uint32_t turn;   /* who is looked at first: the one behind the last that was served */
    uint32_t parked; /* a bit for each that is not entered: it has halted */
    int current;     /* whose exit was returned last, or -1 */
} HandlesObject;

PyTypeObject *HandlesType;

static bool any_ready(void *ctx)
{
    const HandlesObject *g = ctx;
    for (uint32_t i = 0; i < g->count; i++)
        if (handle_ready(g->handle[i]))
            return true;
    return false;
}

static bool any_posted_apart(const HandlesObject *g)
{
    for (uint32_t i = 0; i < g->count; i++)
        if (handle_posted_apart(g->handle[i]))
            return true;
    return false;
}

/* Let each that is stopped run on, unless it is parked or its exit is to be returned. */
static int enter_all(HandlesObject *g, long watch)
{
    for (uint32_t i = 0; i < g->count; i++) {
        HandleObject *h = g->handle[i];
        handle_watch_for(h, watch);
        if (!h->running && !(g->parked & 1u << i) && !handle_has_exit(h) && handle_enter_now(h) < 0)
            return -1;
    }
    return 0;
}

/* The exit of vCPU `i`, which is the last in turn now: EXITED, or -1. */
static int serve(HandlesObject *g, uint32_t i, struct guest_exit *e)
{
    g->current = (int)i;
    g->turn = (i + 1) % g->count;
    return handle_tell_exit(g->handle[i], e);
}

/* An exit that a vCPU had before it was stopped: EXITED, TIMED_OUT for none, or -1. */
static int serve_kept(HandlesObject *g, struct guest_exit *e)
{
    for (uint32_t n = 0; n < g->count; n++) {
        uint32_t i = (g->turn + n) % g->count;
        if (handle_has_exit(g->handle[i]))
            return serve(g, i, e);
    }
    return TIMED_OUT;
}

/* An exit of now: as above. */
static int serve_next(HandlesObject *g, struct guest_exit *e)
{
    for (uint32_t n = 0; n < g->count; n++) {
        uint32_t i = (g->turn + n) % g->count;
        int got = handle_look(g->handle[i]);
        if (got != TIMED_OUT)
            return got < 0 ? -1 : serve(g, i, e);
    }
    return TIMED_OUT;
}

static int run_all(HandlesObject *g, const struct waiting *w, struct guest_exit *e)
{
    int got = enter_all(g, w->watch) < 0 ? -1 : serve_kept(g, e);
    if (got != TIMED_OUT)
        return got;
    got = handle_wait_until(g->handle[0], any_ready, g, w);
    if (got != EXITED)
        return got;
    if (!handle_posts_first(g->handle[0], any_posted_apart(g)) &&
        (got = serve_next(g, e)) != TIMED_OUT)
        return got;
    for (uint32_t i = 0; i < g->count; i++)
        g->handle[i]->posted = posted_take(g->handle[i]->words);
    return RING_FILLED;
}

int handles_run(PyObject *handles, const struct waiting *w, struct guest_exit *e, PyObject **of)
{
    HandlesObject *g = (HandlesObject *)handles;
    int got = run_all(g, w, e);
    *of = g->current < 0 ? NULL : (PyObject *)g->handle[g->current];
    return got;
}

static PyObject *handles_run_method(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    struct waiting w;
    struct guest_exit e;
    if (waiting_from(args, n, &w) < 0)
        return NULL;
    int got = run_all((HandlesObject *)self, &w, &e);
    return got < 0 ? NULL : got == EXITED ? exit_tuple(&e) : Py_NewRef(event_objects[got]);
}

/* The handle whose exit was returned last, or NULL with an exception set. */
static PyObject *current(PyObject *self)
{
    const HandlesObject *g = (HandlesObject *)self;
    if (g->current >= 0)
        return (PyObject *)g->handle[g->current];
    PyErr_SetString(PyExc_RuntimeError, "no vCPU has exited yet");
    return NULL;
}

static PyObject *handles_complete(PyObject *self, PyObject *value)
{
    PyObject *h = current(self);
    return h ? handle_complete(h, value) : NULL;
}

static PyObject *handles_enter(PyObject *self, PyObject *unused)
{
    PyObject *h = current(self);
    return h ? handle_enter(h, unused) : NULL;
}

static PyObject *handles_park(PyObject *self, PyObject *unused)
{
    (void)unused;
    HandlesObject *g = (HandlesObject *)self;
    if (!current(self))
        return NULL;
    return PyBool_FromLong(park_one(&g->parked, (uint32_t)g->current, g->count));
}

static PyObject *handles_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"handles", NULL};
    PyObject *handles;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!", names, &PyTuple_Type, &handles))
        return NULL;
    Py_ssize_t count = PyTuple_Size(handles);
    if (count < 1 || count > (Py_ssize_t)VCPUS_MAX) {
        PyErr_Format(PyExc_ValueError, "expected 1 to %u handles, got %zd", VCPUS_MAX, count);
        return NULL;
    }
    HandlesObject *g = (HandlesObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (g)
        g->current = -1;
    for (Py_ssize_t i = 0; g && i < count; i++) {
        PyObject *h = PyTuple_GetItem(handles, i);
        if (Py_TYPE(h) != HandleType) {
            PyErr_SetString(PyExc_TypeError, "expected a tuple of VcpuHandle");
            Py_CLEAR(g);
            break;
        }
        g->handle[g->count++] = (HandleObject *)Py_NewRef(h);
    }
    if (g && count > 1)
        edges_close(&g->handle[0]->bell); /* others write to its pipe, and count apart */
    return (PyObject *)g;
}

static void handles_dealloc(PyObject *self)
{
    HandlesObject *g = (HandlesObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    for (uint32_t i = 0; i < g->count; i++)
        Py_DECREF((PyObject *)g->handle[i]);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef handles_methods[] = {
    {"run", (PyCFunction)(void (*)(void))handles_run_method, METH_FASTCALL,
     "run(timeout, watch[, due]): enter those that are stopped, wait; an exit, or another event."},
    {"complete", handles_complete, METH_O, "complete(value): answer the load that exited last."},
    {"enter", handles_enter, METH_NOARGS, "Let the vCPU that exited last run on."},
    {"park", handles_park, METH_NOARGS,
     "Do not enter the vCPU that exited last; False, and none is parked, when it was the last one."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot handles_slots[] = {
    {Py_tp_doc, "The vCPUs of a VM as its VMM waits for them: in turn, each exit of each."},
    {Py_tp_new, handles_new},
    {Py_tp_dealloc, handles_dealloc},
    {Py_tp_methods, handles_methods},
    {0, NULL},
};

static PyType_Spec handles_spec = {
    .name = "coalesced.hv.core.VcpuHandles",
    .basicsize = sizeof(HandlesObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = handles_slots,
};

int handles_init_type(PyObject *module)
{
    HandlesType = (PyTypeObject *)PyType_FromSpec(&handles_spec);
    return HandlesType ? PyModule_AddType(module, HandlesType) : -1;
}

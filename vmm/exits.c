/* Exits: accesses that reach one region, from the exit to the entry. */
#include "exits.h"

#define COUNTERS "single_writes"

typedef struct {
    PyObject_HEAD
    RoutesObject *routes;
    struct counts counts;
    uint64_t writes; /* that `counters.single_writes` does not have yet */
    PyObject *counters, *observers, *timers, *flush, *raised;
    bool stopping;
} ExitsObject;

static const struct handle_calls *hv;

/* Give the counters the writes that are counted here; 0, or -1 with an exception set. */
static int settle_writes(ExitsObject *e)
{
    if (!e->writes)
        return 0;
    PyObject *before = PyObject_GetAttrString(e->counters, COUNTERS);
    PyObject *more = PyLong_FromUnsignedLongLong(e->writes);
    PyObject *sum = before && more ? PyNumber_Add(before, more) : NULL;
    int result = sum ? PyObject_SetAttrString(e->counters, COUNTERS, sum) : -1;
    Py_XDECREF(before);
    Py_XDECREF(more);
    Py_XDECREF(sum);
    e->writes = 0;
    return result;
}

/* The same, and the tallies what is counted by address. */
static int settle(ExitsObject *e)
{
    return counts_settle(&e->counts) < 0 ? -1 : settle_writes(e);
}

/* A handler raised: the machine reports it and 0 is returned, or -1 where the run ends by it. */
static int report(ExitsObject *e, const struct guest_exit *x)
{
    PyObject *error = take_error();
    PyObject *told = settle(e) < 0 ? NULL : hv->told(x);
    PyObject *done = told ? PyObject_CallFunctionObjArgs(e->raised, told, error, NULL) : NULL;
    Py_XDECREF(told);
    Py_XDECREF(error);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* An answer that is no index: a truth value of numpy, or -1 with TypeError set. */
static int truth_of(PyObject *result, uint64_t *value)
{
    PyObject *name = PyType_GetName(Py_TYPE(result));
    if (!name)
        return -1;
    /* bool is an int; numpy's, which has had both of these names, is none. */
    bool truth = !PyUnicode_CompareWithASCIIString(name, "bool") ||
                 !PyUnicode_CompareWithASCIIString(name, "bool_");
    int is_true = truth ? PyObject_IsTrue(result) : -1;
    if (!truth)
        PyErr_Format(PyExc_TypeError, "read() gave %U, expected an int", name);
    Py_DECREF(name);
    *value = is_true > 0;
    return is_true < 0 ? -1 : 0;
}

/* A whole number; 0, or -1 with TypeError set. */
static int answer_of(PyObject *result, uint64_t *value)
{
    if (!PyLong_Check(result) && !PyIndex_Check(result))
        return truth_of(result, value);
    *value = PyLong_AsUnsignedLongLongMask(result);
    return *value == UINT64_MAX && PyErr_Occurred() ? -1 : 0;
}

static int load(ExitsObject *e, PyObject *handle, const struct flat *f, const struct guest_exit *x)
{
    uint64_t value = 0;
    if (counts_add(&e->counts, x->reason == EXIT_IO ? PIO : LOAD, x->address) < 0)
        return -1;
    PyObject *result = call_handler(f->read, x->address - f->base, x->size, NULL);
    int got = result ? answer_of(result, &value) : -1;
    Py_XDECREF(result);
    if (got < 0) {
        value = 0;
        if (report(e, x) < 0)
            return -1;
    }
    return hv->complete(handle, value);
}

static int store(ExitsObject *e, const struct flat *f, const struct guest_exit *x)
{
    bool port = x->reason == EXIT_IO;
    enum reason why = space_why(&e->routes->space[port], x->address, x->size, port);
    if (counts_add(&e->counts, why, x->address) < 0)
        return -1;
    e->writes++;
    PyObject *result = call_handler(f->write, x->address - f->base, x->size, &x->value);
    Py_XDECREF(result);
    return result ? 0 : report(e, x);
}

/* Bring queued writes to their devices; 0, or -1 with an exception set. */
static int drain(ExitsObject *e, PyObject *handle)
{
    int queued = hv->queued(handle);
    if (queued <= 0)
        return queued;
    PyObject *count = PyObject_CallNoArgs(e->flush);
    Py_XDECREF(count);
    return count ? 0 : -1;
}

/* The same for the own ring of the device that answers; the mappings may change. */
static int drain_own(const struct flat *f)
{
    PyObject *pending = Py_NewRef(f->pending), *flush = Py_NewRef(f->flush);
    PyObject *count = PyObject_CallNoArgs(pending);
    int queued = count ? PyObject_IsTrue(count) : -1;
    PyObject *done = queued > 0 ? PyObject_CallNoArgs(flush) : NULL;
    if (queued > 0 && !done)
        queued = -1;
    Py_XDECREF(count);
    Py_XDECREF(done);
    Py_DECREF(pending);
    Py_DECREF(flush);
    return queued < 0 ? -1 : 0;
}

/* When the first timer is due; 0, or -1 with an exception set. */
static int first_timer(const ExitsObject *e, uint64_t *due)
{
    *due = UINT64_MAX;
    PyObject *first = PyList_Size(e->timers) > 0 ? PyList_GetItem(e->timers, 0) : NULL;
    return first ? hv->moment(PyTuple_GetItem(first, 0), due) : 0;
}

/* Whether the exit is carried out here: an access of one region that nobody looks at. */
static const struct flat *taken(const ExitsObject *e, const struct guest_exit *x)
{
    if ((x->reason != EXIT_MMIO && x->reason != EXIT_IO) || PyList_Size(e->observers) != 0)
        return NULL;
    return space_find(&e->routes->space[x->reason == EXIT_IO], x->address, x->size);
}

/* An outcome that the machine takes care of, or NULL with an exception set. */
static PyObject *carry_out(ExitsObject *e, PyObject *handles, long watch)
{
    for (e->stopping = false; !e->stopping;) {
        struct guest_exit x;
        PyObject *handle;
        uint64_t due;
        int got = first_timer(e, &due) < 0 ? -1 : hv->run(handles, watch, due, &x, &handle);
        if (got != EXITED)
            return got < 0 ? NULL : hv->event(got);
        if (drain(e, handle) < 0)
            return NULL;
        const struct flat *f = taken(e, &x);
        if (f && f->pending) {
            if (drain_own(f) < 0)
                return NULL;
            f = taken(e, &x);
        }
        if (!f)
            return hv->told(&x);
        if ((x.is_write ? store(e, f, &x) : load(e, handle, f, &x)) < 0 || hv->enter(handle) < 0)
            return NULL;
        if (PyErr_CheckSignals() < 0)
            return NULL;
    }
    return hv->event(TIMED_OUT);
}

static PyObject *exits_run(PyObject *self, PyObject *args)
{
    ExitsObject *e = (ExitsObject *)self;
    PyObject *handles, *type, *error, *traceback;
    long watch;
    if (!PyArg_ParseTuple(args, "Ol", &handles, &watch) || hv->check(handles) < 0)
        return NULL;
    PyObject *outcome = carry_out(e, handles, watch);
    PyErr_Fetch(&type, &error, &traceback);
    if (settle_writes(e) < 0) /* the tallies may wait: each address costs a look into a dict */
        Py_CLEAR(outcome);
    if (type)
        PyErr_Restore(type, error, traceback);
    return outcome;
}

static PyObject *exits_settle(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (settle((ExitsObject *)self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *exits_waiting(PyObject *self, PyObject *unused)
{
    (void)unused;
    ExitsObject *e = (ExitsObject *)self;
    PyObject *sums = settle_writes(e) < 0 ? NULL : PyTuple_New(REASONS);
    for (Py_ssize_t i = 0; sums && i < REASONS; i++) {
        PyObject *sum = PyLong_FromUnsignedLongLong(e->counts.waiting[i]);
        if (!sum || PyTuple_SetItem(sums, i, sum) < 0)
            Py_CLEAR(sums);
    }
    return sums;
}

static PyObject *exits_stop(PyObject *self, PyObject *unused)
{
    (void)unused;
    ((ExitsObject *)self)->stopping = true;
    Py_RETURN_NONE;
}

static int look_up_calls(void)
{
    hv = PyCapsule_Import(CALLS_NAME, 0);
    return hv ? 0 : -1;
}

static PyObject *exits_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"routes", "counters", "tallies", "observers",
                            "timers", "flush",    "raised",  NULL};
    PyObject *routes, *counters, *tallies, *observers, *timers, *flush, *raised;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OO!O!O!OO", names, RoutesType, &routes,
                                     &counters, &PyTuple_Type, &tallies, &PyList_Type, &observers,
                                     &PyList_Type, &timers, &flush, &raised))
        return NULL;
    if (PyTuple_Size(tallies) != REASONS) {
        PyErr_Format(PyExc_ValueError, "expected %d tallies", REASONS);
        return NULL;
    }
    ExitsObject *e = (ExitsObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!e)
        return NULL;
    if (counts_make(&e->counts) < 0) {
        Py_DECREF((PyObject *)e);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < REASONS; i++)
        e->counts.tally[i] = Py_NewRef(PyTuple_GetItem(tallies, i));
    e->routes = (RoutesObject *)Py_NewRef(routes);
    e->counters = Py_NewRef(counters);
    e->observers = Py_NewRef(observers);
    e->timers = Py_NewRef(timers);
    e->flush = Py_NewRef(flush);
    e->raised = Py_NewRef(raised);
    return (PyObject *)e;
}

static int exits_traverse(PyObject *self, visitproc visit, void *arg)
{
    ExitsObject *e = (ExitsObject *)self;
    Py_VISIT((PyObject *)e->routes);
    for (int i = 0; i < REASONS; i++)
        Py_VISIT(e->counts.tally[i]);
    Py_VISIT(e->counters);
    Py_VISIT(e->observers);
    Py_VISIT(e->timers);
    Py_VISIT(e->flush);
    Py_VISIT(e->raised);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int exits_clear(PyObject *self)
{
    ExitsObject *e = (ExitsObject *)self;
    Py_CLEAR(e->routes);
    for (int i = 0; i < REASONS; i++)
        Py_CLEAR(e->counts.tally[i]);
    Py_CLEAR(e->counters);
    Py_CLEAR(e->observers);
    Py_CLEAR(e->timers);
    Py_CLEAR(e->flush);
    Py_CLEAR(e->raised);
    return 0;
}

static void exits_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    exits_clear(self);
    counts_free(&((ExitsObject *)self)->counts);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef exits_methods[] = {
    {"run", exits_run, METH_VARARGS, "run(handles, watch): the next outcome for the machine."},
    {"settle", exits_settle, METH_NOARGS, "Add what was counted to the counters and tallies."},
    {"waiting", exits_waiting, METH_NOARGS, "Exits that the tallies do not have yet."},
    {"stop", exits_stop, METH_NOARGS, "Have `run` return TIMED_OUT after the exit at hand."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot exits_slots[] = {
    {Py_tp_doc, "Carries out accesses that need no attention."},
    {Py_tp_new, exits_new},
    {Py_tp_dealloc, exits_dealloc},
    {Py_tp_traverse, exits_traverse},
    {Py_tp_clear, exits_clear},
    {Py_tp_methods, exits_methods},
    {0, NULL},
};

static PyType_Spec exits_spec = {
    .name = "coalesced.vmm.exits.Exits",
    .basicsize = sizeof(ExitsObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = exits_slots,
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "coalesced.vmm.exits",
    .m_doc = "Exits and batches of writes on their way to the devices, in C11.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit_exits(void);

PyMODINIT_FUNC PyInit_exits(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyTypeObject *type = (PyTypeObject *)PyType_FromSpec(&exits_spec);
    if (!module || !type || look_up_calls() < 0 || routes_init_type(module) < 0 ||
        PyModule_AddType(module, type) < 0)
        Py_CLEAR(module);
    Py_XDECREF((PyObject *)type);
    return module;
}

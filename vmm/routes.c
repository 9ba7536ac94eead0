/* Routes: where accesses of memory and ports go, and batches of writes carried out by it. */
#include "exits.h"

#include <string.h>
#include <structmember.h>

#include "ring.h"

/* Below this many writes the fixed cost of array operations exceeds that of single calls. */
#define SHORTEST_RUN 8
/* Single writes between two looks at what else is due. */
#define SINGLE_WRITES 4

/* Writes [at, stop) of a batch that one region answers. */
struct run {
    Py_ssize_t at, stop;
    uint64_t low, high; /* the lowest address, and the last byte of any */
    uint32_t lens;      /* bit n: some have len n */
};

PyObject *call_handler(PyObject *handler, uint64_t offset, uint32_t size, const uint64_t *value)
{
    PyObject *arguments[] = {PyLong_FromUnsignedLongLong(offset), PyLong_FromUnsignedLong(size),
                             value ? PyLong_FromUnsignedLongLong(*value) : NULL};
    PyObject *result = NULL;
    Py_INCREF(handler); /* it may change the mappings */
    if (arguments[0] && arguments[1] && (arguments[2] || !value))
        result =
            PyObject_CallFunctionObjArgs(handler, arguments[0], arguments[1], arguments[2], NULL);
    Py_DECREF(handler);
    for (int i = 0; i < 3; i++)
        Py_XDECREF(arguments[i]);
    return result;
}

PyObject *take_error(void)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback)
        PyException_SetTraceback(error, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return error;
}

/*
 * Report a write whose handler raised: 0, or -1 where that ends the batch. The write counts as done;
 * after Ctrl-C `failed` says whether, since the handler may not have begun.
 */
static __attribute__((cold)) int report(RoutesObject *r, const struct coalesced_entry *e,
                                        Py_ssize_t at)
{
    r->done = at + !PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
    PyObject *error = take_error();
    PyObject *done =
        PyObject_CallFunction(r->failed, "iKIKO", (int)e->pio, (unsigned long long)e->phys_addr,
                              e->len, (unsigned long long)e->data, error);
    Py_XDECREF(error);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static int write_one(RoutesObject *r, const struct flat *f, const struct coalesced_entry *e,
                     Py_ssize_t at)
{
    PyObject *result =
        f ? call_handler(f->write, e->phys_addr - f->base, e->len, &e->data)
          : PyObject_CallFunction(r->other, "iKIK", (int)e->pio, (unsigned long long)e->phys_addr,
                                  e->len, (unsigned long long)e->data);
    Py_XDECREF(result);
    return result ? 0 : report(r, e, at);
}

/* An entry of the batch, and whether it is one. */
static bool entry_at(const char *batch, Py_ssize_t at, struct coalesced_entry *e)
{
    memcpy(e, batch + at * (Py_ssize_t)sizeof *e, sizeof *e);
    return e->len - 1u <= 7u && e->pio <= 1u;
}

/* The writes from `at` on that go to the same region as that one. */
static struct run run_from(const struct flat *f, const char *batch, Py_ssize_t at, Py_ssize_t stop,
                           uint32_t pio)
{
    struct run run = {.at = at, .low = UINT64_MAX};
    struct coalesced_entry e;
    uint32_t len = 0, bit = 0; /* of the entry before: mostly the next one's, too */
    uint64_t most = 0;         /* the greatest address of such a one in the region */
    for (; at < stop; at++) {
        memcpy(&e, batch + at * (Py_ssize_t)sizeof e, sizeof e);
        if (e.len != len) {
            if (e.len - 1u > 7u || e.len - 1u > f->last - f->first)
                break;
            len = e.len;
            bit = 1u << len;
            most = f->last - (len - 1u);
        }
        if (e.pio != pio || len == 0 || e.phys_addr < f->first || e.phys_addr > most)
            break;
        uint64_t last = e.phys_addr + (len - 1u);
        run.low = e.phys_addr < run.low ? e.phys_addr : run.low;
        run.high = last > run.high ? last : run.high;
        run.lens |= bit;
    }
    run.stop = at;
    return run;
}

static PyObject *told(const struct flat *f, const struct run *run, uint32_t pio)
{
    int size = run->lens & (run->lens - 1u) ? 0 : __builtin_ctz(run->lens);
    return Py_BuildValue("nnNOKi(KK)", run->at, run->stop, PyBool_FromLong((long)pio), f->take,
                         (unsigned long long)f->base, size,
                         (unsigned long long)(run->low - f->base),
                         (unsigned long long)(run->high - f->base));
}

/* A run for its region to take, None behind the last write, or NULL with an exception set. */
static PyObject *write_singly(RoutesObject *r, const char *batch, Py_ssize_t at, Py_ssize_t stop,
                              PyObject *between)
{
    for (uint32_t done = 1; at < stop; at++, done++) {
        struct coalesced_entry e;
        if (!entry_at(batch, at, &e)) {
            r->done = at;
            return PyErr_Format(PyExc_ValueError,
                                "entry %zd: expected len 1 to 8 and pio 0 or 1, got %u and %u", at,
                                e.len, e.pio);
        }
        const struct flat *f = space_find(&r->space[e.pio], e.phys_addr, e.len);
        if (f && f->take && stop - at >= SHORTEST_RUN) {
            struct run run = run_from(f, batch, at, stop, e.pio);
            if (run.stop - at >= SHORTEST_RUN) {
                r->done = at;
                return told(f, &run, e.pio);
            }
        }
        if (write_one(r, f, &e, at) < 0)
            return NULL;
        PyObject *looked = done % SINGLE_WRITES ? Py_NewRef(Py_None) : PyObject_CallNoArgs(between);
        Py_XDECREF(looked);
        if (!looked) {
            r->done = at + 1;
            return NULL;
        }
    }
    r->done = stop;
    Py_RETURN_NONE;
}

static PyObject *routes_write(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    Py_buffer view;
    if (n != 4) {
        PyErr_Format(PyExc_TypeError, "expected 4 arguments, got %zd", n);
        return NULL;
    }
    Py_ssize_t at = PyLong_AsSsize_t(args[1]), stop = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE) < 0)
        return NULL;
    Py_ssize_t room = view.len / (Py_ssize_t)sizeof(struct coalesced_entry);
    PyObject *result = NULL;
    if (at < 0 || stop > room)
        PyErr_Format(PyExc_ValueError, "expected entries within 0 to %zd, got %zd to %zd", room, at,
                     stop);
    else
        result = write_singly((RoutesObject *)self, view.buf, at, stop, args[3]);
    PyBuffer_Release(&view);
    return result;
}

/* (port, list) to a table of the space. */
static PyObject *change(PyObject *self, PyObject *args, int (*take)(struct space *, PyObject *))
{
    PyObject *list;
    int port;
    if (!PyArg_ParseTuple(args, "pO!", &port, &PyList_Type, &list) ||
        take(&((RoutesObject *)self)->space[port], list) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *routes_map(PyObject *self, PyObject *args)
{
    return change(self, args, space_map);
}

static PyObject *routes_zones(PyObject *self, PyObject *args)
{
    return change(self, args, space_zones);
}

static PyObject *routes_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"other", "failed", NULL};
    PyObject *other, *failed;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO", names, &other, &failed))
        return NULL;
    RoutesObject *r = (RoutesObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!r)
        return NULL;
    r->other = Py_NewRef(other);
    r->failed = Py_NewRef(failed);
    return (PyObject *)r;
}

static int routes_traverse(PyObject *self, visitproc visit, void *arg)
{
    RoutesObject *r = (RoutesObject *)self;
    for (int port = 0; port < 2; port++)
        for (Py_ssize_t i = 0; i < r->space[port].flats; i++) {
            Py_VISIT(r->space[port].flat[i].read);
            Py_VISIT(r->space[port].flat[i].write);
            Py_VISIT(r->space[port].flat[i].take);
            Py_VISIT(r->space[port].flat[i].pending);
            Py_VISIT(r->space[port].flat[i].flush);
        }
    Py_VISIT(r->other);
    Py_VISIT(r->failed);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int routes_clear(PyObject *self)
{
    RoutesObject *r = (RoutesObject *)self;
    for (int port = 0; port < 2; port++)
        space_clear(&r->space[port]);
    Py_CLEAR(r->other);
    Py_CLEAR(r->failed);
    return 0;
}

static void routes_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    routes_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef routes_methods[] = {
    {"write", (PyCFunction)(void (*)(void))routes_write, METH_FASTCALL,
     "write(entries, at, stop, between): carry out writes singly, up to a run."},
    {"map", routes_map, METH_VARARGS,
     "map(port, [(first, last, base, read, write, take, pending, flush)])."},
    {"zones", routes_zones, METH_VARARGS, "zones(port, edges)."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef routes_members[] = {
    {"done", T_PYSSIZET, offsetof(RoutesObject, done), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot routes_slots[] = {
    {Py_tp_doc, "Where accesses of memory and ports go."},
    {Py_tp_new, routes_new},
    {Py_tp_dealloc, routes_dealloc},
    {Py_tp_traverse, routes_traverse},
    {Py_tp_clear, routes_clear},
    {Py_tp_methods, routes_methods},
    {Py_tp_members, routes_members},
    {0, NULL},
};

static PyType_Spec routes_spec = {
    .name = "coalesced.vmm.exits.Routes",
    .basicsize = sizeof(RoutesObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = routes_slots,
};

PyTypeObject *RoutesType;

int routes_init_type(PyObject *module)
{
    RoutesType = (PyTypeObject *)PyType_FromSpec(&routes_spec);
    if (!RoutesType || PyModule_AddType(module, RoutesType) < 0)
        return -1;
    return PyModule_AddIntConstant(module, "SHORTEST_RUN", SHORTEST_RUN) < 0 ||
                   PyModule_AddIntConstant(module, "SINGLE_WRITES", SINGLE_WRITES) < 0
               ? -1
               : 0;
}

/* The region that answers an address, and the counter of its exits. */
#include "exits.h"

#include <string.h>

static void drop_flats(struct flat *flat, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_XDECREF(flat[i].read);
        Py_XDECREF(flat[i].write);
        Py_XDECREF(flat[i].take);
        Py_XDECREF(flat[i].pending);
        Py_XDECREF(flat[i].flush);
    }
    PyMem_Free(flat);
}

static PyObject *unless_none(PyObject *o)
{
    return o == Py_None ? NULL : Py_NewRef(o);
}

int space_map(struct space *s, PyObject *list)
{
    Py_ssize_t count = PyList_Size(list);
    struct flat *flat = count < 0 ? NULL : PyMem_Calloc((size_t)count + 1, sizeof *flat);
    if (!flat)
        return PyErr_Occurred() ? -1 : (PyErr_NoMemory(), -1);
    for (Py_ssize_t i = 0; i < count; i++) {
        unsigned long long first, last, base;
        PyObject *read, *write, *run, *pending, *flush;
        if (!PyArg_ParseTuple(PyList_GetItem(list, i), "KKKOOOOO", &first, &last, &base, &read,
                              &write, &run, &pending, &flush)) {
            drop_flats(flat, i);
            return -1;
        }
        flat[i] = (struct flat){first,
                                last,
                                base,
                                Py_NewRef(read),
                                Py_NewRef(write),
                                unless_none(run),
                                unless_none(pending),
                                unless_none(flush)};
    }
    struct space old = *s;
    s->flat = flat;
    s->flats = count;
    drop_flats(old.flat, old.flats); /* last: a handler's end may run anything */
    return 0;
}

int space_zones(struct space *s, PyObject *list)
{
    Py_ssize_t count = PyList_Size(list);
    uint64_t *edges = count < 0 ? NULL : PyMem_Calloc((size_t)count + 1, sizeof *edges);
    if (!edges)
        return PyErr_Occurred() ? -1 : (PyErr_NoMemory(), -1);
    for (Py_ssize_t i = 0; i < count; i++)
        edges[i] = PyLong_AsUnsignedLongLong(PyList_GetItem(list, i));
    if (PyErr_Occurred()) {
        PyMem_Free(edges);
        return -1;
    }
    PyMem_Free(s->edges);
    s->edges = edges;
    s->edge_count = count;
    return 0;
}

void space_clear(struct space *s)
{
    struct space old = *s;
    *s = (struct space){0};
    drop_flats(old.flat, old.flats);
    PyMem_Free(old.edges);
}

const struct flat *space_find(const struct space *s, uint64_t address, uint32_t size)
{
    Py_ssize_t low = 0, high = s->flats;
    while (low < high) {
        Py_ssize_t middle = low + (high - low) / 2;
        if (s->flat[middle].first <= address)
            low = middle + 1;
        else
            high = middle;
    }
    const struct flat *f = low ? &s->flat[low - 1] : NULL;
    uint64_t last = address + (size - 1);
    return f && address <= last && last <= f->last ? f : NULL;
}

/* Number of edges at or below the address. */
static Py_ssize_t edges_to(const struct space *s, uint64_t address)
{
    Py_ssize_t low = 0, high = s->edge_count;
    while (low < high) {
        Py_ssize_t middle = low + (high - low) / 2;
        if (s->edges[middle] <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

enum reason space_why(const struct space *s, uint64_t address, uint32_t size, bool port)
{
    Py_ssize_t before = edges_to(s, address);
    bool within = before == edges_to(s, address + (size - 1));
    if (within && before & 1)
        return port ? PORT_FULL : FULL;
    return port ? PIO : within ? NO_ZONE : STRADDLE;
}

/* ---- counts --------------------------------------------------------------------------------- */

static int settle_one(struct counts *c, struct count *at)
{
    PyObject *tally = c->tally[at->reason];
    uint32_t n = at->n;
    at->n = 0;
    c->waiting[at->reason] -= n;
    PyObject *address = PyLong_FromUnsignedLongLong(at->address);
    PyObject *more = PyLong_FromUnsignedLong(n);
    PyObject *before = address ? PyObject_GetItem(tally, address) : NULL;
    PyObject *sum = before && more ? PyNumber_Add(before, more) : NULL;
    int result = sum ? PyObject_SetItem(tally, address, sum) : -1;
    Py_XDECREF(address);
    Py_XDECREF(more);
    Py_XDECREF(before);
    Py_XDECREF(sum);
    return result;
}

int counts_make(struct counts *c)
{
    c->count = PyMem_Calloc(COUNTS, sizeof *c->count);
    c->listed = PyMem_Calloc(COUNTS, sizeof *c->listed);
    return c->count && c->listed ? 0 : (PyErr_NoMemory(), -1);
}

void counts_free(struct counts *c)
{
    PyMem_Free(c->count);
    PyMem_Free(c->listed);
}

int counts_add(struct counts *c, enum reason reason, uint64_t address)
{
    uint32_t slot = (uint32_t)(address ^ address >> 6 ^ reason) % COUNTS;
    struct count *at = &c->count[slot];
    bool other = at->address != address || at->reason != reason || at->n == UINT32_MAX;
    if (at->n && other && settle_one(c, at) < 0)
        return -1;
    if (!at->listed)
        c->listed[c->length++] = (uint16_t)slot;
    *at = (struct count){address, at->n + 1, (uint8_t)reason, true};
    c->waiting[reason]++;
    return 0;
}

int counts_settle(struct counts *c)
{
    while (c->length) {
        struct count *at = &c->count[c->listed[--c->length]];
        at->listed = false;
        if (at->n && settle_one(c, at) < 0)
            return -1;
    }
    return 0;
}

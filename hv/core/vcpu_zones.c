/* The zones of a vCPU, and the rings that they name. */
#define _GNU_SOURCE
#include "vcpu.h"

#include <string.h>

/* The ring of a number in a zone's table: 0 is the VM's. NULL: there is none. */
static struct vm_ring *ring_of(const VcpuObject *v, uint8_t number)
{
    if (number == 0)
        return v->ring;
    return number <= v->own_count ? v->own[number - 1]->ring : NULL;
}

PyObject *vcpu_py_set_zones(PyObject *self, PyObject *args)
{
    VcpuObject *v = (VcpuObject *)self;
    int pio;
    Py_buffer pairs;
    const char *posted = NULL, *numbers = NULL;
    Py_ssize_t flags = 0, rings = 0;
    if (!PyArg_ParseTuple(args, "py*|y#y#", &pio, &pairs, &posted, &flags, &numbers, &rings))
        return NULL;
    size_t count = (size_t)pairs.len / 16;
    struct zone *zones = PyMem_Calloc(count + 1, sizeof *zones);
    if (!zones) {
        PyBuffer_Release(&pairs);
        return PyErr_NoMemory();
    }
    bool sorted = true, known = true;
    for (size_t i = 0; i < count; i++) {
        memcpy(&zones[i], (uint8_t *)pairs.buf + 16 * i, 16);
        zones[i].posted = i < (size_t)flags && posted[i];
        zones[i].ring = ring_of(v, i < (size_t)rings ? (uint8_t)numbers[i] : 0);
        known = known && (zones[i].ring || !v->ring);
        sorted =
            sorted && zones[i].start <= zones[i].last &&
            (i == 0 || (zones[i].start > zones[i - 1].start && zones[i].last > zones[i - 1].last));
    }
    PyBuffer_Release(&pairs);
    if (!sorted)
        PyErr_SetString(PyExc_ValueError, "expected sorted zones, none inside another");
    else if (!known)
        PyErr_SetString(PyExc_ValueError, "expected numbers of rings that there are");
    if (!sorted || !known || vcpu_may_change(v) < 0) {
        PyMem_Free(zones);
        return NULL;
    }
    PyMem_Free(v->zones[pio]);
    v->zones[pio] = zones;
    v->zone_count[pio] = v->ring ? (uint32_t)count : 0;
    v->zone_hit[pio] = 0;
    vcpu_mark_zones(v);
    Py_RETURN_NONE;
}

void vcpu_drop_rings(VcpuObject *v)
{
    for (int pio = 0; pio < 2; pio++)
        v->zone_count[pio] = v->zone_hit[pio] = 0;
    while (v->own_count > 0)
        Py_DECREF((PyObject *)v->own[--v->own_count]);
}

PyObject *vcpu_py_set_rings(PyObject *self, PyObject *rings)
{
    VcpuObject *v = (VcpuObject *)self;
    Py_ssize_t count = PyTuple_Check(rings) ? PyTuple_Size(rings) : -1;
    if (count < 0 || count > OWN_RINGS) {
        PyErr_Format(PyExc_TypeError, "expected a tuple of at most %d rings", OWN_RINGS);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        if (!PyObject_TypeCheck(PyTuple_GetItem(rings, i), VmRingType)) {
            PyErr_SetString(PyExc_TypeError, "expected VmRings");
            return NULL;
        }
    if (vcpu_may_change(v) < 0)
        return NULL;
    vcpu_drop_rings(v);
    for (Py_ssize_t i = 0; i < count; i++)
        v->own[v->own_count++] = (VmRingObject *)Py_NewRef(PyTuple_GetItem(rings, i));
    Py_RETURN_NONE;
}

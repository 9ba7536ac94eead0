/* A device's load handler in C, which notes when it is called. */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "floors.h"

static Py_buffer *buffer_of(PyObject *capsule)
{
    return PyCapsule_GetPointer(capsule, NULL);
}

static void release(PyObject *capsule)
{
    Py_buffer *view = buffer_of(capsule);
    PyBuffer_Release(view);
    PyMem_Free(view);
}

/* read(offset, size): the first element is how many times follow. */
static PyObject *stamp(PyObject *capsule, PyObject *const *args, Py_ssize_t n)
{
    (void)args;
    (void)n;
    Py_buffer *view = buffer_of(capsule);
    uint64_t *times = view->buf, room = (uint64_t)view->len / 8 - 1;
    if (times[0] < room)
        times[++times[0]] = now_ns();
    return PyLong_FromLong(0);
}

static PyMethodDef stamp_function = {"stamp", (PyCFunction)(void (*)(void))stamp, METH_FASTCALL,
                                     "stamp(offset, size): 0, and the time is noted."};

PyObject *floors_stamper(PyObject *module, PyObject *times)
{
    (void)module;
    Py_buffer *view = PyMem_Calloc(1, sizeof *view);
    if (!view)
        return PyErr_NoMemory();
    if (PyObject_GetBuffer(times, view, PyBUF_CONTIG) < 0) {
        PyMem_Free(view);
        return NULL;
    }
    PyObject *capsule = NULL;
    if (view->len < 8 || view->len % 8 || (uintptr_t)view->buf % 8)
        PyErr_Format(PyExc_ValueError, "expected elements of 8 bytes, got %zd bytes", view->len);
    else
        capsule = PyCapsule_New(view, NULL, release);
    if (!capsule) {
        PyBuffer_Release(view);
        PyMem_Free(view);
        return NULL;
    }
    PyObject *function = PyCFunction_New(&stamp_function, capsule);
    Py_DECREF(capsule);
    return function;
}

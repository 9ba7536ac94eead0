/* Vcpu's bulk operations: many accesses a call, at the speed of C. */
#define _GNU_SOURCE
#include "vcpu.h"

PyObject *vcpu_py_execute(PyObject *self, PyObject *array)
{
    VcpuObject *v = (VcpuObject *)self;
    Py_buffer view;
    if (PyObject_GetBuffer(array, &view, PyBUF_CONTIG) < 0)
        return NULL;
    PyObject *done = NULL;
    if (view.itemsize != sizeof(struct op) || (uintptr_t)view.buf % 8) {
        PyErr_Format(PyExc_ValueError, "expected an aligned array of 24-byte operations, got %zd",
                     view.itemsize);
    } else if (vcpu_begin(v, true) == 0 &&
               vcpu_end(v, vcpu_run_ops(v, view.buf, view.len / (Py_ssize_t)sizeof(struct op))) ==
                   0) {
        Py_INCREF(Py_None);
        done = Py_None;
    }
    PyBuffer_Release(&view);
    return done;
}

/* store_many(addresses, size, values): both arrays of uint64, one entry per store. */
PyObject *vcpu_py_store_many(PyObject *self, PyObject *args)
{
    VcpuObject *v = (VcpuObject *)self;
    Py_buffer addresses, values;
    PyObject *size_object;
    uint64_t wide;
    if (!PyArg_ParseTuple(args, "y*Oy*", &addresses, &size_object, &values))
        return NULL;
    PyObject *done = NULL;
    if (unsigned_from(size_object, &wide) < 0) {
        /* the exception is set */
    } else if (addresses.len != values.len || addresses.len % 8 || (uintptr_t)addresses.buf % 8 ||
               (uintptr_t)values.buf % 8) {
        PyErr_Format(PyExc_ValueError,
                     "expected as many addresses as values, 8 bytes each; got %zd and %zd bytes",
                     addresses.len, values.len);
    } else if (vcpu_begin(v, true) == 0) {
        uint32_t size = wide > 255 ? 255 : (uint32_t)wide; /* either is an error that says so */
        int result = vcpu_store_many(v, addresses.buf, size, values.buf, addresses.len / 8);
        if (vcpu_end(v, result) == 0) {
            Py_INCREF(Py_None);
            done = Py_None;
        }
    }
    PyBuffer_Release(&addresses);
    PyBuffer_Release(&values);
    return done;
}

/* fill(address, size, count, value): count stores of one value, one behind the other. */
PyObject *vcpu_py_fill(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    VcpuObject *v = (VcpuObject *)self;
    uint64_t address, count, value;
    uint32_t size;
    if (vcpu_arguments(n, 4) < 0 || vcpu_address_and_size(args, &address, &size) < 0 ||
        unsigned_from(args[2], &count) < 0)
        return NULL;
    value = PyLong_AsUnsignedLongLongMask(args[3]);
    if (value == UINT64_MAX && PyErr_Occurred())
        return NULL;
    if (count > 1 && size > 0 && (UINT64_MAX - address) / size < count - 1) {
        PyErr_SetString(error_guest, "fill: expected addresses that do not wrap");
        return NULL;
    }
    if (vcpu_begin(v, true) < 0)
        return NULL;
    if (vcpu_end(v, vcpu_fill(v, address, size, count, value)) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *vcpu_py_read_memory(PyObject *self, PyObject *args)
{
    VcpuObject *v = (VcpuObject *)self;
    PyObject *address_object, *size_object;
    uint64_t address;
    if (!PyArg_ParseTuple(args, "OO", &address_object, &size_object) ||
        unsigned_from(address_object, &address) < 0)
        return NULL;
    Py_ssize_t size = PyNumber_AsSsize_t(size_object, NULL); /* the nearest to any number */
    if (size == -1 && PyErr_Occurred())
        return NULL;
    if (size < 0) {
        PyErr_Format(PyExc_ValueError, "expected a size of 0 or more, got %S", size_object);
        return NULL;
    }
    if (vcpu_begin(v, false) < 0)
        return NULL;
    PyObject *bytes = NULL;
    int result = vcpu_copy_memory(v, address, NULL, size, false); /* before any are allocated */
    if (result == 0) {
        bytes = PyByteArray_FromStringAndSize(NULL, size);
        uint8_t *to = bytes ? (uint8_t *)PyByteArray_AsString(bytes) : NULL;
        result = to ? vcpu_copy_memory(v, address, to, size, false) : -1;
    }
    if (vcpu_end(v, result) < 0)
        Py_CLEAR(bytes);
    return bytes;
}

PyObject *vcpu_py_write_memory(PyObject *self, PyObject *args)
{
    VcpuObject *v = (VcpuObject *)self;
    PyObject *address_object;
    uint64_t address;
    Py_buffer data;
    if (!PyArg_ParseTuple(args, "Oy*", &address_object, &data))
        return NULL;
    int result = unsigned_from(address_object, &address);
    if (result == 0)
        result = vcpu_begin(v, false);
    if (result == 0)
        result = vcpu_end(v, vcpu_copy_memory(v, address, data.buf, data.len, true));
    PyBuffer_Release(&data);
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

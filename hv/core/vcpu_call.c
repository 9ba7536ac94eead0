/* Around each call of a Vcpu from Python. */
#define _GNU_SOURCE
#include "vcpu.h"

/* Note on the exception of a bulk operation how far that had come. */
static void note_progress(VcpuObject *v)
{
    if (PyErr_ExceptionMatches(error_peer_died) || PyErr_ExceptionMatches(error_protocol))
        return;
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    bool begun = v->run->exit_reason != EXIT_INTR;
    PyObject *text = PyUnicode_FromFormat("operation %zd %s; earlier ones are done, later ones "
                                          "are not begun",
                                          v->op_index, begun ? "is carried out" : "is not begun");
    PyObject *none = text ? PyObject_CallMethod(error, "add_note", "O", text) : NULL;
    if (!none)
        PyErr_Clear();
    Py_XDECREF(none);
    Py_XDECREF(text);
    PyErr_Restore(type, error, trace);
}

int vcpu_begin(VcpuObject *v, bool bulk)
{
    if (v->busy) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the vCPU is in an access already, in another thread or in the one that a "
                        "signal handler interrupted");
        return -1;
    }
    v->op_index = -1;
    if ((v->unanswered || v->rest.size || v->forks != forks_seen) && vcpu_settle(v) < 0)
        return -1;
    v->busy = true;
    if (!v->started) {
        v->started = true;
        atomic_store_explicit(&v->words->first_operation, now_ns(), memory_order_relaxed);
    }
    if (bulk)
        v->save = PyEval_SaveThread();
    return 0;
}

int vcpu_end(VcpuObject *v, int result)
{
    vcpu_take_gil(v);
    if (result < 0 && v->unanswered && v->op_index >= 0)
        note_progress(v);
    v->busy = false;
    v->op_index = -1;
    vm_ring_show(v->ring);
    if (result == 0)
        result = mapping_check(v->mapping);
    if (result == 0 && v->vm_ring && v->vm_ring->mapping != v->mapping)
        result = mapping_check(v->vm_ring->mapping);
    for (uint32_t i = 0; i < v->own_count && result == 0; i++)
        result = mapping_check(v->own[i]->mapping);
    for (int i = 0; i < v->ram_count && result == 0; i++)
        result = mapping_check(v->ram[i].mapping);
    return result;
}

int vcpu_may_change(const VcpuObject *v)
{
    if (!v->several || !v->busy || __atomic_load_n(&v->unanswered, __ATOMIC_ACQUIRE))
        return 0;
    PyObject *told = Py_BuildValue("is", EBUSY, "a vCPU is running: expected stopped ones");
    if (told)
        PyErr_SetObject(PyExc_OSError, told);
    Py_XDECREF(told);
    return -1;
}

int vcpu_address_and_size(PyObject *const *args, uint64_t *address, uint32_t *size)
{
    uint64_t wide;
    if (unsigned_from(args[0], address) < 0 || unsigned_from(args[1], &wide) < 0)
        return -1;
    *size = wide > 255 ? 255 : (uint32_t)wide;
    return 0;
}

int vcpu_arguments(Py_ssize_t got, Py_ssize_t expected)
{
    if (got == expected)
        return 0;
    PyErr_Format(PyExc_TypeError, "expected %zd arguments, got %zd", expected, got);
    return -1;
}

/* VcpuHandle for a guest that is machine code: its interrupts, its reset, and its code in RAM. */
#define _GNU_SOURCE
#include "handle.h"

PyObject *handle_interrupt_window(PyObject *self, PyObject *wanted)
{
    HandleObject *h = (HandleObject *)self;
    int level = PyObject_IsTrue(wanted);
    if (level < 0)
        return NULL;
    /* Relaxed: the guest looks at it between two blocks, and leaves with an exit. */
    atomic_store_explicit(&h->run->request_interrupt_window, (uint8_t)level, memory_order_relaxed);
    Py_RETURN_NONE;
}

/* The resume that follows is a release: relaxed suffices here. */
static PyObject *at_next_entry(HandleObject *h, uint32_t what)
{
    if (h->running) {
        PyErr_SetString(PyExc_RuntimeError, "expected a stopped vCPU");
        return NULL;
    }
    if (!(atomic_load_explicit(&h->words->interrupt, memory_order_relaxed) & INTERRUPT_RESET))
        atomic_store_explicit(&h->words->interrupt, what, memory_order_relaxed);
    Py_RETURN_NONE;
}

PyObject *handle_interrupt(PyObject *self, PyObject *argument)
{
    uint64_t vector;
    if (unsigned_from(argument, &vector) < 0)
        return NULL;
    if (vector > 255) {
        PyErr_SetString(PyExc_ValueError, "expected a vector of 0 to 255");
        return NULL;
    }
    return at_next_entry((HandleObject *)self, INTERRUPT_PENDING | (uint32_t)vector);
}

PyObject *handle_reset(PyObject *self, PyObject *unused)
{
    (void)unused;
    return at_next_entry((HandleObject *)self, INTERRUPT_RESET);
}

PyObject *handle_note_written(PyObject *self, PyObject *args)
{
    HandleObject *h = (HandleObject *)self;
    unsigned long long start, size;
    if (!PyArg_ParseTuple(args, "KK", &start, &size))
        return NULL;
    struct run_words *w = h->words;
    uint32_t count = atomic_load_explicit(&w->written_count, memory_order_relaxed);
    atomic_store_explicit(&w->written[count % WRITTEN_NOTES].start, start, memory_order_relaxed);
    atomic_store_explicit(&w->written[count % WRITTEN_NOTES].size, size, memory_order_relaxed);
    /* Release: pairs with the acquire in look_at_written; the note and the bytes come first. */
    atomic_store_explicit(&w->written_count, count + 1, memory_order_release);
    Py_RETURN_NONE;
}

PyObject *handle_get_resetting(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(
        atomic_load_explicit(&((HandleObject *)self)->words->interrupt, memory_order_relaxed) &
        INTERRUPT_RESET);
}

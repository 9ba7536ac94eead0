/* Planar writes of a run: of each written byte the four plane bytes that a table has for it. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#define BYTES 256 /* values of a written byte, each with a word in the table */

/* One column of a run: elements of 8 bytes or of 1, `stride` bytes apart. */
struct column {
    const char *at;
    Py_ssize_t count, stride, size;
};

/* Each element is read once: the memory may be one that a guest writes at the same time. */
static inline uint64_t offset_of(struct column c, Py_ssize_t i)
{
    return *(const volatile uint64_t *)(c.at + i * c.stride);
}

/* The lowest byte of an element; x86 has it first. */
static inline uint8_t byte_of(struct column c, Py_ssize_t i)
{
    return *(const volatile uint8_t *)(c.at + i * c.stride);
}

static void store_all(uint32_t *words, uint64_t limit, const uint32_t *table, uint64_t first,
                      struct column offsets, struct column data)
{
    for (Py_ssize_t i = 0; i < offsets.count; i++) {
        uint64_t at = offset_of(offsets, i) - first;
        if (at < limit)
            words[at] = table[byte_of(data, i)];
    }
}

static void store_some(uint32_t *words, uint64_t limit, const uint32_t *table, uint32_t written,
                       uint64_t first, struct column offsets, struct column data)
{
    for (Py_ssize_t i = 0; i < offsets.count; i++) {
        uint64_t at = offset_of(offsets, i) - first;
        if (at < limit)
            words[at] = (words[at] & ~written) | (table[byte_of(data, i)] & written);
    }
}

/* Take a column of an array; 0 and an exception when it is none. */
static int column_of(PyObject *array, Py_buffer *view, struct column *c)
{
    if (PyObject_GetBuffer(array, view, PyBUF_STRIDED_RO) < 0)
        return 0;
    if (view->ndim != 1 || (view->itemsize != 8 && view->itemsize != 1)) {
        PyBuffer_Release(view);
        PyErr_SetString(PyExc_ValueError, "expected a column of elements of 8 bytes or of 1");
        return 0;
    }
    *c = (struct column){view->buf, view->shape[0], view->strides[0], view->itemsize};
    return 1;
}

static const char *check(const Py_buffer *words, const Py_buffer *table, struct column offsets,
                         struct column data)
{
    if (words->len % 4 || table->len != 4 * BYTES)
        return "expected words of 4 bytes, and 256 of them in the table";
    if (offsets.size != 8 || offsets.count != data.count)
        return "expected offsets of 8 bytes, and as many bytes of data";
    if ((uintptr_t)offsets.at % 8 || offsets.stride % 8)
        return "expected aligned offsets";
    return NULL;
}

static PyObject *planes_store(PyObject *module, PyObject *arguments)
{
    (void)module;
    Py_buffer words, table, of_offsets, of_data;
    PyObject *offset_array, *data_array;
    struct column offsets, data;
    unsigned long long first;
    unsigned written;
    if (!PyArg_ParseTuple(arguments, "w*y*IKOO", &words, &table, &written, &first, &offset_array,
                          &data_array))
        return NULL;
    const char *wrong = NULL;
    int found = column_of(offset_array, &of_offsets, &offsets);
    if (found && !column_of(data_array, &of_data, &data)) {
        PyBuffer_Release(&of_offsets);
        found = 0;
    }
    if (found) {
        wrong = check(&words, &table, offsets, data);
        if (wrong)
            PyErr_SetString(PyExc_ValueError, wrong);
        else if (written == UINT32_MAX)
            store_all(words.buf, (uint64_t)words.len / 4, table.buf, first, offsets, data);
        else
            store_some(words.buf, (uint64_t)words.len / 4, table.buf, written, first, offsets,
                       data);
        PyBuffer_Release(&of_data);
        PyBuffer_Release(&of_offsets);
    }
    PyBuffer_Release(&table);
    PyBuffer_Release(&words);
    if (!found || wrong)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"store", planes_store, METH_VARARGS, "Store planar writes in program order."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "coalesced.devices.vga.planes",
    .m_doc = "The inner loop of planar writes.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit_planes(void);

PyMODINIT_FUNC PyInit_planes(void)
{
    return PyModule_Create(&definition);
}

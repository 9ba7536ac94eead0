/* The passes over the events of a recording: each is fed block by block, in either direction. */
#include "record.h"

static const char NAME[] = "coalesced.tools.advise.passes.pass";

bool copied(Py_buffer *from, size_t unit, void **into, size_t *count)
{
    *count = (size_t)from->len / unit;
    *into = malloc((size_t)from->len + 1);
    if (*into)
        memcpy(*into, from->buf, (size_t)from->len);
    PyBuffer_Release(from);
    return *into || PyErr_NoMemory();
}

bool ranges_of(Py_buffer *from, struct ranges *into)
{
    return copied(from, sizeof *into->at, (void **)&into->at, &into->count);
}

static void forget(PyObject *capsule)
{
    struct pass *pass = PyCapsule_GetPointer(capsule, NAME);
    pass->clear(pass);
    free(pass);
}

static PyObject *held(struct pass *pass)
{
    return pass ? PyCapsule_New(pass, NAME, forget) : NULL;
}

#define NEW(name)                                               \
    static PyObject *new_##name(PyObject *self, PyObject *args) \
    {                                                           \
        (void)self;                                             \
        return held(name##_new(args));                          \
    }

NEW(order)
NEW(survey)
NEW(evidence)
NEW(waits)
NEW(pairs)
NEW(unseen)
NEW(exits)
NEW(late)
NEW(depth)

static bool over(struct pass *pass, struct record *at, int64_t count, int64_t first, bool backward)
{
    pass->block = at;
    pass->base = first;
    for (int64_t n = 0; n < count; n++) {
        int64_t place = backward ? count - 1 - n : n;
        pass->index = first + place;
        if (!pass->step(pass, &at[place]))
            return false;
    }
    return true;
}

static PyObject *run(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *capsule;
    Py_buffer block;
    long long first;
    int backward = 0;
    if (!PyArg_ParseTuple(args, "Ow*L|p", &capsule, &block, &first, &backward))
        return NULL;
    struct pass *pass = PyCapsule_GetPointer(capsule, NAME);
    bool good = false;
    if (pass) {
        int64_t count = block.len / (Py_ssize_t)sizeof(struct record);
        Py_BEGIN_ALLOW_THREADS
        good = over(pass, block.buf, count, first, backward);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&block);
    if (!pass)
        return NULL;
    if (!good)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *result(PyObject *self, PyObject *capsule)
{
    (void)self;
    struct pass *pass = PyCapsule_GetPointer(capsule, NAME);
    return pass ? pass->result(pass) : NULL;
}

static PyObject *end(PyObject *self, PyObject *capsule)
{
    (void)self;
    struct pass *pass = PyCapsule_GetPointer(capsule, NAME);
    if (!pass)
        return NULL;
    if (pass->end && !pass->end(pass))
        return PyErr_NoMemory();
    return pass->result(pass);
}

static PyMethodDef methods[] = {
    {"order", new_order, METH_VARARGS, NULL},
    {"survey", new_survey, METH_VARARGS, NULL},
    {"evidence", new_evidence, METH_VARARGS, NULL},
    {"waits", new_waits, METH_VARARGS, NULL},
    {"pairs", new_pairs, METH_VARARGS, NULL},
    {"unseen", new_unseen, METH_VARARGS, NULL},
    {"exits", new_exits, METH_VARARGS, NULL},
    {"late", new_late, METH_VARARGS, NULL},
    {"depth", new_depth, METH_VARARGS, NULL},
    {"run", run, METH_VARARGS, NULL},
    {"result", result, METH_O, NULL},
    {"end", end, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static int execute(PyObject *module)
{
    static const struct {
        const char *name;
        int value;
    } constants[] = {
        {"READ", READ},   {"WRITE", WRITE},         {"PORT", PORT},       {"ANNOUNCED", ANNOUNCED},
        {"EXIT", EXIT},   {"EXIT_MMIO", EXIT_MMIO}, {"EXIT_IO", EXIT_IO}, {"KERNEL", KERNEL},
        {"EXITS", EXITS}, {"ENDED", ENDED},         {"PARTS", PARTS},
    };
    for (size_t n = 0; n < sizeof constants / sizeof *constants; n++)
        if (PyModule_AddIntConstant(module, constants[n].name, constants[n].value))
            return -1;
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "passes", .m_size = 0,
                                        .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit_passes(void);

PyMODINIT_FUNC PyInit_passes(void)
{
    return PyModuleDef_Init(&definition);
}

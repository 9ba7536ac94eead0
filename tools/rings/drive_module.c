/* The driver of rings, for Python. Each function runs in the process of one side, or in a probe's. */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "drive.h"

_Static_assert(offsetof(struct control, producer_ready) == 8 * 8, "control.py");
_Static_assert(offsetof(struct control, consumer_ready) == 16 * 8, "control.py");
_Static_assert(offsetof(struct control, samples) == 28 * 8, "control.py");
_Static_assert(offsetof(struct control, seen) == 32 * 8, "control.py");
_Static_assert(sizeof(struct control) == 8 * (32 + SEEN) + 4 * SAMPLES, "control.py");

#define POINTS_MOST 64
#define NAME_MOST 64

static char points[POINTS_MOST][NAME_MOST];
static int points_seen;
static char armed[NAME_MOST];
static unsigned long armed_left;

static void note_point(const char *name)
{
    for (int i = 0; i < points_seen; i++)
        if (strncmp(points[i], name, NAME_MOST - 1) == 0)
            return;
    if (points_seen < POINTS_MOST)
        strncpy(points[points_seen++], name, NAME_MOST - 1);
}

static void die_at_point(const char *name)
{
    if (strncmp(armed, name, NAME_MOST - 1) == 0 && --armed_left == 0)
        kill(getpid(), SIGKILL);
}

/* The names of the functions, as they lie in struct ring_ops. */
static const char *const names[] = {"size",      "init",     "push", "pop",
                                    "push_many", "pop_many", "wait", "attach"};
#define NAMES (sizeof names / sizeof *names)

static void (**hook)(const char *);

/* open(path, prefix): the names of the functions found, and the claims or None. */
static PyObject *drive_open(PyObject *module, PyObject *args)
{
    (void)module;
    const char *path, *prefix;
    char symbol[NAME_MOST];
    if (!PyArg_ParseTuple(args, "ss", &path, &prefix))
        return NULL;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        PyErr_SetString(PyExc_OSError, dlerror());
        return NULL;
    }
    PyObject *found = PyList_New(0);
    for (size_t i = 0; found && i < NAMES; i++) {
        snprintf(symbol, sizeof symbol, "%s%s", prefix, names[i]);
        void *function = dlsym(library, symbol);
        memcpy((char *)&drive_user + i * sizeof function, &function, sizeof function);
        PyObject *name = function ? PyUnicode_FromString(names[i]) : NULL;
        if (function && (!name || PyList_Append(found, name) < 0))
            Py_CLEAR(found);
        Py_XDECREF(name);
    }
    hook = dlsym(library, "user_ring_point");
    const char *claims = dlsym(library, "ring_claims");
    return found ? Py_BuildValue("(Nz)", found, claims) : NULL;
}

/* points(): those passed since the last call; from then on points are noted. */
static PyObject *drive_points(PyObject *module, PyObject *args)
{
    (void)module, (void)args;
    PyObject *list = PyList_New(0);
    for (int i = 0; list && i < points_seen; i++) {
        PyObject *name = PyUnicode_FromString(points[i]);
        if (!name || PyList_Append(list, name) < 0)
            Py_CLEAR(list);
        Py_XDECREF(name);
    }
    points_seen = 0;
    if (hook)
        *hook = note_point;
    return list;
}

/* arm(name, times): kill this process when it passes the point for the times-th time. */
static PyObject *drive_arm(PyObject *module, PyObject *args)
{
    (void)module;
    const char *name;
    if (!PyArg_ParseTuple(args, "sk", &name, &armed_left))
        return NULL;
    strncpy(armed, name, NAME_MOST - 1);
    if (hook)
        *hook = die_at_point;
    Py_RETURN_NONE;
}

static const struct ring_ops *ops_of(int ring)
{
    return ring == RING_USERS ? &drive_user : &drive_ours;
}

static PyObject *drive_size(PyObject *module, PyObject *args)
{
    (void)module;
    int ring;
    unsigned int entries;
    if (!PyArg_ParseTuple(args, "iI", &ring, &entries))
        return NULL;
    return PyLong_FromSize_t(ops_of(ring)->size(entries));
}

/* call(name, ring, memory, argument): the answer of init, attach, push, pop or wait. */
static PyObject *drive_call(PyObject *module, PyObject *args)
{
    (void)module;
    const char *name;
    int ring, argument, answer = -1;
    Py_buffer memory;
    struct user_ring_entry entry = {{1, 2, 3}};
    if (!PyArg_ParseTuple(args, "siw*i", &name, &ring, &memory, &argument))
        return NULL;
    const struct ring_ops *ops = ops_of(ring);
    if (strcmp(name, "init") == 0)
        answer = ops->init(memory.buf, (uint32_t)argument);
    else if (strcmp(name, "attach") == 0)
        answer = ops->attach ? ops->attach(memory.buf, argument) : 0;
    else if (strcmp(name, "push") == 0)
        answer = ops->push(memory.buf, &entry);
    else if (strcmp(name, "pop") == 0)
        answer = ops->pop(memory.buf, &entry);
    else if (strcmp(name, "wait") == 0)
        answer = ops->wait(memory.buf, argument);
    PyBuffer_Release(&memory);
    return PyLong_FromLong(answer);
}

/* run(producer, ring, memory, control, seed, until, burst, pause, wait, strict): the status. */
static PyObject *drive_run(PyObject *module, PyObject *args)
{
    (void)module;
    int producer, ring;
    struct drive_job job;
    Py_buffer memory, control;
    unsigned long long seed, until;
    int strict;
    enum drive_status status;
    if (!PyArg_ParseTuple(args, "piw*w*KKIIip", &producer, &ring, &memory, &control, &seed, &until,
                          &job.burst, &job.pause, &job.wait, &strict))
        return NULL;
    if (control.len < (Py_ssize_t)sizeof(struct control) || job.burst - 1 >= BATCH_MOST) {
        PyErr_SetString(PyExc_ValueError, "expected room for the control words, burst 1 to 1024");
        return NULL;
    }
    job.memory = memory.buf, job.control = control.buf;
    job.seed = seed, job.until = until, job.strict = strict;
    Py_BEGIN_ALLOW_THREADS
    status = producer ? drive_produce(ring, &job) : drive_consume(ring, &job);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&memory);
    PyBuffer_Release(&control);
    return PyLong_FromLong(status);
}

static PyMethodDef functions[] = {
    {"open", drive_open, METH_VARARGS, "open(path, prefix): (names, claims or None)."},
    {"points", drive_points, METH_NOARGS, "points(): names passed; from now on they are noted."},
    {"arm", drive_arm, METH_VARARGS, "arm(name, times): die at a point."},
    {"size", drive_size, METH_VARARGS, "size(ring, entries): bytes."},
    {"call", drive_call, METH_VARARGS, "call(name, ring, memory, argument): the answer."},
    {"run", drive_run, METH_VARARGS,
     "run(producer, ring, memory, control, seed, until, burst, pause, wait, strict): status."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "coalesced.tools.rings.drive",
    .m_doc = "One side of a ring at full speed.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit_drive(void);

PyMODINIT_FUNC PyInit_drive(void)
{
    return PyModule_Create(&definition);
}

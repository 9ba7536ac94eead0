/*
 * coalesced.hv.core with its injection points: at the one that is armed the process sends itself a signal.
 * Nothing else is different.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

enum point {
    before_last,
    before_first,
    before_exit,
    before_resume,
    between_parts,
    before_posted,
    nowhere
};

static int armed = nowhere;
static uint64_t passes; /* that are let through before the one with the signal */
static int sent = SIGKILL;

static inline void reach(enum point point)
{
    if ((int)point == armed && passes-- == 0)
        kill(getpid(), sent);
}

#define INJECT(point) reach(point)
#define PyInit_core make_core
#include "whole.h"
#undef PyInit_core

static PyObject *arm(PyObject *module, PyObject *args)
{
    static const char *const names[] = {"before_last",   "before_first",  "before_exit",
                                        "before_resume", "between_parts", "before_posted",
                                        "nowhere"};
    const char *name;
    unsigned long long let_through;
    int number = SIGKILL;
    (void)module;
    if (!PyArg_ParseTuple(args, "sK|i", &name, &let_through, &number))
        return NULL;
    for (int i = 0; i <= nowhere; i++)
        if (strcmp(name, names[i]) == 0) {
            armed = i;
            passes = let_through;
            sent = number;
            Py_RETURN_NONE;
        }
    PyErr_Format(PyExc_ValueError, "there is no injection point '%s'", name);
    return NULL;
}

static PyMethodDef more[] = {
    {"arm", arm, METH_VARARGS,
     "arm(point, passes, signal=SIGKILL): send the signal at a point, after `passes` passes."},
    {NULL, NULL, 0, NULL},
};

PyMODINIT_FUNC PyInit_injected(void);

PyMODINIT_FUNC PyInit_injected(void)
{
    PyObject *module = make_core();
    if (module && PyModule_AddFunctions(module, more) < 0)
        Py_CLEAR(module);
    return module;
}

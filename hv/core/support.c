/* Used by every part: the exceptions of coalesced.hv.errors, and arguments from Python. */
#define _GNU_SOURCE
#include "core.h"

#include <math.h>

#define LONGEST 1e9 /* seconds, 31 years: a wait that long has no end */
#define LATEST 18e9 /* seconds: the ns of a later moment would not fit 64 bits */

PyObject *error_peer_died, *error_protocol, *error_segment, *error_guest, *error_host;
PyObject *error_closed, *error_busy;
PyObject *event_objects[EVENTS];

int support_look_up_errors(void)
{
    PyObject *errors = PyImport_ImportModule("coalesced.hv.errors");
    if (!errors)
        return -1;
    error_peer_died = PyObject_GetAttrString(errors, "PeerDied");
    error_protocol = PyObject_GetAttrString(errors, "ProtocolError");
    error_segment = PyObject_GetAttrString(errors, "SegmentError");
    error_guest = PyObject_GetAttrString(errors, "GuestError");
    error_host = PyObject_GetAttrString(errors, "HostError");
    error_closed = PyObject_GetAttrString(errors, "RingClosed");
    error_busy = PyObject_GetAttrString(errors, "RingBusy");
    Py_DECREF(errors);
    return error_closed && error_busy && error_peer_died && error_protocol && error_segment &&
                   error_guest && error_host
               ? 0
               : -1;
}

int support_look_up_events(void)
{
    PyObject *module = PyImport_ImportModule("coalesced.hv.outcome");
    PyObject *type = module ? PyObject_GetAttrString(module, "Event") : NULL;
    for (int i = 0; type && i < EVENTS; i++)
        event_objects[i] = PyObject_CallFunction(type, "i", i);
    Py_XDECREF(type);
    Py_XDECREF(module);
    return PyErr_Occurred() ? -1 : 0;
}

int deadline_from(PyObject *timeout, uint64_t *deadline)
{
    *deadline = UINT64_MAX;
    if (timeout == Py_None)
        return 0;
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    if (isnan(seconds) || seconds < 0) {
        PyErr_SetString(PyExc_ValueError, "expected a timeout of 0 seconds or more");
        return -1;
    }
    if (seconds == 0)
        *deadline = 0;
    else if (seconds < LONGEST)
        *deadline = now_ns() + (uint64_t)(seconds * 1e9);
    return 0;
}

int moment_from(PyObject *moment, uint64_t *ns)
{
    *ns = UINT64_MAX;
    if (moment == Py_None)
        return 0;
    double seconds = PyFloat_AsDouble(moment);
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    if (isnan(seconds)) {
        PyErr_SetString(PyExc_ValueError, "expected a moment in seconds");
        return -1;
    }
    if (seconds < LATEST)
        *ns = seconds > 0 ? (uint64_t)(seconds * 1e9) : 0;
    return 0;
}

int unsigned_from(PyObject *o, uint64_t *value)
{
    if (!PyLong_Check(o)) {
        PyObject *index = PyNumber_Index(o);
        if (!index)
            return -1;
        *value = PyLong_AsUnsignedLongLong(index);
        Py_DECREF(index);
    } else {
        *value = PyLong_AsUnsignedLongLong(o);
    }
    if (*value != UINT64_MAX || !PyErr_Occurred())
        return 0;
    if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_OverflowError, "expected a whole number of 0 to 2**64 - 1, got %S", o);
    }
    return -1;
}

/* The floors, for Python. */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

#include "floor_kvm.h"
#include "floors.h"

/* stamps.c */
PyObject *floors_stamper(PyObject *module, PyObject *times);

#define PAUSE_NS 50000u /* before a call whose latency is measured */

static const char *const kinds[FLOOR_KINDS] = {"pipe",       "ppoll", "eventfd",
                                               "socketpair", "futex", "spin"};

/* Pins are this thread's: put back what was. */
static PyObject *per_item(double ns, uint64_t count, const cpu_set_t *before)
{
    int error = errno;
    sched_setaffinity(0, sizeof *before, before);
    if (ns >= 0)
        return PyFloat_FromDouble(ns / (double)count);
    if (error == 0) {
        PyErr_SetString(PyExc_RuntimeError, "the second process failed");
        return NULL;
    }
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static int cpus_fit(int here, int there)
{
    if (here >= -1 && there >= -1 && here < CPU_SETSIZE && there < CPU_SETSIZE)
        return 0;
    PyErr_Format(PyExc_ValueError, "expected CPUs of -1 to %d, got %d and %d", CPU_SETSIZE - 1,
                 here, there);
    return -1;
}

/* 0, or -1 with ValueError set. */
static int ring_job_from(struct ring_job *job, unsigned long long entries, unsigned int pages,
                         unsigned int publish_every)
{
    if (entries == 0 || pages < 1 || pages > 4096 || publish_every == 0) {
        PyErr_SetString(PyExc_ValueError,
                        "expected entries and publish_every above 0 and 1 to 4096 pages");
        return -1;
    }
    *job = (struct ring_job){
        .bytes = (size_t)pages * PAGE, .entries = entries, .publish_every = publish_every};
    return 0;
}

static PyObject *floors_ring(PyObject *module, PyObject *args)
{
    (void)module;
    unsigned long long entries;
    unsigned int pages, publish_every;
    int here, there;
    struct ring_job job;
    cpu_set_t before;
    if (!PyArg_ParseTuple(args, "KIIii", &entries, &pages, &publish_every, &here, &there) ||
        cpus_fit(here, there) < 0 || ring_job_from(&job, entries, pages, publish_every) < 0)
        return NULL;
    if (sched_getaffinity(0, sizeof before, &before) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    double ns;
    Py_BEGIN_ALLOW_THREADS
    ns = floor_ring(&job, here, there);
    Py_END_ALLOW_THREADS
    return per_item(ns, entries, &before);
}

static PyObject *floors_ring_alone(PyObject *module, PyObject *args)
{
    (void)module;
    unsigned long long entries;
    unsigned int pages, publish_every;
    int here;
    struct ring_job job;
    cpu_set_t before;
    if (!PyArg_ParseTuple(args, "KIIi", &entries, &pages, &publish_every, &here) ||
        cpus_fit(here, -1) < 0 || ring_job_from(&job, entries, pages, publish_every) < 0)
        return NULL;
    if (sched_getaffinity(0, sizeof before, &before) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    double ns;
    Py_BEGIN_ALLOW_THREADS
    ns = floor_ring_alone(&job, here);
    Py_END_ALLOW_THREADS
    return per_item(ns, entries, &before);
}

static PyObject *floors_producers(PyObject *module, PyObject *args)
{
    (void)module;
    struct producers_job job;
    unsigned int pages;
    int own;
    double seconds, ns, fairness = 0;
    if (!PyArg_ParseTuple(args, "IIIpd", &job.producers, &pages, &job.batch, &own, &seconds))
        return NULL;
    if (job.producers < 1 || job.producers > PRODUCERS_MAX || pages < 1 || pages > 4096 ||
        job.batch == 0 || !(seconds > 0 && seconds < 3600)) {
        PyErr_Format(PyExc_ValueError,
                     "expected 1 to %u producers, 1 to 4096 pages, a batch and seconds above 0",
                     PRODUCERS_MAX);
        return NULL;
    }
    job.bytes = (size_t)pages * PAGE;
    job.own = own;
    job.ns = (uint64_t)(seconds * 1e9);
    Py_BEGIN_ALLOW_THREADS
    ns = floor_producers(&job, &fairness);
    Py_END_ALLOW_THREADS
    if (ns >= 0)
        return Py_BuildValue("dd", ns, fairness);
    if (errno)
        return PyErr_SetFromErrno(PyExc_OSError);
    PyErr_SetString(PyExc_RuntimeError, "a ring of the producers has broken");
    return NULL;
}

static int kind_named(const char *name)
{
    for (int kind = 0; kind < FLOOR_KINDS; kind++)
        if (strcmp(name, kinds[kind]) == 0)
            return kind;
    PyErr_Format(PyExc_ValueError,
                 "expected pipe, ppoll, eventfd, socketpair, futex or spin, got %s", name);
    return -1;
}

/* ping_pong(kind, count, here, there, each): `each` is None or a buffer of `count` uint64. */
static PyObject *floors_ping_pong(PyObject *module, PyObject *args)
{
    (void)module;
    const char *name;
    unsigned long long count;
    int here, there, kind;
    PyObject *each = Py_None, *done = NULL;
    Py_buffer view = {.buf = NULL};
    cpu_set_t before;
    if (!PyArg_ParseTuple(args, "sKii|O", &name, &count, &here, &there, &each) ||
        (kind = kind_named(name)) < 0 || cpus_fit(here, there) < 0)
        return NULL;
    if (count == 0) {
        PyErr_SetString(PyExc_ValueError, "expected a count above 0");
        return NULL;
    }
    if (each != Py_None && PyObject_GetBuffer(each, &view, PyBUF_CONTIG) < 0)
        return NULL;
    if (view.buf && (view.len / 8 != (Py_ssize_t)count || (uintptr_t)view.buf % 8)) {
        PyErr_Format(PyExc_ValueError, "expected room for %llu round trips, 8 bytes each, got %zd",
                     count, view.len);
    } else if (sched_getaffinity(0, sizeof before, &before) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
    } else {
        double ns;
        Py_BEGIN_ALLOW_THREADS
        ns = floor_ping_pong((enum floor_kind)kind, count, here, there, view.buf);
        Py_END_ALLOW_THREADS
        done = per_item(ns, count, &before);
    }
    if (view.buf)
        PyBuffer_Release(&view);
    return done;
}

static int channel_named(const char *name)
{
    static const char *const channels[CHANNEL_KINDS] = {"ring", "eventfd", "pipe", "socketpair",
                                                        "queue"};
    for (int kind = 0; kind < CHANNEL_KINDS; kind++)
        if (strcmp(name, channels[kind]) == 0)
            return kind;
    PyErr_Format(PyExc_ValueError, "expected ring, eventfd, pipe, socketpair or queue, got %s",
                 name);
    return -1;
}

/* channel(kind, calls, batch, here, there, each): `each` is None or a buffer of `calls` uint64. */
static PyObject *floors_channel(PyObject *module, PyObject *args)
{
    (void)module;
    const char *name;
    unsigned long long calls;
    unsigned int batch;
    int here, there, kind;
    PyObject *each = Py_None, *done = NULL;
    Py_buffer view = {.buf = NULL};
    cpu_set_t before;
    if (!PyArg_ParseTuple(args, "sKIii|O", &name, &calls, &batch, &here, &there, &each) ||
        (kind = channel_named(name)) < 0 || cpus_fit(here, there) < 0)
        return NULL;
    if (calls == 0 || calls > 1u << 24 || batch < 1 || batch > 64) {
        PyErr_SetString(PyExc_ValueError, "expected 1 to 2**24 calls of 1 to 64 entries");
        return NULL;
    }
    if (each != Py_None && PyObject_GetBuffer(each, &view, PyBUF_CONTIG) < 0)
        return NULL;
    if (view.buf && (view.len / 8 != (Py_ssize_t)calls || (uintptr_t)view.buf % 8)) {
        PyErr_Format(PyExc_ValueError, "expected room for %llu calls, 8 bytes each, got %zd", calls,
                     view.len);
    } else if (sched_getaffinity(0, sizeof before, &before) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
    } else {
        struct channel_job job = {.kind = (enum channel_kind)kind,
                                  .batch = batch,
                                  .calls = calls,
                                  .pause_ns = view.buf ? PAUSE_NS : 0};
        double ns;
        Py_BEGIN_ALLOW_THREADS
        ns = floor_channel(&job, here, there, view.buf);
        Py_END_ALLOW_THREADS
        done = per_item(ns, calls * batch, &before);
    }
    if (view.buf)
        PyBuffer_Release(&view);
    return done;
}

static PyObject *floors_kvm(PyObject *module, PyObject *args)
{
    (void)module;
    int fd;
    Py_ssize_t size, ring_offset;
    if (!PyArg_ParseTuple(args, "inn", &fd, &size, &ring_offset))
        return NULL;
    if (ring_offset < (Py_ssize_t)PAGE || size < (Py_ssize_t)PAGE ||
        ring_offset > size - (Py_ssize_t)PAGE || ring_offset % PAGE) {
        PyErr_Format(PyExc_ValueError,
                     "expected a page of ring after the first page, got %zd of %zd", ring_offset,
                     size);
        return NULL;
    }
    double ns;
    Py_BEGIN_ALLOW_THREADS
    ns = floor_kvm(fd, (size_t)size, (size_t)ring_offset);
    Py_END_ALLOW_THREADS
    return ns < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyFloat_FromDouble(ns);
}

static PyMethodDef functions[] = {
    {"ring", floors_ring, METH_VARARGS,
     "ring(entries, pages, publish_every, here, there): ns per entry, appended and drained."},
    {"ring_alone", floors_ring_alone, METH_VARARGS,
     "ring_alone(entries, pages, publish_every, here): the same in one thread."},
    {"ping_pong", floors_ping_pong, METH_VARARGS,
     "ping_pong(kind, count, here, there, each=None): ns per round trip."},
    {"producers", floors_producers, METH_VARARGS,
     "producers(producers, pages, batch, own, seconds): ns per entry, and fairness."},
    {"channel", floors_channel, METH_VARARGS,
     "channel(kind, calls, batch, here, there, each=None): ns per entry."},
    {"stamper", floors_stamper, METH_O,
     "stamper(times): a device's load handler that notes when it is called."},
    {"kvm", floors_kvm, METH_VARARGS, "kvm(fd, size, ring_offset): ns of a guest to its halt."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "coalesced.tools.bench.floors",
    .m_doc = "The cost of the measured shapes in bare C.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit_floors(void);

PyMODINIT_FUNC PyInit_floors(void)
{
    return PyModule_Create(&definition);
}

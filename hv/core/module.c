/* The extension hv.core: its errors, waiting for either side, and the constants of the layout. */
#define _GNU_SOURCE
#include "core.h"

#include <math.h>
#include <sched.h>
#include <sys/prctl.h>

PyObject *error_peer_died, *error_protocol, *error_segment, *error_guest;

#define POLITE_NS 8000u /* a spin this long may be what keeps the other side off the CPU */
#define SIGNALS_NS 100000000u /* how long a sleep may overlook a signal that came just before */
#define LIVENESS_NS 1000000u /* how often a spin looks for signals and the peer's end */

/* 0, or -1 with an exception set: a signal handler raised. *save goes and comes back suspended. */
static int check_signals(PyThreadState **save)
{
    PyEval_RestoreThread(*save);
    int result = PyErr_CheckSignals();
    *save = PyEval_SaveThread();
    return result;
}

static enum wait_result truncation(const MappingObject *guard, PyThreadState **save)
{
    PyEval_RestoreThread(*save);
    mapping_check(guard);
    *save = PyEval_SaveThread();
    return WAIT_ERROR;
}

/* Spin until ready or the policy's limit; WAIT_TIMEOUT stands for both limits. */
static enum wait_result spin(struct doorbell *b, bool (*ready)(void *), void *ctx,
                             uint64_t start, uint64_t deadline, const MappingObject *guard,
                             PyThreadState **save)
{
    uint64_t limit = b->policy == WAIT_POLL ? UINT64_MAX : start + b->spin_ns;
    uint64_t look = start + LIVENESS_NS;
    if (limit > deadline)
        limit = deadline;
    for (;;) {
        for (int i = 0; i < 16; i++) {
            if (ready(ctx)) {
                doorbell_tune(b, now_ns() - start);
                return WAIT_READY;
            }
            cpu_relax();
        }
        uint64_t now = now_ns();
        if (now >= limit)
            return WAIT_TIMEOUT;
        if (mapping_truncated(guard))
            return truncation(guard, save);
        if (now - start > POLITE_NS)
            sched_yield();
        if (now >= look) {
            if (check_signals(save) < 0)
                return WAIT_ERROR;
            if (doorbell_peer_gone(b))
                return ready(ctx) ? WAIT_READY : WAIT_PEER_GONE;
            look = now + LIVENESS_NS;
        }
    }
}

static enum wait_result sleep_once(struct doorbell *b, bool (*ready)(void *), void *ctx,
                                   uint64_t deadline, PyThreadState **save)
{
    /* Where each word brings a byte, one may have come after we saw the word without sleeping. */
    if (b->undrained || b->policy == WAIT_BLOCK)
        doorbell_drain(b);
    doorbell_arm(b);
    if (ready(ctx)) {
        doorbell_disarm(b);
        return WAIT_READY;
    }
    /*
     * A signal just before ppoll does not end it, and is seen after SIGNALS_NS. Blocking signals
     * around the look and opening them in ppoll would close the gap, and cost two more system
     * calls on the way of every exit.
     */
    uint64_t now = now_ns();
    uint64_t longest = deadline > now ? deadline - now : 0;
    enum sleep_result slept = doorbell_sleep(b, longest < SIGNALS_NS ? longest : SIGNALS_NS);
    doorbell_disarm(b);
    if (ready(ctx))
        return WAIT_READY;
    if (slept == SLEPT_PEER_GONE)
        return WAIT_PEER_GONE;
    if (slept != SLEPT_WOKEN && check_signals(save) < 0)
        return WAIT_ERROR;
    return WAIT_TIMEOUT;
}

enum wait_result core_wait(struct doorbell *b, bool (*ready)(void *), void *ctx,
                           uint64_t deadline, const MappingObject *guard, PyThreadState **save)
{
    if (ready(ctx))
        return WAIT_READY;
    /* ready has just looked at the page: what it cannot see any more must not be slept for. */
    if (mapping_truncated(guard))
        return truncation(guard, save);
    if (deadline == 0)
        return WAIT_TIMEOUT;
    uint64_t start = now_ns();
    if (b->policy != WAIT_BLOCK) {
        enum wait_result r = spin(b, ready, ctx, start, deadline, guard, save);
        if (r != WAIT_TIMEOUT)
            return r;
    }
    while (now_ns() < deadline) {
        enum wait_result r = sleep_once(b, ready, ctx, deadline, save);
        if (r == WAIT_READY)
            doorbell_tune(b, now_ns() - start);
        if (mapping_truncated(guard))
            return truncation(guard, save);
        if (r != WAIT_TIMEOUT)
            return r;
    }
    return WAIT_TIMEOUT;
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
    else if (seconds < 1e9)
        *deadline = now_ns() + (uint64_t)(seconds * 1e9);
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
    return *value == UINT64_MAX && PyErr_Occurred() ? -1 : 0;
}

static int look_up_errors(void)
{
    PyObject *errors = PyImport_ImportModule("hv.errors");
    if (!errors)
        return -1;
    error_peer_died = PyObject_GetAttrString(errors, "PeerDied");
    error_protocol = PyObject_GetAttrString(errors, "ProtocolError");
    error_segment = PyObject_GetAttrString(errors, "SegmentError");
    error_guest = PyObject_GetAttrString(errors, "GuestError");
    Py_DECREF(errors);
    return error_peer_died && error_protocol && error_segment && error_guest ? 0 : -1;
}

static int add_layout(PyObject *module)
{
    static const struct {
        const char *name;
        long value;
    } constants[] = {
        {"RUN_WORDS_OFFSET", RUN_WORDS_OFFSET},
        {"EXIT_SEQUENCE", RUN_WORDS_OFFSET + offsetof(struct run_words, exit_sequence)},
        {"VMM_NEED_WAKEUP", RUN_WORDS_OFFSET + offsetof(struct run_words, vmm_need_wakeup)},
        {"RESUME_SEQUENCE", RUN_WORDS_OFFSET + offsetof(struct run_words, resume_sequence)},
        {"HV_NEED_WAKEUP", RUN_WORDS_OFFSET + offsetof(struct run_words, hv_need_wakeup)},
        {"REQUEST_SEQUENCE", RUN_WORDS_OFFSET + offsetof(struct run_words, request_sequence)},
        {"IRQ_LINES", RUN_WORDS_OFFSET + offsetof(struct run_words, irq_lines)},
        {"FIRST_OPERATION", RUN_WORDS_OFFSET + offsetof(struct run_words, first_operation)},
    };
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0)
            return -1;
    return 0;
}

static PyObject *die_with_parent(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyLong_FromLong((long)getppid());
}

static PyMethodDef functions[] = {
    {"die_with_parent", die_with_parent, METH_NOARGS,
     "Ask for SIGKILL when the parent ends; the parent's process id."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "hv.core",
    .m_doc = "The ring, the vCPU and waiting, in C11.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit_core(void);

PyMODINIT_FUNC PyInit_core(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (!module)
        return NULL;
    if (look_up_errors() < 0 || mapping_init_type(module) < 0 || ring_init_types(module) < 0 ||
        vcpu_init_type(module) < 0 || vmm_init_type(module) < 0 || add_layout(module) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}

/* VcpuHandle: what a VMM holds of a vCPU, as it holds a descriptor and kvm_run of a KVM vCPU. */
#define _GNU_SOURCE
#include "handle.h"

PyTypeObject *HandleType;

static PyObject *handle_watch(PyObject *self, PyObject *argument)
{
    long fd = PyLong_AsLong(argument);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    ((HandleObject *)self)->watch_fd = (int)fd;
    edges_forget(&((HandleObject *)self)->bell);
    Py_RETURN_NONE;
}

static PyObject *handle_set_irq(PyObject *self, PyObject *args)
{
    HandleObject *h = (HandleObject *)self;
    unsigned int line;
    int level;
    if (!PyArg_ParseTuple(args, "Ip", &line, &level))
        return NULL;
    if (line > 63) {
        PyErr_Format(PyExc_ValueError, "expected an interrupt line of 0 to 63, got %u", line);
        return NULL;
    }
    uint64_t bit = UINT64_C(1) << line;
    h->lines = level ? h->lines | bit : h->lines & ~bit;
    /* Release: pairs with the guest's acquire of the lines; device state comes first. */
    atomic_store_explicit(&h->words->irq_lines, h->lines, memory_order_release);
    doorbell_signal(&h->bell);
    if (mapping_check(h->mapping) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *handle_request(PyObject *self, PyObject *unused)
{
    (void)unused;
    HandleObject *h = (HandleObject *)self;
    /* Release: pairs with the guest process's acquire before it reads the request. */
    atomic_store_explicit(&h->words->request_sequence, ++h->requests, memory_order_release);
    doorbell_signal(&h->bell);
    if (mapping_check(h->mapping) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *handle_kick(PyObject *self, PyObject *unused)
{
    (void)unused;
    HandleObject *h = (HandleObject *)self;
    h->kicked = true;
    atomic_store_explicit(&h->run->immediate_exit, 1, memory_order_release);
    doorbell_signal(&h->bell);
    Py_RETURN_NONE;
}

/* An exception only ends the wait: the next call returns the exit. */
static PyObject *handle_pause(PyObject *self, PyObject *unused)
{
    HandleObject *h = (HandleObject *)self;
    if (!h->running)
        Py_RETURN_NONE;
    Py_XDECREF(handle_kick(self, unused));
    int got = handle_stopped(h);
    h->unread =
        got == EXITED && ((const volatile struct run_page *)h->run)->exit_reason != EXIT_INTR;
    return got < 0 ? NULL : Py_NewRef(Py_None);
}

/* The state of a vCPU that was not entered yet. */
static void handle_as_new(HandleObject *h, enum wait_policy policy)
{
    edges_restart(&h->bell, policy);
    h->exits = h->resumes = h->requests = h->posted = 0;
    h->lines = 0;
    h->load.size = 0;
    h->running = h->kicked = h->unread = h->untaken = h->passed_over = h->posts_first = false;
}

static PyObject *handle_restart(PyObject *self, PyObject *argument)
{
    long policy = PyLong_AsLong(argument);
    if (policy == -1 && PyErr_Occurred())
        return NULL;
    handle_as_new((HandleObject *)self, (enum wait_policy)policy);
    Py_RETURN_NONE;
}

static PyObject *handle_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"mapping", "ring",   "exit_fd", "resume_fd",
                            "life_fd", "policy", "first",   NULL};
    MappingObject *mapping, *first = NULL;
    PyObject *ring;
    int exit_fd, resume_fd, life_fd, policy;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!Oiiii|O!", names, MappingType, &mapping,
                                     &ring, &exit_fd, &resume_fd, &life_fd, &policy, MappingType,
                                     &first))
        return NULL;
    if (ring != Py_None && !PyObject_TypeCheck(ring, ConsumerType)) {
        PyErr_SetString(PyExc_TypeError, "expected a Consumer or None as ring");
        return NULL;
    }
    uint8_t *run = mapping_range(mapping, 0, 2 * PAGE, 64);
    void *first_run = mapping_range(first ? first : mapping, 0, PAGE, 64);
    if (!run || !first_run)
        return NULL;
    HandleObject *h = (HandleObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!h)
        return NULL;
    h->mapping = (MappingObject *)Py_NewRef((PyObject *)mapping);
    h->first = (MappingObject *)Py_NewRef((PyObject *)(first ? first : mapping));
    if (ring != Py_None)
        h->ring = (ConsumerObject *)Py_NewRef(ring);
    h->watch_fd = -1;
    h->run = (struct run_page *)run;
    h->io_data = run + PAGE;
    h->words = run_words_of(run);
    h->bell = (struct doorbell){.own_need_wakeup = &run_words_of(first_run)->vmm_need_wakeup,
                                .peer_need_wakeup = &h->words->hv_need_wakeup,
                                .own_bytes = &h->words->resume_bytes,
                                .sleep_fd = exit_fd,
                                .wake_fd = resume_fd,
                                .life_fd = life_fd,
                                .watch_fd = -1};
    handle_as_new(h, (enum wait_policy)policy);
    if (h->first == mapping) /* the others write to its pipe, where it alone sleeps */
        edges_open(&h->bell, &h->edges, &h->words->exit_bytes);
    return (PyObject *)h;
}

static PyObject *handle_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    edges_close(&((HandleObject *)self)->bell);
    Py_RETURN_NONE;
}

static void handle_dealloc(PyObject *self)
{
    HandleObject *h = (HandleObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    edges_close(&h->bell);
    Py_XDECREF((PyObject *)h->mapping);
    Py_XDECREF((PyObject *)h->first);
    Py_XDECREF((PyObject *)h->ring);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *get_first_operation(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(atomic_load_explicit(
        &((HandleObject *)self)->words->first_operation, memory_order_relaxed));
}

static PyObject *get_signals(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((HandleObject *)self)->bell.signals);
}

static PyObject *get_running(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((HandleObject *)self)->running);
}

static PyMethodDef handle_methods[] = {
    {"enter", handle_enter, METH_NOARGS, "Let the guest run on."},
    {"wait", (PyCFunction)(void (*)(void))handle_wait, METH_FASTCALL,
     "wait(timeout, watch[, due]): TIMED_OUT, EXITED or, when watching, RING_FILLED or READABLE."},
    {"run", (PyCFunction)(void (*)(void))handle_run, METH_FASTCALL,
     "run(timeout, watch[, due]): enter unless running, wait; the exit, or another event."},
    {"exit", handle_exit, METH_NOARGS, "(reason, address, size, is_write, value) of the exit."},
    {"complete", handle_complete, METH_O, "complete(value): answer the load that exited."},
    {"set_irq", handle_set_irq, METH_VARARGS, "set_irq(line, level)."},
    {"request", handle_request, METH_NOARGS, "Announce a request on the control socket."},
    {"kick", handle_kick, METH_NOARGS, "Make the guest exit with KVM_EXIT_INTR soon."},
    {"pause", handle_pause, METH_NOARGS, "Stop a running guest; run returns an exit of its own."},
    {"interrupt_window", handle_interrupt_window, METH_O,
     "interrupt_window(wanted): have the guest exit as soon as it takes interrupts."},
    {"interrupt", handle_interrupt, METH_O,
     "interrupt(vector): the interrupt that the guest takes when it is entered."},
    {"restart", handle_restart, METH_O,
     "restart(policy): as created anew, beside a vCPU that was restarted, too."},
    {"reset", handle_reset, METH_NOARGS, "Reset the guest's processor when it is entered."},
    {"note_written", handle_note_written, METH_VARARGS,
     "note_written(address, size): a device has written to RAM."},
    {"close", handle_close, METH_NOARGS, "The pipes are about to be closed."},
    {"watch", handle_watch, METH_O, "watch(fd): what WATCH_DESCRIPTOR is; -1: nothing."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef handle_getset[] = {
    {"first_operation", get_first_operation, NULL, "CLOCK_MONOTONIC ns, 0 before it.", NULL},
    {"signals", get_signals, NULL, "Bytes written to the resume pipe.", NULL},
    {"resetting", handle_get_resetting, NULL, "The processor is reset when it is entered.", NULL},
    {"running", get_running, NULL, "Entered and not yet seen to exit.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot handle_slots[] = {
    {Py_tp_doc, "A vCPU as its VMM sees it."},
    {Py_tp_new, handle_new},
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_methods, handle_methods},
    {Py_tp_getset, handle_getset},
    {0, NULL},
};

static PyType_Spec handle_spec = {
    .name = "coalesced.hv.core.VcpuHandle",
    .basicsize = sizeof(HandleObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = handle_slots,
};

int handle_init_type(PyObject *module)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromSpec(&handle_spec);
    if (!type || PyModule_AddType(module, type) < 0)
        return -1;
    HandleType = type;
    static const struct {
        const char *name;
        long value;
    } known[] = {{"WATCH_RING", WATCH_RING},
                 {"WATCH_POSTED", WATCH_POSTED},
                 {"POSTED_APART", POSTED_APART},
                 {"WATCH_DESCRIPTOR", WATCH_DESCRIPTOR},
                 {"KEEP_WRITES", KEEP_WRITES}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (PyModule_AddIntConstant(module, known[i].name, known[i].value) < 0)
            return -1;
    return handle_add_calls(module);
}

/* Vcpu: the guest's processor as a Python object of the kernel's part. */
#define _GNU_SOURCE
#include "vcpu.h"

#include <string.h>
#include <structmember.h>

typedef int (*reader)(VcpuObject *, uint64_t, uint32_t, uint64_t *);
typedef int (*writer)(VcpuObject *, uint64_t, uint32_t, uint64_t);

static PyObject *read_with(PyObject *self, PyObject *const *args, Py_ssize_t n, reader read)
{
    VcpuObject *v = (VcpuObject *)self;
    uint64_t address, value = 0;
    uint32_t size;
    if (vcpu_arguments(n, 2) < 0 || vcpu_address_and_size(args, &address, &size) < 0 ||
        vcpu_begin(v, false) < 0)
        return NULL;
    if (vcpu_end(v, read(v, address, size, &value)) < 0)
        return NULL;
    return PyLong_FromUnsignedLongLong(value);
}

static PyObject *write_with(PyObject *self, PyObject *const *args, Py_ssize_t n, writer write)
{
    VcpuObject *v = (VcpuObject *)self;
    uint64_t address;
    uint32_t size;
    if (vcpu_arguments(n, 3) < 0 || vcpu_address_and_size(args, &address, &size) < 0)
        return NULL;
    uint64_t value = PyLong_AsUnsignedLongLongMask(args[2]);
    if (value == UINT64_MAX && PyErr_Occurred())
        return NULL;
    if (vcpu_begin(v, false) < 0)
        return NULL;
    if (vcpu_end(v, write(v, address, size, value)) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *py_load(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    return read_with(self, args, n, vcpu_load);
}

static PyObject *py_in(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    return read_with(self, args, n, vcpu_in);
}

static PyObject *py_store(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    return write_with(self, args, n, vcpu_store);
}

static PyObject *py_out(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    return write_with(self, args, n, vcpu_out);
}

static PyObject *py_wait_run(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (vcpu_wait_resume((VcpuObject *)self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *py_halt(PyObject *self, PyObject *unused)
{
    (void)unused;
    VcpuObject *v = (VcpuObject *)self;
    if (vcpu_begin(v, false) < 0)
        return NULL;
    v->exits++;
    if (vcpu_end(v, vcpu_exit(v, EXIT_HLT)) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *py_system_event(PyObject *self, PyObject *type)
{
    VcpuObject *v = (VcpuObject *)self;
    uint64_t number;
    if (unsigned_from(type, &number) < 0 || vcpu_begin(v, false) < 0)
        return NULL;
    v->run->system_event.type = (uint32_t)number;
    v->run->system_event.ndata = 0;
    if (vcpu_end(v, vcpu_exit(v, EXIT_SYSTEM_EVENT)) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *py_wait_interrupt(PyObject *self, PyObject *args)
{
    VcpuObject *v = (VcpuObject *)self;
    PyObject *lines_object, *timeout;
    uint64_t lines, deadline;
    if (!PyArg_ParseTuple(args, "OO", &lines_object, &timeout) ||
        unsigned_from(lines_object, &lines) < 0 || deadline_from(timeout, &deadline) < 0)
        return NULL;
    if (vcpu_begin(v, false) < 0)
        return NULL;
    uint64_t raised;
    if (vcpu_end(v, vcpu_wait_lines(v, lines, deadline, &raised)) < 0)
        return NULL;
    return PyLong_FromUnsignedLongLong(raised);
}

/* ---- set-up ------------------------------------------------------------------------------------ */

static PyObject *py_set_memory(PyObject *self, PyObject *args)
{
    VcpuObject *v = (VcpuObject *)self;
    PyObject *start_object;
    uint64_t start;
    MappingObject *mapping;
    int readonly = 0;
    if (!PyArg_ParseTuple(args, "OO!|p", &start_object, MappingType, &mapping, &readonly) ||
        unsigned_from(start_object, &start) < 0 || vcpu_may_change(v) < 0)
        return NULL;
    if (v->ram_count == RAM_SLOTS) {
        PyErr_Format(PyExc_ValueError, "expected at most %d memory slots", RAM_SLOTS);
        return NULL;
    }
    Py_INCREF((PyObject *)mapping);
    v->ram[v->ram_count++] = (struct ram_slot){.start = start,
                                               .size = mapping->size,
                                               .host = mapping->base,
                                               .readonly = readonly,
                                               .mapping = mapping};
    v->memory_version++;
    vcpu_mark_zones(v);
    Py_RETURN_NONE;
}

static PyObject *py_clear_memory(PyObject *self, PyObject *unused)
{
    (void)unused;
    VcpuObject *v = (VcpuObject *)self;
    if (vcpu_may_change(v) < 0)
        return NULL;
    while (v->ram_count > 0)
        Py_DECREF((PyObject *)v->ram[--v->ram_count].mapping);
    v->memory_version++;
    vcpu_mark_zones(v);
    Py_RETURN_NONE;
}

/* The state of a vCPU that was not entered yet; memory, zones and rings are others' business. */
static void vcpu_as_new(VcpuObject *v, enum wait_policy policy)
{
    edges_restart(&v->bell, policy);
    v->exit_sequence = v->posted_sequence = v->resumed = v->requests = 0;
    v->coalesced = v->exits = 0;
    v->op_index = -1;
    v->started = v->unanswered = false;
    v->rest.size = 0;
}

static PyObject *py_restart(PyObject *self, PyObject *argument)
{
    VcpuObject *v = (VcpuObject *)self;
    long policy = PyLong_AsLong(argument);
    if (policy == -1 && PyErr_Occurred())
        return NULL;
    if (v->busy) {
        PyErr_SetString(PyExc_RuntimeError, "the vCPU is in an access");
        return NULL;
    }
    vcpu_as_new(v, (enum wait_policy)policy);
    Py_RETURN_NONE;
}

static PyObject *vcpu_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"mapping", "ring",  "exit_fd", "resume_fd",
                            "policy",  "serve", "first",   NULL};
    MappingObject *mapping, *first = NULL;
    int exit_fd, resume_fd, policy;
    PyObject *ring, *serve;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OiiiO|O!", names, MappingType, &mapping,
                                     &ring, &exit_fd, &resume_fd, &policy, &serve, MappingType,
                                     &first))
        return NULL;
    if (ring != Py_None && !PyObject_TypeCheck(ring, VmRingType)) {
        PyErr_SetString(PyExc_TypeError, "expected a VmRing or None as ring");
        return NULL;
    }
    uint8_t *run = mapping_range(mapping, 0, 2 * PAGE, 64);
    void *first_run = mapping_range(first ? first : mapping, 0, PAGE, 64);
    if (!run || !first_run)
        return NULL;
    VcpuObject *v = (VcpuObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!v)
        return NULL;
    Py_INCREF((PyObject *)mapping);
    v->mapping = mapping;
    v->first = (MappingObject *)Py_NewRef((PyObject *)(first ? first : mapping));
    Py_INCREF(serve);
    v->serve = serve;
    v->run = (struct run_page *)run;
    v->io_data = run + PAGE;
    v->words = run_words_of(run);
    v->bell = (struct doorbell){.own_need_wakeup = &v->words->hv_need_wakeup,
                                .peer_need_wakeup = &run_words_of(first_run)->vmm_need_wakeup,
                                .own_bytes = &v->words->exit_bytes,
                                .sleep_fd = resume_fd,
                                .wake_fd = exit_fd,
                                .life_fd = -1,
                                .watch_fd = -1};
    vcpu_as_new(v, (enum wait_policy)policy);
    edges_open(&v->bell, &v->edges, &v->words->resume_bytes);
    v->publish_every = PUBLISH_AT_LATEST;
    v->forks = forks_seen;
    if (ring != Py_None) {
        v->vm_ring = (VmRingObject *)Py_NewRef(ring);
        v->ring = v->vm_ring->ring;
    }
    return (PyObject *)v;
}

static void vcpu_dealloc(PyObject *self)
{
    VcpuObject *v = (VcpuObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    edges_close(&v->bell);
    while (v->ram_count > 0)
        Py_DECREF((PyObject *)v->ram[--v->ram_count].mapping);
    vcpu_drop_rings(v);
    PyMem_Free(v->zones[0]);
    PyMem_Free(v->zones[1]);
    PyMem_Free(v->events[0]);
    PyMem_Free(v->events[1]);
    Py_XDECREF((PyObject *)v->mapping);
    Py_XDECREF((PyObject *)v->first);
    Py_XDECREF((PyObject *)v->vm_ring);
    Py_XDECREF(v->serve);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *get_signals(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((VcpuObject *)self)->bell.signals);
}

static int set_publish_every(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    uint64_t number;
    if (!value || unsigned_from(value, &number) < 0)
        return -1;
    if (number < 1 || number > PUBLISH_AT_LATEST) {
        PyErr_Format(PyExc_ValueError, "expected 1 to %d entries, got %llu", PUBLISH_AT_LATEST,
                     (unsigned long long)number);
        return -1;
    }
    ((VcpuObject *)self)->publish_every = (uint32_t)number;
    return 0;
}

static PyObject *get_publish_every(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLong(((VcpuObject *)self)->publish_every);
}

#define FAST(f) ((PyCFunction)(void (*)(void))(f))

static PyMethodDef vcpu_methods[] = {
    {"load", FAST(py_load), METH_FASTCALL, "load(address, size): the value."},
    {"store", FAST(py_store), METH_FASTCALL, "store(address, size, value)."},
    {"in_", FAST(py_in), METH_FASTCALL, "in_(port, size): the value."},
    {"out", FAST(py_out), METH_FASTCALL, "out(port, size, value)."},
    {"execute", vcpu_py_execute, METH_O, "execute(ops): run bus operations in order, in place."},
    {"store_many", vcpu_py_store_many, METH_VARARGS, "store_many(addresses, size, values)."},
    {"fill", FAST(vcpu_py_fill), METH_FASTCALL, "fill(address, size, count, value)."},
    {"read_memory", vcpu_py_read_memory, METH_VARARGS, "read_memory(address, size): bytes of RAM."},
    {"write_memory", vcpu_py_write_memory, METH_VARARGS, "write_memory(address, data): into RAM."},
    {"wait_interrupt", py_wait_interrupt, METH_VARARGS,
     "wait_interrupt(lines, timeout): the raised ones of a mask of lines, 0 after the timeout."},
    {"restart", py_restart, METH_O,
     "restart(policy): as created anew, with the memory, zones and rings that it has."},
    {"wait_run", py_wait_run, METH_NOARGS, "Wait until the VMM enters the guest."},
    {"halt", py_halt, METH_NOARGS, "Exit with KVM_EXIT_HLT."},
    {"system_event", py_system_event, METH_O, "Exit with KVM_EXIT_SYSTEM_EVENT of a type."},
    {"set_zones", vcpu_py_set_zones, METH_VARARGS,
     "set_zones(pio, pairs[, posted[, rings]]): (first, last) addresses, uint64, sorted, none inside "
     "another."},
    {"set_rings", vcpu_py_set_rings, METH_O,
     "set_rings(rings): devices' own; zones have to be set again."},
    {"set_events", vcpu_py_set_events, METH_VARARGS, "set_events(pio, ioeventfds)."},
    {"set_memory", py_set_memory, METH_VARARGS,
     "set_memory(start, mapping[, readonly]): add RAM or ROM."},
    {"clear_memory", py_clear_memory, METH_NOARGS, "Take all RAM away."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef vcpu_members[] = {
    {"coalesced", T_ULONGLONG, offsetof(VcpuObject, coalesced), READONLY, "Entries appended."},
    {"exits", T_ULONGLONG, offsetof(VcpuObject, exits), READONLY, "MMIO, IO and HLT exits."},
    {"several", T_BOOL, offsetof(VcpuObject, several), 0, "There are other vCPUs."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef vcpu_getset[] = {
    {"signals", get_signals, NULL, "Bytes written to the exit pipe.", NULL},
    {"publish_every", get_publish_every, set_publish_every,
     "Entries after which a bulk operation shows them, 1 to 64.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot vcpu_slots[] = {
    {Py_tp_doc, "The guest's processor, run by the kernel's part."},
    {Py_tp_new, vcpu_new},
    {Py_tp_dealloc, vcpu_dealloc},
    {Py_tp_methods, vcpu_methods},
    {Py_tp_members, vcpu_members},
    {Py_tp_getset, vcpu_getset},
    {0, NULL},
};

static PyType_Spec vcpu_spec = {
    .name = "coalesced.hv.core.Vcpu",
    .basicsize = sizeof(VcpuObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = vcpu_slots,
};

PyTypeObject *VcpuType;

int vcpu_init_type(PyObject *module)
{
    VcpuType = (PyTypeObject *)PyType_FromSpec(&vcpu_spec);
    return VcpuType ? PyModule_AddType(module, VcpuType) : -1;
}

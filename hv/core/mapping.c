/*
 * Mapping: shared-memory segments mapped side by side.
 *
 * The other process can truncate a segment, and one that is not reserved can find /dev/shm full;
 * the next access to what is not there is a SIGBUS. The handler
 * here puts a page of our own there, so that the access ends, and marks the mapping; its user then
 * calls mapping_check and raises. This needs no guarded sections, works for C, numpy and plain
 * buffers alike, and costs nothing while all is well.
 */
#define _GNU_SOURCE
#include "core.h"

#include <string.h>
#include <sys/mman.h>

#define GUARDS 4096

static struct guard {
    _Atomic uintptr_t base; /* 0: free */
    _Atomic size_t size;
    _Atomic bool truncated;
} guards[GUARDS];
static _Atomic bool any_truncated; /* of all that ever were: one look for the usual case */
static _Atomic int guards_used;    /* none past this was ever taken */
static struct sigaction previous;

PyTypeObject *MappingType;

/* A signal that was sent goes to a handler that was here before us; without one it is ignored. */
static void pass_on(int number, siginfo_t *info, void *context)
{
    if (previous.sa_flags & SA_SIGINFO)
        previous.sa_sigaction(number, info, context);
    else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN)
        previous.sa_handler(number);
}

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    if (info->si_code <= 0) { /* sent by a process: nothing was accessed, and the guard stays */
        pass_on(number, info, context);
        return;
    }
    uintptr_t at = (uintptr_t)info->si_addr;
    int used = atomic_load(&guards_used);
    for (int i = 0; i < used; i++) {
        uintptr_t base = atomic_load(&guards[i].base);
        size_t size = atomic_load(&guards[i].size);
        if (base == 0 || at - base >= size)
            continue;
        uintptr_t page = at & ~(uintptr_t)(PAGE - 1);
        int saved = errno;
        void *got = mmap((void *)page, base + size - page, PROT_READ | PROT_WRITE,
                         MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        errno = saved;
        if (got == MAP_FAILED)
            break;
        atomic_store(&guards[i].truncated, true);
        atomic_store(&any_truncated, true);
        return;
    }
    /* Not ours: restore the previous handler, which gets the signal of the repeated access. */
    sigaction(number, &previous, NULL);
}

static int guard_take(uint8_t *base, size_t size)
{
    static bool installed;
    if (!installed) {
        struct sigaction act = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};
        sigemptyset(&act.sa_mask);
        if (sigaction(SIGBUS, &act, &previous) < 0)
            return -1;
        installed = true;
    }
    for (int i = 0; i < GUARDS; i++) {
        if (atomic_load(&guards[i].base) != 0)
            continue;
        atomic_store(&guards[i].truncated, false);
        atomic_store(&guards[i].size, size);
        atomic_store(&guards[i].base, (uintptr_t)base);
        if (i >= atomic_load(&guards_used))
            atomic_store(&guards_used, i + 1);
        return i;
    }
    errno = EMFILE;
    return -1;
}

bool mapping_truncated(const MappingObject *m)
{
    if (!atomic_load_explicit(&any_truncated, memory_order_relaxed))
        return false;
    for (int i = 0; i < m->parts; i++)
        if (atomic_load_explicit(&guards[m->part[i].guard].truncated, memory_order_relaxed))
            return true;
    return false;
}

int mapping_check(const MappingObject *m)
{
    if (!atomic_load_explicit(&any_truncated, memory_order_relaxed))
        return 0;
    for (int i = 0; i < m->parts; i++)
        if (atomic_load_explicit(&guards[m->part[i].guard].truncated, memory_order_relaxed)) {
            PyErr_Format(error_segment,
                         "shared-memory segment '%s' was truncated by another process, or "
                         "/dev/shm is full: expected %zu bytes",
                         m->part[i].name, m->part[i].size);
            return -1;
        }
    return 0;
}

void *mapping_range(MappingObject *m, Py_ssize_t offset, Py_ssize_t size, size_t align)
{
    if (offset < 0 || size < 0 || (size_t)offset > m->size ||
        (size_t)size > m->size - (size_t)offset || (size_t)offset % align != 0) {
        PyErr_Format(PyExc_ValueError,
                     "range at offset %zd of %zd bytes does not lie in a mapping of %zu bytes",
                     offset, size, m->size);
        return NULL;
    }
    return m->base + offset;
}

static void mapping_release(MappingObject *m)
{
    for (int i = 0; i < m->parts; i++) {
        if (m->part[i].guard >= 0)
            atomic_store(&guards[m->part[i].guard].base, 0);
        PyMem_Free(m->part[i].name);
    }
    m->parts = 0;
    if (m->base)
        munmap(m->base, m->size);
    m->base = NULL;
}

/* Map one (name, fd, size) behind what is mapped already. */
static int mapping_add(MappingObject *m, PyObject *item, size_t offset)
{
    const char *name;
    int fd;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(item, "sin", &name, &fd, &size))
        return -1;
    int i = m->parts;
    m->part[i].guard = -1;
    m->part[i].size = (size_t)size;
    m->part[i].name = PyMem_Malloc(strlen(name) + 1);
    if (!m->part[i].name) {
        PyErr_NoMemory();
        return -1;
    }
    strcpy(m->part[i].name, name);
    m->parts = i + 1;
    void *at =
        mmap(m->base + offset, (size_t)size, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    m->part[i].guard = guard_take(at, (size_t)size);
    if (m->part[i].guard < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

static PyObject *mapping_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"segments", NULL};
    PyObject *segments;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O", names, &segments))
        return NULL;
    PyObject *list = PySequence_List(segments);
    if (!list)
        return NULL;
    Py_ssize_t count = PyList_Size(list);
    size_t total = 0;
    MappingObject *m = NULL;
    if (count < 1 || count > MAPPING_PARTS) {
        PyErr_Format(PyExc_ValueError, "expected 1 to %d segments, got %zd", MAPPING_PARTS, count);
        goto fail;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyList_GetItem(list, i);
        const char *name;
        int fd;
        Py_ssize_t size;
        if (!PyTuple_Check(item) || !PyArg_ParseTuple(item, "sin", &name, &fd, &size)) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError, "expected (name, descriptor, size) tuples");
            goto fail;
        }
        if (size <= 0 || size % PAGE != 0) {
            PyErr_Format(PyExc_ValueError,
                         "segment '%s': expected a positive multiple of %u bytes, got %zd", name,
                         PAGE, size);
            goto fail;
        }
        total += (size_t)size;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    m = (MappingObject *)alloc(type, 0);
    if (!m)
        goto fail;
    m->base = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m->base == MAP_FAILED) {
        m->base = NULL;
        PyErr_SetFromErrno(PyExc_OSError);
        goto fail;
    }
    m->size = total;
    size_t offset = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (mapping_add(m, PyList_GetItem(list, i), offset) < 0)
            goto fail;
        offset += m->part[i].size;
    }
    Py_DECREF(list);
    return (PyObject *)m;
fail:
    Py_XDECREF((PyObject *)m);
    Py_DECREF(list);
    return NULL;
}

static void mapping_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mapping_release((MappingObject *)self);
    freefunc free_slot = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_slot(self);
    Py_DECREF(type);
}

/* For PyArg_ParseTuple: the nearest Py_ssize_t to a whole number, for mapping_range to refuse. */
static int nearest(PyObject *number, void *size)
{
    *(Py_ssize_t *)size = PyNumber_AsSsize_t(number, NULL);
    return *(Py_ssize_t *)size != -1 || !PyErr_Occurred();
}

static PyObject *mapping_read(PyObject *self, PyObject *args)
{
    MappingObject *m = (MappingObject *)self;
    Py_ssize_t offset, size;
    if (!PyArg_ParseTuple(args, "O&O&", nearest, &offset, nearest, &size))
        return NULL;
    const char *from = mapping_range(m, offset, size, 1);
    if (!from)
        return NULL;
    PyObject *bytes = PyBytes_FromStringAndSize(from, size);
    /* Pairs with the release of the writer of these bytes, as of a guest that writes a descriptor's
     * status before its tail: without it, a later read could find older bytes than this one. */
    atomic_thread_fence(memory_order_acquire);
    if (bytes && mapping_check(m) < 0) {
        Py_DECREF(bytes);
        return NULL;
    }
    return bytes;
}

/* A status word is one store: memcpy may make two of it, and a guest that polls may have put the
 * descriptor to a new use between them. */
static void put(uint8_t *to, const void *from, size_t size)
{
    if (size == sizeof(uint64_t) && (uintptr_t)to % sizeof(uint64_t) == 0) {
        uint64_t value;
        memcpy(&value, from, sizeof(value));
        atomic_store_explicit((_Atomic uint64_t *)to, value, memory_order_relaxed);
    } else if (size == sizeof(uint32_t) && (uintptr_t)to % sizeof(uint32_t) == 0) {
        uint32_t value;
        memcpy(&value, from, sizeof(value));
        atomic_store_explicit((_Atomic uint32_t *)to, value, memory_order_relaxed);
    } else {
        memcpy(to, from, size);
    }
}

static PyObject *mapping_write(PyObject *self, PyObject *args)
{
    MappingObject *m = (MappingObject *)self;
    Py_ssize_t offset;
    Py_buffer data;
    if (!PyArg_ParseTuple(args, "O&y*", nearest, &offset, &data))
        return NULL;
    uint8_t *to = mapping_range(m, offset, data.len, 1);
    if (to) {
        /* Pairs with the guest's acquire load of a descriptor's status: without it, the guest
         * could see the status before the data that was written ahead of it. */
        atomic_thread_fence(memory_order_release);
        put(to, data.buf, (size_t)data.len);
    }
    PyBuffer_Release(&data);
    if (!to || mapping_check(m) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *mapping_check_method(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (mapping_check((MappingObject *)self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static int mapping_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    MappingObject *m = (MappingObject *)self;
    return PyBuffer_FillInfo(view, self, m->base, (Py_ssize_t)m->size, 0, flags);
}

static Py_ssize_t mapping_length(PyObject *self)
{
    return (Py_ssize_t)((MappingObject *)self)->size;
}

static PyMethodDef mapping_methods[] = {
    {"read", mapping_read, METH_VARARGS, "read(offset, size): the bytes there."},
    {"write", mapping_write, METH_VARARGS, "write(offset, data): put bytes there."},
    {"check", mapping_check_method, METH_NOARGS, "Raise SegmentError if a part was truncated."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot mapping_slots[] = {
    {Py_tp_doc, "Shared-memory segments mapped side by side; a writable buffer."},
    {Py_tp_new, mapping_new},
    {Py_tp_dealloc, mapping_dealloc},
    {Py_tp_methods, mapping_methods},
    {Py_bf_getbuffer, mapping_getbuffer},
    {Py_sq_length, mapping_length},
    {0, NULL},
};

static PyType_Spec mapping_spec = {
    .name = "coalesced.hv.core.Mapping",
    .basicsize = sizeof(MappingObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = mapping_slots,
};

int mapping_init_type(PyObject *module)
{
    MappingType = (PyTypeObject *)PyType_FromSpec(&mapping_spec);
    return MappingType ? PyModule_AddType(module, MappingType) : -1;
}

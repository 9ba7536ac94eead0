/* The extension coalesced.hv.core: its types, and the constants of the layout. */
#define _GNU_SOURCE
#include "vcpu.h"

#include <linux/magic.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

static int add_layout(PyObject *module)
{
    static const struct {
        const char *name;
        long value;
    } constants[] = {
        {"RUN_WORDS_OFFSET", RUN_WORDS_OFFSET},
        {"EXIT_SEQUENCE", RUN_WORDS_OFFSET + offsetof(struct run_words, exit_sequence)},
        {"POSTED_SEQUENCE", RUN_WORDS_OFFSET + offsetof(struct run_words, posted_sequence)},
        {"VMM_NEED_WAKEUP", RUN_WORDS_OFFSET + offsetof(struct run_words, vmm_need_wakeup)},
        {"RESUME_SEQUENCE", RUN_WORDS_OFFSET + offsetof(struct run_words, resume_sequence)},
        {"HV_NEED_WAKEUP", RUN_WORDS_OFFSET + offsetof(struct run_words, hv_need_wakeup)},
        {"REQUEST_SEQUENCE", RUN_WORDS_OFFSET + offsetof(struct run_words, request_sequence)},
        {"IRQ_LINES", RUN_WORDS_OFFSET + offsetof(struct run_words, irq_lines)},
        {"FIRST_OPERATION", RUN_WORDS_OFFSET + offsetof(struct run_words, first_operation)},
        {"WAITS_OFFSET", WAITS_OFFSET},
        {"WAITS_SIZE", sizeof(struct run_waits)},
    };
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0)
            return -1;
    return 0;
}

uint32_t forks_seen;

static void note_fork(void)
{
    forks_seen++;
}

static PyObject *die_with_parent(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyLong_FromLong((long)getppid());
}

static PyObject *is_shared_memory(PyObject *module, PyObject *descriptor)
{
    (void)module;
    struct statfs system;
    struct stat status;
    long fd = PyLong_AsLong(descriptor);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    if (fstatfs((int)fd, &system) < 0 || fstat((int)fd, &status) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyBool_FromLong(system.f_type == TMPFS_MAGIC && S_ISREG(status.st_mode));
}

static PyMethodDef functions[] = {
    {"die_with_parent", die_with_parent, METH_NOARGS,
     "Ask for SIGKILL when the parent ends; the parent's process id."},
    {"is_shared_memory", is_shared_memory, METH_O,
     "Does a descriptor refer to memory: POSIX shared memory, or a memfd?"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "coalesced.hv.core",
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
    if (pthread_atfork(NULL, NULL, note_fork) != 0) {
        Py_DECREF(module);
        return PyErr_NoMemory();
    }
    if (support_look_up_errors() < 0 || support_look_up_events() < 0 ||
        mapping_init_type(module) < 0 || producer_init_type(module) < 0 ||
        consumer_init_type(module) < 0 || bell_init_type(module) < 0 ||
        vm_ring_init_type(module) < 0 || vcpu_init_type(module) < 0 || cpu_init_type(module) < 0 ||
        handle_init_type(module) < 0 || handles_init_type(module) < 0 ||
        kvm_init_type(module) < 0 || kvm_threads_init_type(module) < 0 || add_layout(module) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}

/*
 * KvmHandle: a vCPU of the real KVM. VcpuHandle's twin, where entering the guest is an ioctl of
 * this thread and not another process.
 *
 * A signal ends KVM_RUN early. KVM_RUN would miss one that comes between the last look and the
 * system call, so the handler also sets immediate_exit, which KVM_RUN looks at first.
 */
#define _GNU_SOURCE
#include "kvm.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define KVM_RUN 0xae80u
#define SLICE_NS 200000u /* what the guest gets at least, however many timers are due */

PyTypeObject *KvmType;

/* The page of the vCPU that this thread is in, or is about to enter. */
static _Thread_local struct run_page *volatile entered;

static void on_leave(int number)
{
    (void)number;
    struct run_page *run = entered;
    if (run)
        atomic_store_explicit(&run->immediate_exit, 1, memory_order_relaxed);
}

static void drop_timer(KvmObject *k)
{
    if (k->thread)
        timer_delete(k->timer);
    k->thread = 0;
    k->armed = 0;
}

int kvm_handle_signal(void)
{
    /* KVM_RUN is not one of the calls that are restarted. */
    struct sigaction act = {.sa_handler = on_leave, .sa_flags = SA_RESTART};
    sigemptyset(&act.sa_mask);
    return sigaction(LEAVE_SIGNAL, &act, NULL);
}

/* A timer that signals this thread; 0, or -1 with an exception set. */
static int make_timer(KvmObject *k, pid_t thread)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = LEAVE_SIGNAL};
    event.sigev_notify_thread_id = thread;
    sigset_t leave; /* the parent process may have blocked it */
    sigemptyset(&leave);
    sigaddset(&leave, LEAVE_SIGNAL);
    drop_timer(k);
    if (kvm_handle_signal() < 0 || pthread_sigmask(SIG_UNBLOCK, &leave, NULL) ||
        timer_create(CLOCK_MONOTONIC, &event, &k->timer) < 0) {
        PyErr_Format(error_host, "no timer to leave the guest by: %s%s", strerror(errno),
                     errno == EAGAIN ? " (the limit of pending signals, 'ulimit -i', is reached)"
                                     : "");
        return -1;
    }
    k->thread = thread;
    return 0;
}

/* Have KVM_RUN left at about `deadline`; 0, or -1 with an exception set. */
static int arm_timer(KvmObject *k, uint64_t deadline)
{
    pid_t thread = (pid_t)syscall(SYS_gettid);
    uint64_t now = now_ns();
    if (k->thread != thread && make_timer(k, thread) < 0)
        return -1;
    if (deadline > now + LEAVE_NS)
        deadline = now + LEAVE_NS;
    if (deadline < now + SLICE_NS)
        deadline = now + SLICE_NS;
    if (k->armed >= now + SLICE_NS && k->armed <= deadline)
        return 0;
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(deadline / 1000000000u),
                                           .tv_nsec = (long)(deadline % 1000000000u)}};
    if (timer_settime(k->timer, TIMER_ABSTIME, &when, NULL) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    k->armed = deadline;
    return 0;
}

int kvm_enter(KvmObject *k)
{
    k->load.size = 0;
    k->untaken = false;
    k->element = 0;
    int result = ioctl(k->fd, KVM_RUN, 0) < 0 ? errno : 0;
    if (result == EINTR)
        k->run->exit_reason = EXIT_INTR; /* the one before is over, and KVM may have left it here */
    return result;
}

/* The same by the thread that has the GIL. */
static int enter_here(KvmObject *k)
{
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = kvm_enter(k);
    Py_END_ALLOW_THREADS
    entered = NULL;
    return result;
}

static PyObject *failed(int number)
{
    errno = number;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* Exits that only KVM has are returned by number. 0, or -1 with an exception set. */
static int read_last(KvmObject *k, struct guest_exit *e)
{
    uint32_t reason = ((const volatile struct run_page *)k->run)->exit_reason;
    if (reason == EXIT_IO)
        return exit_read_element(k->run, k->io_data, &k->load, k->element, e);
    if (reason == EXIT_MMIO || reason == EXIT_HLT || reason == EXIT_INTR)
        return exit_read(k->run, k->io_data, &k->load, e);
    *e = (struct guest_exit){.reason = reason};
    return 0;
}

static PyObject *last_exit(KvmObject *k)
{
    struct guest_exit e;
    return read_last(k, &e) < 0 ? NULL : exit_tuple(&e);
}

PyObject *kvm_tell(KvmObject *k)
{
    struct guest_exit e;
    if (read_last(k, &e) < 0)
        return NULL;
    k->untaken = k->keeps && e.is_write;
    return exit_tuple(&e);
}

/* run(timeout): the next exit, or TIMED_OUT. */
static PyObject *kvm_run(PyObject *self, PyObject *timeout)
{
    KvmObject *k = (KvmObject *)self;
    uint64_t deadline;
    if (deadline_from(timeout, &deadline) < 0)
        return NULL;
    /* An exception came before it was dealt with: KVM would go on with what lies there. */
    if (k->load.size || k->untaken)
        return kvm_tell(k);
    if (k->element + 1 < exit_elements(k->run)) {
        k->element++;
        return kvm_tell(k);
    }
    for (;;) {
        /* Before the timer is armed: its signal may come before KVM_RUN does. */
        atomic_store_explicit(&k->run->immediate_exit, 0, memory_order_relaxed);
        entered = k->run;
        if (arm_timer(k, deadline) < 0) {
            entered = NULL;
            return NULL;
        }
        int error = enter_here(k);
        if (error == 0)
            return kvm_tell(k);
        if (error != EINTR)
            return failed(error);
        if (PyErr_CheckSignals() < 0)
            return NULL;
        if (now_ns() >= deadline)
            return Py_NewRef(event_objects[TIMED_OUT]);
    }
}

static PyObject *kvm_finish(PyObject *self, PyObject *unused)
{
    (void)unused;
    KvmObject *k = (KvmObject *)self;
    atomic_store_explicit(&k->run->immediate_exit, 1, memory_order_relaxed);
    int error = enter_here(k);
    atomic_store_explicit(&k->run->immediate_exit, 0, memory_order_relaxed);
    if (error != EINTR)
        return error ? failed(error) : last_exit(k);
    Py_RETURN_NONE;
}

static PyObject *kvm_keep_writes(PyObject *self, PyObject *unused)
{
    (void)unused;
    ((KvmObject *)self)->keeps = true;
    Py_RETURN_NONE;
}

static PyObject *kvm_taken(PyObject *self, PyObject *unused)
{
    (void)unused;
    ((KvmObject *)self)->untaken = false;
    Py_RETURN_NONE;
}

static PyObject *kvm_complete(PyObject *self, PyObject *argument)
{
    KvmObject *k = (KvmObject *)self;
    return exit_answer(k->run, k->io_data, &k->load, argument);
}

static PyObject *kvm_interrupt_window(PyObject *self, PyObject *wanted)
{
    int level = PyObject_IsTrue(wanted);
    if (level < 0)
        return NULL;
    ((KvmObject *)self)->run->request_interrupt_window = (uint8_t)level;
    Py_RETURN_NONE;
}

static PyObject *kvm_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    drop_timer((KvmObject *)self);
    Py_RETURN_NONE;
}

static PyObject *kvm_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"mapping", "fd", NULL};
    MappingObject *mapping;
    int fd;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!i", names, MappingType, &mapping, &fd))
        return NULL;
    uint8_t *run = mapping_range(mapping, 0, 2 * PAGE, 64);
    if (!run)
        return NULL;
    KvmObject *k = (KvmObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!k)
        return NULL;
    Py_INCREF((PyObject *)mapping);
    k->mapping = mapping;
    k->run = (struct run_page *)run;
    k->io_data = run + PAGE;
    k->fd = fd;
    return (PyObject *)k;
}

static void kvm_dealloc(PyObject *self)
{
    KvmObject *k = (KvmObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    drop_timer(k);
    Py_XDECREF((PyObject *)k->mapping);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef kvm_methods[] = {
    {"run", kvm_run, METH_O, "run(timeout): KVM_RUN until the next exit, or TIMED_OUT."},
    {"finish", kvm_finish, METH_NOARGS,
     "End the instruction that exited without running the next."},
    {"complete", kvm_complete, METH_O, "complete(value): answer the load that exited."},
    {"keep_writes", kvm_keep_writes, METH_NOARGS,
     "From now on run returns a write again until enter has taken it."},
    {"enter", kvm_taken, METH_NOARGS, "Mark the exit as handled; run lets the guest continue."},
    {"interrupt_window", kvm_interrupt_window, METH_O,
     "interrupt_window(wanted): have the guest exit as soon as it takes interrupts."},
    {"close", kvm_close, METH_NOARGS, "Stop all timers that signal a thread."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot kvm_slots[] = {
    {Py_tp_doc, "A vCPU of the real KVM."},
    {Py_tp_new, kvm_new},
    {Py_tp_dealloc, kvm_dealloc},
    {Py_tp_methods, kvm_methods},
    {0, NULL},
};

static PyType_Spec kvm_spec = {
    .name = "coalesced.hv.core.KvmHandle",
    .basicsize = sizeof(KvmObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = kvm_slots,
};

int kvm_init_type(PyObject *module)
{
    KvmType = (PyTypeObject *)PyType_FromSpec(&kvm_spec);
    return KvmType ? PyModule_AddType(module, KvmType) : -1;
}

/*
 * Floors: what the shapes that are measured cost in bare C, without Python on either side.
 *
 * Each function forks a second process, pins both where it is told, and returns nanoseconds per
 * entry or per round trip. The child runs nothing but the code here, ends by itself, and is
 * killed when its parent ends first.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "exit.h"
#include "floor_kvm.h"
#include "ring.h"

#define PAGE 4096u
#define YIELD_AFTER 256u         /* empty looks before the other side is let on this CPU */
#define LIVENESS_AFTER (1u << 16) /* empty looks before the child's end is looked for */

struct start {
    _Alignas(64) _Atomic int ready; /* child: pinned, waiting for go */
    _Alignas(64) _Atomic int go;    /* parent: the clock runs */
};

/* CPU -1: anywhere. */
static int pin(int cpu)
{
    cpu_set_t set;
    if (cpu < 0)
        return 0;
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    return sched_setaffinity(0, sizeof set, &set);
}

static inline void look_again(uint32_t looks)
{
    if (looks % YIELD_AFTER == 0)
        sched_yield();
    else
        cpu_relax();
}

/* In the child: fork's own errors and the parent's end are the parent's affair. */
static void child_begin(int cpu, pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent || pin(cpu) < 0)
        _exit(1);
}

static int child_gone(pid_t child)
{
    siginfo_t info = {.si_pid = 0};
    return waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid != 0;
}

/* Reap the child; 0 when it ended well. */
static int child_end(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

/* ---- the ring ---------------------------------------------------------------------------------- */

struct ring_job {
    struct start *start;
    struct coalesced_ring *ring;
    size_t bytes;
    uint64_t entries;
    uint32_t publish_every;
};

static void produce(const struct ring_job *job)
{
    struct ring_producer p;
    uint32_t unpublished = 0, looks = 0;
    if (ring_producer_init(&p, job->ring, job->bytes) != RING_OK)
        _exit(1);
    atomic_store_explicit(&job->start->ready, 1, memory_order_release);
    while (!atomic_load_explicit(&job->start->go, memory_order_acquire))
        look_again(++looks);
    for (uint64_t i = 0; i < job->entries;) {
        enum ring_status status = ring_append(&p, 0xa0000 + (i & 0xffff), 1, 0, i & 0xff);
        if (status < 0)
            _exit(1);
        if (status == RING_FULL || ++unpublished >= job->publish_every) {
            ring_publish(&p);
            unpublished = 0;
        }
        if (status == RING_OK) {
            looks = 0;
            i++;
        } else {
            look_again(++looks);
        }
    }
    ring_publish(&p);
    _exit(0);
}

/* Nanoseconds from go to the last commit, or -1. */
static double consume(const struct ring_job *job, struct coalesced_entry *out, pid_t child)
{
    struct ring_consumer c;
    uint32_t looks = 0, count;
    if (ring_consumer_init(&c, job->ring, job->bytes) != RING_OK)
        return -1;
    while (!atomic_load_explicit(&job->start->ready, memory_order_acquire)) {
        look_again(++looks);
        if (looks % LIVENESS_AFTER == 0 && child_gone(child))
            return -1;
    }
    uint64_t started = now_ns();
    atomic_store_explicit(&job->start->go, 1, memory_order_release);
    for (uint64_t done = 0; done < job->entries;) {
        if (ring_peek(&c, out, c.slots, &count) != RING_OK)
            return -1;
        if (count) {
            ring_commit(&c, count);
            done += count;
            looks = 0;
            continue;
        }
        look_again(++looks);
        if (looks % LIVENESS_AFTER == 0 && child_gone(child) && ring_look(&c) == RING_OK &&
            c.last == c.next)
            return -1;
    }
    return (double)(now_ns() - started);
}

/* ns for all entries; -1 with errno set, 0 in errno when the child failed. */
static double ring_run(struct ring_job *job, int here, int there)
{
    size_t bytes = job->bytes + PAGE;
    uint8_t *shared =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct coalesced_entry *out = malloc(ring_slots(job->bytes) * sizeof *out);
    double ns = -1;
    int error = errno;
    if (shared != MAP_FAILED && out) {
        job->start = (struct start *)(void *)shared;
        job->ring = (struct coalesced_ring *)(void *)(shared + PAGE);
        pid_t parent = getpid(), child = fork();
        if (child == 0) {
            child_begin(there, parent);
            produce(job);
        }
        error = child < 0 || pin(here) < 0 ? errno : 0;
        if (error == 0)
            ns = consume(job, out, child);
        if (child > 0 && ns < 0)
            kill(child, SIGKILL);
        if (child > 0 && child_end(child) < 0)
            ns = -1;
    }
    free(out);
    if (shared != MAP_FAILED)
        munmap(shared, bytes);
    errno = error;
    return ns;
}

/* ---- pipes -------------------------------------------------------------------------------------- */

static int pass_byte(int fd, bool out)
{
    char byte = 0;
    ssize_t n;
    do
        n = out ? write(fd, &byte, 1) : read(fd, &byte, 1);
    while (n < 0 && errno == EINTR);
    return n == 1 ? 0 : -1;
}

/* `first`: this side writes first. */
static int ping_pong(int in, int out, uint64_t count, bool first)
{
    for (uint64_t i = 0; i < count; i++)
        if (first ? pass_byte(out, true) < 0 || pass_byte(in, false) < 0
                  : pass_byte(in, false) < 0 || pass_byte(out, true) < 0)
            return -1;
    return 0;
}

static double pipe_run(uint64_t count, int here, int there)
{
    int to[2], from[2];
    double ns = -1;
    if (pipe2(to, O_CLOEXEC) < 0)
        return -1;
    if (pipe2(from, O_CLOEXEC) < 0) {
        close(to[0]);
        close(to[1]);
        return -1;
    }
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        child_begin(there, parent);
        close(to[1]);
        close(from[0]);
        _exit(ping_pong(to[0], from[1], count + 1, false) < 0);
    }
    int error = child < 0 || pin(here) < 0 ? errno : 0;
    close(to[0]);
    close(from[1]);
    if (error == 0 && ping_pong(from[0], to[1], 1, true) == 0) {
        uint64_t started = now_ns();
        if (ping_pong(from[0], to[1], count, true) == 0)
            ns = (double)(now_ns() - started);
    }
    close(to[1]); /* a child that still reads sees the end */
    close(from[0]);
    if (child > 0 && child_end(child) < 0)
        ns = -1;
    errno = error;
    return ns;
}

/* ---- Python ------------------------------------------------------------------------------------- */

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

static PyObject *floors_ring(PyObject *module, PyObject *args)
{
    (void)module;
    unsigned long long entries;
    unsigned int pages, publish_every;
    int here, there;
    cpu_set_t before;
    if (!PyArg_ParseTuple(args, "KIIii", &entries, &pages, &publish_every, &here, &there) ||
        cpus_fit(here, there) < 0)
        return NULL;
    if (entries == 0 || pages < 1 || pages > 4096 || publish_every == 0) {
        PyErr_SetString(PyExc_ValueError,
                        "expected entries and publish_every above 0 and 1 to 4096 pages");
        return NULL;
    }
    struct ring_job job = {
        .bytes = (size_t)pages * PAGE, .entries = entries, .publish_every = publish_every};
    if (sched_getaffinity(0, sizeof before, &before) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    double ns;
    Py_BEGIN_ALLOW_THREADS
    ns = ring_run(&job, here, there);
    Py_END_ALLOW_THREADS
    return per_item(ns, entries, &before);
}

static PyObject *floors_pipe_ping_pong(PyObject *module, PyObject *args)
{
    (void)module;
    unsigned long long count;
    int here, there;
    cpu_set_t before;
    if (!PyArg_ParseTuple(args, "Kii", &count, &here, &there) || cpus_fit(here, there) < 0)
        return NULL;
    if (count == 0) {
        PyErr_SetString(PyExc_ValueError, "expected a count above 0");
        return NULL;
    }
    if (sched_getaffinity(0, sizeof before, &before) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    double ns;
    Py_BEGIN_ALLOW_THREADS
    ns = pipe_run(count, here, there);
    Py_END_ALLOW_THREADS
    return per_item(ns, count, &before);
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
        PyErr_Format(PyExc_ValueError, "expected a page of ring behind the first page, got %zd of %zd",
                     ring_offset, size);
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
    {"pipe_ping_pong", floors_pipe_ping_pong, METH_VARARGS,
     "pipe_ping_pong(count, here, there): ns per round trip of a byte over two pipes."},
    {"kvm", floors_kvm, METH_VARARGS, "kvm(fd, size, ring_offset): ns of a guest to its halt."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "tools.bench.floors",
    .m_doc = "What the measured shapes cost in bare C.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit_floors(void);

PyMODINIT_FUNC PyInit_floors(void)
{
    return PyModule_Create(&definition);
}

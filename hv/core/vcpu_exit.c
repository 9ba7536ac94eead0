/* Leaving the guest: the payload, the exit sequence, the wait for the VMM's answer. */
#define _GNU_SOURCE
#include "posted.h"
#include "vcpu.h"

#include <string.h>

struct resume_wait {
    VcpuObject *v;
    uint64_t lines; /* interrupt lines that end the wait, too */
    bool halted;    /* waiting for an interrupt, not for the answer to an exit */
};

static bool request_waits(const VcpuObject *v)
{
    return atomic_load_explicit(&v->words->request_sequence, memory_order_relaxed) != v->requests;
}

/* A third process wrote to one of our words: the VMM may never answer that exit. */
static bool sequence_overwritten(const VcpuObject *v)
{
    return atomic_load_explicit(&v->words->exit_sequence, memory_order_relaxed) !=
               v->exit_sequence ||
           posted_since(v->words, v->posted_sequence);
}

static bool resume_ready(void *ctx)
{
    struct resume_wait *w = ctx;
    VcpuObject *v = w->v;
    if (request_waits(v) || sequence_overwritten(v))
        return true;
    if (!w->halted)
        return atomic_load_explicit(&v->words->resume_sequence, memory_order_relaxed) != v->resumed;
    return atomic_load_explicit(&v->run->immediate_exit, memory_order_relaxed) ||
           (atomic_load_explicit(&v->words->irq_lines, memory_order_relaxed) & w->lines);
}

void vcpu_take_gil(VcpuObject *v)
{
    if (v->save)
        PyEval_RestoreThread(v->save);
    v->save = NULL;
}

static int vcpu_serve(VcpuObject *v)
{
    /* Acquire: the server of the request sees what the VMM set up before it sent it. */
    uint32_t before = v->requests;
    v->requests = atomic_load_explicit(&v->words->request_sequence, memory_order_acquire);
    vcpu_take_gil(v);
    PyObject *result = PyObject_CallNoArgs(v->serve);
    if (!result) {
        v->requests = before; /* looked for again in the next wait */
        return -1;
    }
    Py_DECREF(result);
    v->save = PyEval_SaveThread();
    return 0;
}

/* Wait, serving requests meanwhile: 1 ready, 0 the deadline passed, -1 an exception is set. */
static int vcpu_wait(struct resume_wait *w, uint64_t deadline)
{
    VcpuObject *v = w->v;
    bool held = v->save == NULL;
    enum wait_result r;
    if (held)
        v->save = PyEval_SaveThread();
    for (;;) {
        r = core_wait(&v->bell, resume_ready, w, deadline, v->mapping, &v->save);
        if (r != WAIT_READY || !request_waits(v))
            break;
        if (vcpu_serve(v) < 0)
            return -1;
    }
    bool broken = r == WAIT_READY && sequence_overwritten(v);
    if (held || broken || r == WAIT_ERROR || r == WAIT_PEER_GONE)
        vcpu_take_gil(v);
    if (broken) {
        if (mapping_check(v->mapping) == 0)
            PyErr_Format(error_protocol, "run page: the %s sequence was overwritten",
                         posted_since(v->words, v->posted_sequence) ? "posted" : "exit");
        return -1;
    }
    if (r == WAIT_PEER_GONE)
        PyErr_SetString(error_peer_died, "the VMM process ended");
    return r == WAIT_READY ? 1 : r == WAIT_TIMEOUT ? 0 : -1;
}

int vcpu_wait_resume(VcpuObject *v)
{
    struct resume_wait w = {.v = v};
    if (vcpu_wait(&w, UINT64_MAX) < 0)
        return -1;
    uint32_t resume = resume_take(v->words);
    bool truncated = mapping_truncated(v->mapping);
    if (resume == v->resumed + 1 && !truncated) {
        v->resumed = resume;
        vm_ring_entered(v->ring);
        /* Among several vCPUs, a request may just be changing this one's zones, with the GIL. */
        bool without_gil = v->several && v->save;
        if (without_gil)
            vcpu_take_gil(v);
        v->unanswered = false;
        if (without_gil)
            v->save = PyEval_SaveThread();
        return 0;
    }
    vcpu_take_gil(v);
    if (mapping_check(v->mapping) == 0)
        PyErr_Format(error_protocol, "run page: resume sequence is %u, expected %u", resume,
                     v->resumed + 1);
    return -1;
}

/* Leave the guest; the payload is in place. Returns when the VMM has entered again. */
int vcpu_exit(VcpuObject *v, uint32_t reason)
{
    vm_ring_show(v->ring);
    v->run->exit_reason = reason;
    __atomic_store_n(&v->unanswered, true, __ATOMIC_RELEASE); /* vcpu_may_change looks at it */
    exit_post(v->words, ++v->exit_sequence);
    doorbell_signal(&v->bell);
    return vcpu_wait_resume(v);
}

void vcpu_post(VcpuObject *v)
{
    vm_ring_show(v->ring);
    posted_announce(v->words, &v->bell, ++v->posted_sequence);
}

int vcpu_send_rest(VcpuObject *v)
{
    struct split_store rest = v->rest;
    v->rest.size = 0;
    return vcpu_exit_mmio(v, rest.address, rest.size, true, &rest.value);
}

int vcpu_settle(VcpuObject *v)
{
    if (v->forks != forks_seen) {
        PyErr_SetString(error_guest, "the vCPU belongs to the guest process, and this is a fork of "
                                     "it: only the guest process itself can use it");
        return -1;
    }
    v->busy = true;
    int result = v->unanswered ? vcpu_wait_resume(v) : 0;
    if (result == 0 && v->rest.size)
        result = vcpu_send_rest(v);
    v->busy = false;
    return result;
}

int vcpu_exit_mmio(VcpuObject *v, uint64_t address, uint32_t size, bool is_write, uint64_t *value)
{
    v->run->mmio.phys_addr = address;
    v->run->mmio.data = is_write ? *value : 0;
    v->run->mmio.len = size;
    v->run->mmio.is_write = is_write;
    v->exits++;
    if (vcpu_exit(v, EXIT_MMIO) < 0)
        return -1;
    if (!is_write)
        *value = v->run->mmio.data & size_mask(size);
    return 0;
}

int vcpu_exit_io(VcpuObject *v, uint16_t port, uint32_t size, bool is_write, uint64_t *value)
{
    v->run->io.direction = is_write ? IO_OUT : IO_IN;
    v->run->io.size = (uint8_t)size;
    v->run->io.port = port;
    v->run->io.count = 1;
    v->run->io.data_offset = PAGE;
    uint64_t data = is_write ? *value : 0;
    memcpy(v->io_data, &data, 8);
    v->exits++;
    if (vcpu_exit(v, EXIT_IO) < 0)
        return -1;
    if (!is_write) {
        memcpy(&data, v->io_data, 8);
        *value = data & size_mask(size);
    }
    return 0;
}

int vcpu_wait_lines(VcpuObject *v, uint64_t lines, uint64_t deadline, uint64_t *raised)
{
    struct resume_wait w = {.v = v, .lines = lines, .halted = true};
    *raised = 0;
    vm_ring_show(v->ring);
    if (v->ring && !(atomic_load_explicit(&v->words->irq_lines, memory_order_relaxed) & lines)) {
        vm_ring_sleeps(v->ring);
        for (uint32_t i = 0; i < v->own_count; i++)
            vm_ring_sleeps(v->own[i]->ring);
    }
    while (*raised == 0) {
        int ready = vcpu_wait(&w, deadline);
        if (ready <= 0)
            return ready;
        if (vcpu_check_kick(v) < 0)
            return -1;
        /* Acquire: what a device did before it raised the line is seen. */
        *raised = atomic_load_explicit(&v->words->irq_lines, memory_order_acquire) & lines;
    }
    return 0;
}

/*
 * The functions of a VcpuHandle for C outside this extension, without the arguments and results
 * that Python needs. The capsule coalesced.hv.core.calls holds it.
 */
#ifndef COALESCED_CALLS_H
#define COALESCED_CALLS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#define CALLS_NAME "coalesced.hv.core.calls"

enum {
    EXIT_IO = 2,
    EXIT_HLT = 5,
    EXIT_MMIO = 6,
    EXIT_IRQ_WINDOW_OPEN = 7,
    EXIT_INTR = 10,
    EXIT_SYSTEM_EVENT = 24,
};

/* The members of coalesced.hv.outcome.Event. */
enum event { TIMED_OUT, EXITED, RING_FILLED, READABLE, EVENTS };

/* An exit, checked. Of HLT, `value` is the interrupt flag; of a system event, `address` its type. */
struct guest_exit {
    uint32_t reason, size;
    uint64_t address, value; /* a memory address, or a port */
    bool is_write;
};

/* An exception is set when one of these returns -1 or NULL. */
struct handle_calls {
    /* 0 for what `run` takes: a VcpuHandle, or VcpuHandles; or -1. */
    int (*check)(PyObject *handles);
    /*
     * Their `run` without a timeout: EXITED, *e and *of, the handle whose exit it is (borrowed);
     * another event, or -1.
     */
    int (*run)(PyObject *handles, long watch, uint64_t due, struct guest_exit *e, PyObject **of);
    /* 1 when entries wait in the ring, 0 when none do, or -1. */
    int (*queued)(PyObject *handle);
    /* The result of the load that exited: 0, or -1. */
    int (*complete)(PyObject *handle, uint64_t value);
    /* Let the guest continue: 0, or -1. */
    int (*enter)(PyObject *handle);
    /* The exit or event as Python has it: a new reference, or NULL. */
    PyObject *(*told)(const struct guest_exit *e);
    PyObject *(*event)(int event);
    /* CLOCK_MONOTONIC ns from a number of seconds: 0, or -1. */
    int (*moment)(PyObject *seconds, uint64_t *ns);
};

#endif

/* Shared by the parts of the extension: object layouts, errors, waiting. */
#ifndef COALESCED_CORE_H
#define COALESCED_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "calls.h"
#include "exit.h"
#include "own_ring.h"
#include "ring.h"
#include "shared_ring.h"
#include "waits.h"

#define PAGE 4096u
#define PORTS 0x10000u
#define VCPUS_MAX 8u

/* struct kvm_run on x86-64, as far as either side uses it; checked against <linux/kvm.h>. */
struct run_page {
    _Atomic uint8_t request_interrupt_window;
    _Atomic uint8_t immediate_exit;
    uint8_t padding1[6];
    uint32_t exit_reason;
    uint8_t ready_for_interrupt_injection;
    uint8_t if_flag;
    uint16_t flags;
    uint64_t cr8;
    uint64_t apic_base;
    union {
        struct {
            uint8_t direction;
            uint8_t size;
            uint16_t port;
            uint32_t count;
            uint64_t data_offset;
        } io;
        struct {
            uint64_t phys_addr;
            uint64_t data;
            uint32_t len;
            uint8_t is_write;
        } mmio;
        struct {
            uint32_t type;
            uint32_t ndata;
            uint64_t data[16];
        } system_event;
        uint8_t padding[256];
    };
};

_Static_assert(offsetof(struct run_page, exit_reason) == 8, "kvm_run.exit_reason");
_Static_assert(offsetof(struct run_page, io) == 32, "kvm_run.io");
_Static_assert(offsetof(struct run_page, mmio.len) == 48, "kvm_run.mmio.len");

enum { IO_IN = 0, IO_OUT = 1 };

/* Number of forks between the process that loaded the extension and this one (module.c). */
extern uint32_t forks_seen;

/* ---- support.c ------------------------------------------------------------------------------ */

/* Look up coalesced.hv.errors and coalesced.hv.outcome; 0, or -1 with an exception set. */
int support_look_up_errors(void);
int support_look_up_events(void);
/* The members of coalesced.hv.outcome.Event, by enum event. */
extern PyObject *event_objects[EVENTS];
extern PyObject *error_peer_died;
extern PyObject *error_protocol;
extern PyObject *error_segment;
extern PyObject *error_guest;
extern PyObject *error_host;
extern PyObject *error_closed, *error_busy;

/* ns from a Python number of seconds or None (UINT64_MAX); -1 with an exception set. */
int deadline_from(PyObject *timeout, uint64_t *deadline);

/* CLOCK_MONOTONIC ns from a Python number of seconds or None (UINT64_MAX); -1 with an exception. */
int moment_from(PyObject *moment, uint64_t *ns);

/* An unsigned 64-bit argument; -1 with TypeError or OverflowError set. */
int unsigned_from(PyObject *o, uint64_t *value);

/* ---- mapping.c: shared-memory segments side by side, guarded against truncation ------------ */

#define MAPPING_PARTS 4

typedef struct {
    PyObject_HEAD
    uint8_t *base;
    size_t size;
    int parts;
    struct {
        char *name;
        size_t size;
        int guard;
    } part[MAPPING_PARTS];
} MappingObject;

extern PyTypeObject *MappingType;
int mapping_init_type(PyObject *module);
/* A part was truncated: the accesses since then went to a page of our own. */
bool mapping_truncated(const MappingObject *m);
/* 0, or -1 with SegmentError set when a part was truncated. */
int mapping_check(const MappingObject *m);
/* A pointer to [offset, offset + size), or NULL with ValueError set. */
void *mapping_range(MappingObject *m, Py_ssize_t offset, Py_ssize_t size, size_t align);

/* ---- producer.c, ringtypes.c: the two ends of a ring as Python objects ---------------------- */

typedef struct {
    PyObject_HEAD
    MappingObject *mapping;
    struct ring_producer p;
} ProducerObject;

typedef struct {
    PyObject_HEAD
    MappingObject *mapping;
    struct ring_consumer c;
    struct own_ring_words *own; /* of a ring of a device's own; NULL: it is the VM's */
    int own_fd;
    struct coalesced_entry *batch; /* as many as the ring has slots, */
    uint64_t *offsets, *values; /* and behind them, in the same piece, as many of each of these */
    struct wait_counts waits;
} ConsumerObject;

extern PyTypeObject *ProducerType, *ConsumerType;
int producer_init_type(PyObject *module);
/* Append address, len and data; 1, 0 where the ring is full, or -1 with an exception set. */
int producer_put(ProducerObject *self, PyObject *const *entry, int pio);
/*
 * Append and publish entries of a buffer, from number `from` on, until the ring is full; the number
 * to go on with, or -1 with an exception set. From 0 on, all are checked before any is appended.
 */
Py_ssize_t producer_extend(ProducerObject *self, PyObject *entries, Py_ssize_t from);
int consumer_init_type(PyObject *module);
/* Give the slots of that many peeked entries back; 0, or -1 with an exception set. */
int consumer_give_back(ConsumerObject *self, uint64_t count);
/* Copy the published entries, `most` at most, to the batch: how many, or -1 as above. */
Py_ssize_t consumer_fill(ConsumerObject *self, uint64_t most);
/* The mapping and the ring in it, from (mapping, offset, size); NULL with an exception set. */
struct coalesced_ring *ring_from(PyObject *args, PyObject *kwargs, MappingObject **mapping,
                                 Py_ssize_t *size);
/* Bytes of a ring of `slots` slots. */
static inline size_t ring_bytes(uint32_t slots)
{
    return sizeof(struct coalesced_ring) + slots * sizeof(struct coalesced_slot);
}

/* Set ProtocolError for a status below 0; returns -1. */
int ring_raise(enum ring_status status, uint64_t bad, uint32_t slot, uint32_t slots);

/* ---- bell.c: waiting for the other end of a ring ------------------------------------------- */

int bell_init_type(PyObject *module);

/* ---- exit_page.c: exits as they stand in kvm_run ------------------------------------------- */

/* A load that exited and waits for its result; size 0: none does. */
struct pending_load {
    uint32_t size, element; /* of a string instruction */
    bool io;
};

/*
 * The exit in the page, checked, and *load; 0, or -1 with ProtocolError set for what cannot be.
 * `io_data`: the page of port data.
 */
int exit_read(const volatile struct run_page *run, const uint8_t *io_data,
              struct pending_load *load, struct guest_exit *e);
/* Number of accesses of a string instruction in an exit to a port; 0: it is none. */
uint32_t exit_elements(const volatile struct run_page *run);
/* One of them, as exit_read gives it; a processor's access may reach past the last port. */
int exit_read_element(const volatile struct run_page *run, const uint8_t *io_data,
                      struct pending_load *load, uint32_t element, struct guest_exit *e);
/* (exit_reason, address or port, size, is_write, value), or NULL with an exception set. */
PyObject *exit_tuple(const struct guest_exit *e);
/* Put the result of `load` into the page; 0, or -1 with an exception set. */
int exit_complete(struct run_page *run, uint8_t *io_data, struct pending_load *load,
                  uint64_t value);
/* The same of the low 64 bits of a whole number: None, or NULL with an exception set. */
PyObject *exit_answer(struct run_page *run, uint8_t *io_data, struct pending_load *load,
                      PyObject *argument);
/* Of `count` vCPUs one has halted: are there others? Otherwise none is parked any more. */
static inline bool park_one(uint32_t *parked, uint32_t index, uint32_t count)
{
    *parked |= 1u << index;
    if (*parked != (1u << count) - 1)
        return true;
    *parked = 0;
    return false;
}

/* ---- vm_ring.c, vcpu.c, cpu.c, handle.c, kvm*.c ------------------------------------------------ */

int vm_ring_init_type(PyObject *module);
int vcpu_init_type(PyObject *module);
int cpu_init_type(PyObject *module);
int handle_init_type(PyObject *module);
int handles_init_type(PyObject *module);
int kvm_init_type(PyObject *module);
int kvm_threads_init_type(PyObject *module);

/* ---- wait.c: waiting, for either side ------------------------------------------------------ */

/* Our own words, behind kvm_run in page 0 of the run segment. */
static inline struct run_words *run_words_of(void *run_page)
{
    return (struct run_words *)((uint8_t *)run_page + RUN_WORDS_OFFSET);
}

enum wait_result { WAIT_READY, WAIT_TIMEOUT, WAIT_ERROR, WAIT_PEER_GONE, WAIT_WATCHED };

/*
 * Wait until ready(ctx), by the bell's policy, at most until `deadline` (CLOCK_MONOTONIC ns;
 * UINT64_MAX: no limit). Called without the GIL; *save is the suspended thread state, given back
 * suspended. WAIT_ERROR: a Python exception is set (a signal handler raised, or a segment was
 * truncated). The word is looked at once more after the peer's end was seen. WAIT_WATCHED: the
 * bell's watch_fd is readable.
 */
enum wait_result core_wait(struct doorbell *b, bool (*ready)(void *), void *ctx, uint64_t deadline,
                           const MappingObject *guard, PyThreadState **save);

#endif

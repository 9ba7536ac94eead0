/* The guest's processor: its state, and what its parts call of each other. */
#ifndef COALESCED_VCPU_H
#define COALESCED_VCPU_H

#include "edges.h"
#include "vm_ring.h"

#define RAM_SLOTS 32
#define OWN_RINGS 64

enum op_kind { OP_LOAD = 0, OP_STORE = 1, OP_IN = 2, OP_OUT = 3 };

struct op {
    uint32_t kind;
    uint32_t size;
    uint64_t address;
    uint64_t value;
};
_Static_assert(sizeof(struct op) == 24, "bus operation");

struct zone {
    uint64_t start, last; /* inclusive */
    struct vm_ring *ring;
    bool clear_of_ram, clear_of_events;
    bool posted; /* a write wakes the VMM */
    bool bulk;   /* clear of both and not posted: a write is queued, and that is all */
};

/* An ioeventfd, as HV_EVENT of hv/abi.py. */
struct ioeventfd {
    uint64_t address, value;
    uint32_t length; /* 0: any */
    int32_t fd;
    uint32_t matches_value, before_zones;
};
_Static_assert(sizeof(struct ioeventfd) == 32, "ioeventfd");

struct ram_slot {
    uint64_t start, size;
    uint8_t *host;
    bool readonly; /* ROM: stores go to devices */
    MappingObject *mapping;
};

/* The second part of a store that crosses a page, to follow the exit of the first. */
struct split_store {
    uint64_t address, value;
    uint32_t size;
};

typedef struct {
    PyObject_HEAD
    MappingObject *mapping, *first; /* `first`: of the first vCPU, by whose word the VMM sleeps */
    struct run_page *run;
    uint8_t *io_data;
    struct run_words *words;
    VmRingObject *vm_ring; /* or NULL, and so is */
    struct vm_ring *ring;  /* what it holds */
    struct doorbell bell;
    struct edges edges; /* the doorbell's */
    uint32_t exit_sequence, posted_sequence, resumed, requests;
    struct ram_slot ram[RAM_SLOTS];
    int ram_count;
    uint32_t memory_version; /* how often `ram` has changed */
    struct zone *zones[2];   /* by pio; sorted, none inside another */
    uint32_t zone_count[2], zone_hit[2];
    struct ioeventfd *events[2]; /* by pio */
    uint32_t event_count[2];
    uint32_t publish_every;
    uint64_t coalesced, exits;
    Py_ssize_t op_index; /* for messages; -1 outside execute */
    PyObject *serve;     /* called when the VMM sent a request */
    PyThreadState *save; /* the GIL is given up when set */
    bool started, busy;
    bool several;                 /* there are other vCPUs: requests come to another one's thread */
    bool unanswered;              /* an exit was posted, and its answer has not been taken */
    struct split_store rest;      /* size 0: none */
    uint32_t forks;               /* forks_seen of the process that may use it */
    VmRingObject *own[OWN_RINGS]; /* rings of devices' own, which zones name by number from 1 on */
    uint32_t own_count;
} VcpuObject;

extern PyTypeObject *VcpuType;

static inline uint64_t size_mask(uint32_t size)
{
    return UINT64_MAX >> (64 - 8 * size);
}

/*
 * Every function below returns 0, or -1 with a Python exception set and the GIL held, whether or
 * not it was given up before.
 */

/* vcpu_exit.c: leaving the guest, and coming back. */
int vcpu_exit(VcpuObject *v, uint32_t reason);
int vcpu_exit_mmio(VcpuObject *v, uint64_t address, uint32_t size, bool is_write, uint64_t *value);
int vcpu_exit_io(VcpuObject *v, uint16_t port, uint32_t size, bool is_write, uint64_t *value);
int vcpu_wait_resume(VcpuObject *v);
/*
 * End an access that an exception from a signal handler gave up: take the answer that it did not
 * wait for, and send what was to follow it. GuestError in a fork of the guest process.
 */
int vcpu_settle(VcpuObject *v);
/* Show what is queued, a posted write being the last of it, to a VMM that may sleep. */
void vcpu_post(VcpuObject *v);
/* The exit of `rest`, which the exit of the first part went before. */
int vcpu_send_rest(VcpuObject *v);
/* Wait for one of `lines`; *raised is 0 when the deadline passed. */
int vcpu_wait_lines(VcpuObject *v, uint64_t lines, uint64_t deadline, uint64_t *raised);
/* Take the GIL back where it was given up. */
void vcpu_take_gil(VcpuObject *v);

/* Between two operations: leave with KVM_EXIT_INTR if the VMM asked for it. */
static inline int vcpu_check_kick(VcpuObject *v)
{
    return atomic_load_explicit(&v->run->immediate_exit, memory_order_relaxed)
               ? vcpu_exit(v, EXIT_INTR)
               : 0;
}

/* vcpu_bus.c: where an access goes. */
int vcpu_load(VcpuObject *v, uint64_t address, uint32_t size, uint64_t *value);
int vcpu_store(VcpuObject *v, uint64_t address, uint32_t size, uint64_t value);
int vcpu_in(VcpuObject *v, uint64_t port, uint32_t size, uint64_t *value);
int vcpu_out(VcpuObject *v, uint64_t port, uint32_t size, uint64_t value);
int vcpu_run_ops(VcpuObject *v, struct op *ops, Py_ssize_t count);
int vcpu_store_many(VcpuObject *v, const uint64_t *addresses, uint32_t size, const uint64_t *values,
                    Py_ssize_t count);
/* `count` stores of one value, one behind the other. */
int vcpu_fill(VcpuObject *v, uint64_t address, uint32_t size, uint64_t count, uint64_t value);
/* `bytes` NULL: only see whether there is RAM. */
int vcpu_copy_memory(VcpuObject *v, uint64_t address, uint8_t *bytes, Py_ssize_t size, bool write);

/* vcpu_zones.c: methods of Vcpu. */
PyObject *vcpu_py_set_zones(PyObject *self, PyObject *args);
/* Rings of devices' own; the zones, which name them, go. */
PyObject *vcpu_py_set_rings(PyObject *self, PyObject *rings);
void vcpu_drop_rings(VcpuObject *v);

/* ioeventfd.c */
/* Signal the one that a write matches, if any; `before_zones`: only one that zones do not precede. */
bool vcpu_signal_event(VcpuObject *v, int pio, uint64_t address, uint32_t size, uint64_t value,
                       bool before_zones);
/* Find out what each zone overlaps, after any of them has changed. */
void vcpu_mark_zones(VcpuObject *v);
PyObject *vcpu_py_set_events(PyObject *self, PyObject *args);

/* vcpu_call.c: around each call from Python. */
/* Note the first operation; bulk: the GIL is given up until vcpu_end. */
int vcpu_begin(VcpuObject *v, bool bulk);
/*
 * Show what was queued, take the GIL back, look for truncated segments; passes `result` on. What
 * interrupted a bulk operation gets a note that says how far it had come.
 */
int vcpu_end(VcpuObject *v, int result);
/*
 * 0 when zones, events and memory may change; -1 with OSError set while the vCPU's thread may use
 * them. The GIL is held, without which no vCPU among several goes on from an exit.
 */
int vcpu_may_change(const VcpuObject *v);
/* The first two arguments; a size that no access has stays one. */
int vcpu_address_and_size(PyObject *const *args, uint64_t *address, uint32_t *size);
int vcpu_arguments(Py_ssize_t got, Py_ssize_t expected);

/* vcpu_bulk.c: methods of Vcpu. */
PyObject *vcpu_py_execute(PyObject *self, PyObject *array);
PyObject *vcpu_py_store_many(PyObject *self, PyObject *args);
PyObject *vcpu_py_fill(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *vcpu_py_read_memory(PyObject *self, PyObject *args);
PyObject *vcpu_py_write_memory(PyObject *self, PyObject *args);

#endif

/* The parts of coalesced.vmm.exits: who answers an address, batches, and how often it exited. */
#ifndef COALESCED_EXITS_H
#define COALESCED_EXITS_H

#include "calls.h"

/* Addresses [first, last] that one region answers from `base` on. */
struct flat {
    uint64_t first, last, base;
    PyObject *read, *write; /* handlers of offset, size and, for a write, value */
    PyObject *take;         /* handler of a run of writes, or NULL */
    PyObject *pending;      /* how many writes wait in its device's own ring; NULL: it has none */
    PyObject *flush;        /* brings them to the device */
};

/* Memory or ports: both lists ascend. */
struct space {
    struct flat *flat;
    Py_ssize_t flats;
    uint64_t *edges; /* of coalesced zones: starts and ends alternate */
    Py_ssize_t edge_count;
};

/* Take the table of a space anew, from a list of such tuples; 0, or -1 with an exception set. */
int space_map(struct space *s, PyObject *list);
int space_zones(struct space *s, PyObject *list);
void space_clear(struct space *s);
/* The region that answers all of the access; NULL: none, or more than one. */
const struct flat *space_find(const struct space *s, uint64_t address, uint32_t size);

/* Where accesses of memory and ports go; `space` has both. */
typedef struct {
    PyObject_HEAD
    struct space space[2];
    PyObject *other;  /* handler of port, address, size and value where no single region answers */
    PyObject *failed; /* takes these and the error of a write whose handler raised */
    Py_ssize_t done;  /* writes of the last batch, up to its end, a run or an exception */
} RoutesObject;

extern PyTypeObject *RoutesType;
int routes_init_type(PyObject *module);
/* Call a handler of an access; `value`: of a write, NULL: it is a load. */
PyObject *call_handler(PyObject *handler, uint64_t offset, uint32_t size, const uint64_t *value);
/* The exception that is set, with its traceback; it is set no more. */
PyObject *take_error(void);

/* Reasons for exits: the order of the tallies that Exits takes. */
enum reason { LOAD, PIO, NO_ZONE, STRADDLE, FULL, PORT_FULL, REASONS };

/* Why a write was not queued. */
enum reason space_why(const struct space *s, uint64_t address, uint32_t size, bool port);

/* One for each address of a window of 64 KiB, as a screen is: in a tally one costs as much as the
 * rest of an exit's way. */
#define COUNTS (1u << 16)

/* Counts that the tallies do not have yet, by address and reason. */
struct counts {
    PyObject *tally[REASONS];
    uint64_t waiting[REASONS]; /* sums of what each tally does not have yet */
    struct count {
        uint64_t address;
        uint32_t n;
        uint8_t reason;
        bool listed;
    } *count;         /* COUNTS of them: 1 MiB, which takes memory where it is used */
    uint16_t *listed; /* those that may have an `n` */
    uint32_t length;
};

/* 0, or -1 with an exception set. */
int counts_make(struct counts *c);
void counts_free(struct counts *c);
int counts_add(struct counts *c, enum reason reason, uint64_t address);
int counts_settle(struct counts *c);

#endif

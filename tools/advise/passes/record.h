/* An event of a recording as stored, and the code that all passes share. */
#ifndef COALESCED_ADVISE_RECORD_H
#define COALESCED_ADVISE_RECORD_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    READ = 1,
    WRITE = 2,
    PORT = 4,
    ANNOUNCED = 8, /* a load before its exit; its value follows */
    EXIT = 16,
    EXIT_MMIO = 32,
    EXIT_IO = 64,
    KERNEL = 128,    /* an interrupt controller that the kernel plays: never exits */
    EXITS = 256,     /* a write whose exit follows */
    ENDED = 512,     /* a load that was announced */
    OF_WRITE = 1024, /* an exit that a single write has caused */
};

#define PARTS 96 /* of a recording, for pictures */
#define NO_TIME (-1)

struct record {
    uint64_t address, value;
    int64_t time, line; /* time: nanoseconds, NO_TIME */
    uint32_t count;     /* of elements: more than 1 for a string instruction */
    int32_t thread;
    uint32_t name;
    uint16_t traits;
    uint8_t size, kind;
};

/* A range of addresses. `last`: included. `mark`: a window, or the number of an owner. */
struct range {
    uint64_t start, last;
    uint32_t port, mark;
};

struct ranges {
    size_t count;
    struct range *at;
};

/* The recording as a whole. Without lines of exits every access counts as one. */
struct whole {
    int has_exits, timed;
    int64_t begin, end, events; /* times of the first and the last event, in order of time */
};

struct pass {
    bool (*step)(struct pass *, struct record *); /* false: out of memory */
    bool (*end)(struct pass *);
    PyObject *(*result)(struct pass *);
    void (*clear)(struct pass *);
    struct record *block; /* that is being read */
    int64_t base, index;  /* of the first record of the block, of the record in the recording */
};

struct pass *order_new(PyObject *args);
struct pass *survey_new(PyObject *args);
struct pass *evidence_new(PyObject *args);
struct pass *waits_new(PyObject *args);
struct pass *pairs_new(PyObject *args);
struct pass *unseen_new(PyObject *args);
struct pass *exits_new(PyObject *args);
struct pass *late_new(PyObject *args);
struct pass *depth_new(PyObject *args);

/* Copies what Python passed; false with an exception. */
bool copied(Py_buffer *from, size_t unit, void **into, size_t *count);
bool ranges_of(Py_buffer *from, struct ranges *into);

static inline PyObject *bytes_of(const void *at, size_t length)
{
    return PyBytes_FromStringAndSize(length ? at : "", (Py_ssize_t)length);
}

static inline bool is_single(const struct record *r)
{
    return (r->traits & WRITE) && r->count == 1;
}

static inline bool begins(const struct record *r)
{
    return (r->traits & (READ | WRITE | ANNOUNCED)) && !(r->traits & ENDED);
}

static inline bool reads(const struct record *r)
{
    return r->traits & (READ | ANNOUNCED);
}

/* Is it a write that exits? */
static inline bool exits(const struct whole *w, const struct record *r)
{
    return r->traits & (w->has_exits ? EXITS : WRITE);
}

/* Is the ring drained here, by an exit that no single write has caused? */
static inline bool drains(const struct whole *w, const struct record *r)
{
    if (w->has_exits)
        return (r->traits & EXIT) && !(r->traits & OF_WRITE);
    return begins(r) && !is_single(r);
}

static inline bool is_port(const struct record *r)
{
    return r->traits & PORT;
}

static inline uint64_t last_byte(const struct record *r)
{
    return r->address + (r->size ? r->size - 1u : 0);
}

static inline bool in_range(const struct record *r, const struct range *range)
{
    return r->address >= range->start && last_byte(r) <= range->last &&
           is_port(r) == (range->port != 0);
}

/* A single write that lies wholly inside one of the zones? */
static inline bool inside(const struct record *r, const struct ranges *zones)
{
    if (!is_single(r))
        return false;
    for (size_t n = 0; n < zones->count; n++)
        if (in_range(r, &zones->at[n]))
            return true;
    return false;
}

/* Of ranges in the order of kind and start, the last one that begins at or before the access and
 * holds its first byte; -1 if there is none. */
static inline long range_of(const struct ranges *ranges, const struct record *r)
{
    size_t low = 0, high = ranges->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct range *at = &ranges->at[middle];
        bool before = at->port != (uint32_t)is_port(r) ? at->port < (uint32_t)is_port(r)
                                                       : at->start <= r->address;
        if (before)
            low = middle + 1;
        else
            high = middle;
    }
    if (!low)
        return -1;
    const struct range *at = &ranges->at[low - 1];
    return at->port == (uint32_t)is_port(r) && r->address <= at->last ? (long)low - 1 : -1;
}

static inline int part_of(const struct whole *w, const struct record *r, int64_t index)
{
    if (w->timed && w->end > w->begin) {
        int part = (int)((double)(r->time - w->begin) / (double)(w->end - w->begin) * PARTS);
        return part < PARTS ? part : PARTS - 1;
    }
    return (int)((double)(index * PARTS) / (double)w->events);
}

#endif

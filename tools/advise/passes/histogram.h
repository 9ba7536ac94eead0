/* Counts waits by range in bins of less than a hundredth of their value, each with its longest. */
#ifndef COALESCED_ADVISE_HISTOGRAM_H
#define COALESCED_ADVISE_HISTOGRAM_H

#include "record.h"
#include "table.h"

enum { BIN_BITS = 7 };

struct bin {
    int64_t count, longest;
};

/* Each power of two has 2^BIN_BITS bins; none holds waits from both sides of one. */
static inline uint64_t bin_of(int64_t wait)
{
    uint64_t less = wait > 1 ? (uint64_t)wait - 1 : 0;
    if (less >> BIN_BITS == 0)
        return less;
    int shift = 63 - __builtin_clzll(less) - BIN_BITS;
    return ((uint64_t)shift << BIN_BITS) + (less >> shift);
}

static inline bool count_wait(struct table *bins, long range, int64_t wait)
{
    struct bin *bin = table_add(bins, (struct key){(uint64_t)range, bin_of(wait), 0});
    if (!bin)
        return false;
    bin->count++;
    if (wait > bin->longest)
        bin->longest = wait;
    return true;
}

/* Of each bin: the range, its number, how many waits it has and the longest. */
static inline PyObject *bins_of(const struct table *bins)
{
    PyObject *found = PyList_New(0);
    for (size_t n = 0; found && n < bins->room; n++) {
        const struct slot *slot = slot_at(bins, n);
        const struct bin *bin = (const struct bin *)(slot + 1);
        if (!slot->used)
            continue;
        PyObject *row = Py_BuildValue("KKLL", slot->key.a, slot->key.b, bin->count, bin->longest);
        if (!row || PyList_Append(found, row)) {
            Py_XDECREF(row);
            Py_DECREF(found);
            return NULL;
        }
        Py_DECREF(row);
    }
    return found;
}

#endif

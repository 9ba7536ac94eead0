/* Addresses of a window that do what memory does not: something that waits for the guest's next
 * step, such as a doorbell, or a read of another value than was written. */
#ifndef COALESCED_ADVISE_ODD_H
#define COALESCED_ADVISE_ODD_H

#include "record.h"
#include "table.h"

/* Counted from the first that was late or read otherwise. As `ranges.ODD` has it. */
struct odd {
    uint64_t address;
    int64_t size, writes, late, late_line, reads, other, other_line;
};

static inline struct odd *odd_find(const struct table *odd, const struct record *r)
{
    return table_find(odd, (struct key){r->address, 0, 0});
}

static inline bool odd_late(struct table *odd, uint64_t address, uint8_t size, int64_t line)
{
    struct odd *o = table_add(odd, (struct key){address, 0, 0});
    if (!o)
        return false;
    if (!o->size) {
        o->address = address;
        o->writes = 1;
    }
    if (size > o->size)
        o->size = size;
    if (!o->late++)
        o->late_line = line;
    return true;
}

static inline bool odd_other(struct table *odd, const struct record *r)
{
    struct odd *o = table_add(odd, (struct key){r->address, 0, 0});
    if (!o)
        return false;
    if (!o->size) {
        o->address = r->address;
        o->reads = 1;
    }
    if (r->size > o->size)
        o->size = r->size;
    if (!o->other++)
        o->other_line = r->line;
    return true;
}

/* Those with at least as many. */
static inline PyObject *odd_rows(const struct table *odd, int64_t least)
{
    PyObject *found = PyByteArray_FromStringAndSize(NULL, 0);
    for (size_t n = 0; found && n < odd->room; n++) {
        struct slot *slot = slot_at(odd, n);
        const struct odd *o = value_of(slot);
        if (!slot->used || (o->late < least && o->other < least))
            continue;
        Py_ssize_t size = PyByteArray_Size(found);
        if (PyByteArray_Resize(found, size + (Py_ssize_t)sizeof *o)) {
            Py_DECREF(found);
            return NULL;
        }
        memcpy(PyByteArray_AsString(found) + size, o, sizeof *o);
    }
    return found;
}

#endif

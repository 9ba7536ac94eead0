/* Marks by the order of each thread's events which writes exit, and which loads were announced.
 *
 * A write exits if the next event of its thread is that exit. The exit of an in stands before its
 * line, so one exit between an out and an in is the in's. What is found about a record of an earlier
 * block is kept as a correction.
 */
#include "record.h"
#include "table.h"

struct row {
    int64_t index;
    uint32_t count, traits;
};

struct thread {
    struct row last, before;
};

struct correction {
    int64_t index, traits;
};

struct order {
    struct pass pass;
    struct table threads;
    struct correction *corrections;
    size_t count, room;
};

static bool mark(struct order *o, struct row *row, unsigned traits)
{
    row->traits |= traits;
    if (row->index >= o->pass.base) {
        o->pass.block[row->index - o->pass.base].traits |= (uint16_t)traits;
        return true;
    }
    if (o->count == o->room) {
        size_t room = o->room ? o->room * 2 : 64;
        void *larger = realloc(o->corrections, room * sizeof *o->corrections);
        if (!larger)
            return false;
        o->corrections = larger;
        o->room = room;
    }
    o->corrections[o->count++] = (struct correction){row->index, row->traits};
    return true;
}

static bool is_out(const struct row *row)
{
    return (row->traits & (WRITE | PORT)) == (WRITE | PORT);
}

/* An out, its exit, and what follows is no in. */
static bool out_exits(struct order *o, struct thread *t)
{
    return mark(o, &t->before, EXITS) && (t->before.count != 1 || mark(o, &t->last, OF_WRITE));
}

static bool step(struct pass *pass, struct record *r)
{
    struct order *o = (struct order *)pass;
    struct thread *t = table_add(&o->threads, (struct key){(uint32_t)r->thread, 0, 0});
    if (!t)
        return false;
    if ((r->traits & (READ | PORT)) == READ && (t->last.traits | t->before.traits) & ANNOUNCED)
        r->traits |= ENDED;
    if ((t->last.traits & (WRITE | PORT)) == WRITE && r->traits & EXIT_MMIO) {
        if (!mark(o, &t->last, EXITS))
            return false;
        r->traits |= t->last.count == 1 ? OF_WRITE : 0;
    }
    if (is_out(&t->before) && t->last.traits & EXIT_IO &&
        (r->traits & (READ | PORT)) != (READ | PORT) && !out_exits(o, t))
        return false;
    t->before = t->last;
    t->last = (struct row){pass->index, r->count, r->traits};
    return true;
}

static bool end(struct pass *pass)
{
    struct order *o = (struct order *)pass;
    pass->base = INT64_MAX;
    for (size_t n = 0; n < o->threads.room; n++) {
        struct slot *slot = slot_at(&o->threads, n);
        struct thread *t = value_of(slot);
        if (slot->used && is_out(&t->before) && t->last.traits & EXIT_IO && !out_exits(o, t))
            return false;
    }
    return true;
}

/* The corrections since the last call, and the number of threads. */
static PyObject *result(struct pass *pass)
{
    struct order *o = (struct order *)pass;
    size_t length = o->count * sizeof *o->corrections;
    o->count = 0;
    return Py_BuildValue("Nn", bytes_of(o->corrections, length), (Py_ssize_t)o->threads.used);
}

static void clear(struct pass *pass)
{
    struct order *o = (struct order *)pass;
    free(o->threads.slots);
    free(o->corrections);
}

struct pass *order_new(PyObject *args)
{
    if (!PyArg_ParseTuple(args, ""))
        return NULL;
    struct order *o = calloc(1, sizeof *o);
    if (!o)
        return (struct pass *)PyErr_NoMemory();
    o->pass = (struct pass){.step = step, .end = end, .result = result, .clear = clear};
    o->threads.value = sizeof(struct thread);
    return &o->pass;
}

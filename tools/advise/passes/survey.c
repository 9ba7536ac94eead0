/* Lists the addresses that are written, each with its widest write and how its writes went. */
#include "record.h"
#include "table.h"

enum { QUEUED = 1, EXITS_FULL = 2, EXITS_APART = 4, WRITTEN = 8, GRANULE = 64 };

struct survey {
    struct pass pass;
    struct table granules;
    uint64_t least; /* entries with which a ring may be full */
    uint64_t since; /* writes that were queued since the last exit */
};

/* 64 addresses in a row: one by one a table of a framebuffer would take 50 times its size. */
struct granule {
    uint8_t size[GRANULE], how[GRANULE];
};

static bool step(struct pass *pass, struct record *r)
{
    struct survey *s = (struct survey *)pass;
    if ((r->traits & (WRITE | KERNEL)) == WRITE) {
        struct key key = {r->address / GRANULE, is_port(r), 0};
        struct granule *g = table_add(&s->granules, key);
        if (!g)
            return false;
        unsigned place = r->address % GRANULE;
        if (r->size > g->size[place])
            g->size[place] = r->size;
        g->how[place] |= WRITTEN;
        if (!(r->traits & (PORT | EXITS))) {
            g->how[place] |= QUEUED;
            s->since++;
        } else if (!(r->traits & PORT))
            g->how[place] |= s->since >= s->least ? EXITS_FULL : EXITS_APART;
    }
    if (r->traits & EXIT)
        s->since = 0;
    return true;
}

static size_t addresses_in(const struct granule *g)
{
    size_t count = 0;
    for (unsigned place = 0; place < GRANULE; place++)
        count += g->how[place] != 0;
    return count;
}

/* Of each address of a granule: itself, 1 for a port, the size of its widest write, how. */
static uint64_t *list(uint64_t *row, const struct slot *slot, const struct granule *g)
{
    for (unsigned place = 0; place < GRANULE; place++) {
        if (!g->how[place])
            continue;
        *row++ = slot->key.a * GRANULE + place;
        *row++ = slot->key.b;
        *row++ = g->size[place];
        *row++ = g->how[place] & ~WRITTEN;
    }
    return row;
}

static PyObject *result(struct pass *pass)
{
    const struct table *granules = &((struct survey *)pass)->granules;
    size_t count = 0;
    for (size_t n = 0; n < granules->room; n++)
        if (slot_at(granules, n)->used)
            count += addresses_in(value_of(slot_at(granules, n)));
    PyObject *found = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(count * 4 * sizeof(uint64_t)));
    uint64_t *row = found ? (uint64_t *)PyBytes_AsString(found) : NULL;
    for (size_t n = 0; row && n < granules->room; n++) {
        struct slot *slot = slot_at(granules, n);
        if (slot->used)
            row = list(row, slot, value_of(slot));
    }
    return found;
}

static void clear(struct pass *pass)
{
    free(((struct survey *)pass)->granules.slots);
}

struct pass *survey_new(PyObject *args)
{
    unsigned long long least;
    if (!PyArg_ParseTuple(args, "K", &least))
        return NULL;
    struct survey *s = calloc(1, sizeof *s);
    if (!s)
        return (struct pass *)PyErr_NoMemory();
    s->pass = (struct pass){.step = step, .result = result, .clear = clear};
    s->granules.value = sizeof(struct granule);
    s->least = least;
    return &s->pass;
}

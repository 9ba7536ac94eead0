/* Finds drains of the ring that no line shows, and counts how full it was when writes exited.
 *
 * Where more writes were queued between two exits than the ring holds, another thread of the VMM has
 * drained it. The fewest such drains, and each so late that the ring fills at the next exit.
 */
#include "ring.h"

struct unseen {
    struct pass pass;
    struct whole whole;
    struct ranges zones;
    int64_t slots, since, queued, entries; /* since: queued since the last exit */
    int64_t *drains;
    size_t count, room;
    int64_t *fullness; /* by first slot, entries, and whether the write exits; NULL: not wanted */
};

static bool add(struct unseen *u, int64_t number)
{
    if (u->count == u->room) {
        size_t room = u->room ? u->room * 2 : 64;
        void *larger = realloc(u->drains, room * sizeof *u->drains);
        if (!larger)
            return false;
        u->drains = larger;
        u->room = room;
    }
    u->drains[u->count++] = number;
    return true;
}

/* The writes that were queued since the last exit. */
static bool end(struct pass *pass)
{
    struct unseen *u = (struct unseen *)pass;
    int64_t most = u->slots - 1, first = u->queued - u->since;
    for (int64_t number = u->since % most ? u->since % most : most; number < u->since;
         number += most)
        if (!add(u, first + number))
            return false;
    return true;
}

static bool step(struct pass *pass, struct record *r)
{
    struct unseen *u = (struct unseen *)pass;
    if (inside(r, &u->zones)) {
        bool exited = exits(&u->whole, r);
        if (u->fullness) {
            int64_t first = (u->queued - u->since) % u->slots;
            int64_t entries = u->entries < u->slots ? u->entries : u->slots - 1;
            u->fullness[(first * u->slots + entries) * 2 + exited]++;
        }
        u->entries++;
        u->queued += !exited;
        u->since += !exited;
    }
    if (r->traits & EXIT) {
        if (!end(pass))
            return false;
        u->since = u->entries = 0;
    }
    return true;
}

/* The numbers of the writes right before which the ring was drained, and how many were queued; the
 * counts by first slot, entries and exit, which are empty if they were not wanted. */
static PyObject *result(struct pass *pass)
{
    struct unseen *u = (struct unseen *)pass;
    size_t counts = u->fullness ? (size_t)(u->slots * u->slots) * 2 : 0;
    return Py_BuildValue("NLN", bytes_of(u->drains, u->count * sizeof *u->drains), u->queued,
                         bytes_of(u->fullness, counts * sizeof *u->fullness));
}

static void clear(struct pass *pass)
{
    struct unseen *u = (struct unseen *)pass;
    free(u->zones.at);
    free(u->drains);
    free(u->fullness);
}

struct pass *unseen_new(PyObject *args)
{
    Py_buffer zones;
    int wanted;
    struct unseen *u = calloc(1, sizeof *u);
    if (!u)
        return (struct pass *)PyErr_NoMemory();
    if (!PyArg_ParseTuple(args, "(iiLLL)y*Li", &u->whole.has_exits, &u->whole.timed,
                          &u->whole.begin, &u->whole.end, &u->whole.events, &zones, &u->slots,
                          &wanted)) {
        free(u);
        return NULL;
    }
    u->pass = (struct pass){.step = step, .end = end, .result = result, .clear = clear};
    bool good = ranges_of(&zones, &u->zones);
    if (good && wanted)
        u->fullness = calloc((size_t)(u->slots * u->slots) * 2, sizeof *u->fullness);
    if (good && (u->fullness || !wanted))
        return &u->pass;
    clear(&u->pass);
    free(u);
    return (struct pass *)(good ? PyErr_NoMemory() : NULL);
}

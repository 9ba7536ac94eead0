/* Gives the entries in the ring behind each event. */
#include "ring.h"

struct depth {
    struct pass pass;
    struct whole whole;
    struct ranges recorded, zones;
    struct drained drained;
    struct ring ring;
    int64_t *entries; /* since they were taken last */
    size_t count, room;
};

static bool step(struct pass *pass, struct record *r)
{
    struct depth *d = (struct depth *)pass;
    if (d->count == d->room) {
        size_t room = d->room ? d->room * 2 : 1024;
        void *larger = realloc(d->entries, room * sizeof *d->entries);
        if (!larger)
            return false;
        d->entries = larger;
        d->room = room;
    }
    bool queued = d->whole.has_exits && inside(r, &d->recorded) && !exits(&d->whole, r);
    struct outcome o = with_zones(&d->whole, r, inside(r, &d->zones));
    if (queued && was_drained(&d->drained))
        drain(&d->ring);
    if (o.within)
        put(&d->ring);
    if (o.exits)
        drain(&d->ring);
    d->entries[d->count++] = (int64_t)d->ring.entries;
    return true;
}

/* The entries behind each event since the last call. */
static PyObject *result(struct pass *pass)
{
    struct depth *d = (struct depth *)pass;
    size_t length = d->count * sizeof *d->entries;
    d->count = 0;
    return bytes_of(d->entries, length);
}

static void clear(struct pass *pass)
{
    struct depth *d = (struct depth *)pass;
    free(d->recorded.at);
    free(d->zones.at);
    free(d->drained.at);
    free(d->entries);
}

struct pass *depth_new(PyObject *args)
{
    Py_buffer recorded, zones, drained;
    struct depth *d = calloc(1, sizeof *d);
    if (!d)
        return (struct pass *)PyErr_NoMemory();
    d->pass = (struct pass){.step = step, .result = result, .clear = clear};
    bool good = PyArg_ParseTuple(args, "(iiLLL)y*y*y*(KiK)", &d->whole.has_exits, &d->whole.timed,
                                 &d->whole.begin, &d->whole.end, &d->whole.events, &recorded,
                                 &zones, &drained, &d->ring.slots, &d->ring.mended, &d->ring.first);
    if (good) {
        d->ring.least = UINT32_MAX % d->ring.slots;
        good = ranges_of(&recorded, &d->recorded);
        good = ranges_of(&zones, &d->zones) && good;
        good =
            copied(&drained, sizeof(int64_t), (void **)&d->drained.at, &d->drained.count) && good;
    }
    if (good)
        return &d->pass;
    clear(&d->pass);
    free(d);
    return NULL;
}

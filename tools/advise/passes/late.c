/* Counts, from the end of a recording to its beginning, the writes that wait too long in a ring. */
#include "ring.h"

struct late {
    struct pass pass;
    struct whole whole;
    struct ranges recorded, zones;
    struct drained drained; /* taken from its end */
    int64_t *limits, *late;
    size_t count;
    int64_t until; /* the time of the drain behind the record that is being read */
};

/* Is the ring drained right before a write that was queued? The last one comes first. */
static bool was_drained_before(struct drained *d)
{
    d->queued--;
    if (!d->next || d->at[d->next - 1] != d->queued)
        return false;
    d->next--;
    return true;
}

static bool step(struct pass *pass, struct record *r)
{
    struct late *l = (struct late *)pass;
    struct outcome o = with_zones(&l->whole, r, inside(r, &l->zones));
    if (l->until == NO_TIME)
        l->until = r->time;
    for (size_t n = 0; o.within && n < l->count; n++)
        l->late[n] += l->until - r->time > l->limits[n];
    bool queued = l->whole.has_exits && inside(r, &l->recorded) && !exits(&l->whole, r);
    if ((queued && was_drained_before(&l->drained)) || o.exits)
        l->until = r->time;
    return true;
}

/* Number of writes that wait longer than each limit. */
static PyObject *result(struct pass *pass)
{
    struct late *l = (struct late *)pass;
    return bytes_of(l->late, l->count * sizeof *l->late);
}

static void clear(struct pass *pass)
{
    struct late *l = (struct late *)pass;
    free(l->recorded.at);
    free(l->zones.at);
    free(l->drained.at);
    free(l->limits);
    free(l->late);
}

/* `queued`: of all writes in the zones in force. */
struct pass *late_new(PyObject *args)
{
    Py_buffer recorded, zones, drained, limits;
    struct late *l = calloc(1, sizeof *l);
    if (!l)
        return (struct pass *)PyErr_NoMemory();
    l->pass = (struct pass){.step = step, .result = result, .clear = clear};
    l->until = NO_TIME;
    bool good = PyArg_ParseTuple(args, "(iiLLL)y*y*y*Ly*", &l->whole.has_exits, &l->whole.timed,
                                 &l->whole.begin, &l->whole.end, &l->whole.events, &recorded,
                                 &zones, &drained, &l->drained.queued, &limits);
    if (good) {
        good = ranges_of(&recorded, &l->recorded);
        good = ranges_of(&zones, &l->zones) && good;
        good =
            copied(&drained, sizeof(int64_t), (void **)&l->drained.at, &l->drained.count) && good;
        good = copied(&limits, sizeof(int64_t), (void **)&l->limits, &l->count) && good;
    }
    if (good) {
        l->drained.next = l->drained.count;
        l->late = calloc(l->count + 1, sizeof *l->late);
        if (l->late)
            return &l->pass;
        PyErr_NoMemory();
    }
    clear(&l->pass);
    free(l);
    return NULL;
}

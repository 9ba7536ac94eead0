/* Counts the exits of the same accesses with other zones, rings and limits on waits, all at once. */
#include "ring.h"

enum { PAGE = 0x1000, NEIGHBOURS = 8, SHOWN = 10, GROUPINGS = 2 };

/* The same accesses under one condition; `others`: exits but those of a full ring. */
struct trial {
    struct ring ring;
    int64_t others;
};

/* A limit on waits: a timer that the first write in an empty ring starts. */
struct limit {
    struct ring ring;
    int64_t ns, ticks, drains;
};

/* The ring's rules held against the recording. `queued`: all writes so far; `plain`, `shown`: the
 * entries since the last exit, and since a drain that no line shows, too, behind so many queued. */
struct agreement {
    int64_t writes, exits, predicted, agreed, unseen, explained, wrong;
    int64_t lines[SHOWN];
    uint64_t queued;
    struct ring plain, shown;
};

/* Each owner of zones has a ring, which its own exits drain. `touched`: by this event. */
struct own {
    struct ring ring;
    int64_t touched;
};

struct counts {
    struct pass pass;
    struct whole whole;
    struct ranges recorded, zones, singles; /* in force; with the advised ones; one advised each */
    struct trial *trials, *alone;           /* by pages of the ring, and by single zones */
    struct limit *limits;
    struct own *own[GROUPINGS];
    uint32_t *owner[GROUPINGS]; /* of each zone */
    size_t pages, limited, owners;
    struct drained drained;
    struct agreement agreement;
    uint64_t start; /* the slot of the first entry */
    int64_t began;  /* the first write that waits, NO_TIME */
    int64_t last;   /* the time of the last event */
    int64_t now[PARTS], after[PARTS];
};

/* --- the rules and the recording --- */

static void begin_anew(struct agreement *a, struct ring *ring, uint64_t start)
{
    ring->first = start + a->queued;
    ring->entries = 0;
}

static bool is_full(const struct ring *ring)
{
    return ring->entries >= room_of(ring);
}

static void agree(struct counts *c, const struct record *r, bool unseen)
{
    struct agreement *a = &c->agreement;
    bool exited = exits(&c->whole, r);
    if (unseen)
        begin_anew(a, &a->shown, c->start);
    bool plain = is_full(&a->plain), shown = is_full(&a->shown);
    a->unseen += unseen;
    a->writes++;
    a->exits += exited;
    a->predicted += plain;
    a->agreed += plain == exited;
    a->explained += plain != exited && shown == exited;
    if (shown != exited && a->wrong < SHOWN)
        a->lines[a->wrong++] = r->line;
    a->plain.entries++;
    a->shown.entries++;
    a->queued += !exited;
}

/* --- conditions --- */

static bool try(struct trial *t, struct outcome o, bool unseen)
{
    if (unseen)
        drain(&t->ring);
    bool exited = o.within && put(&t->ring);
    if (o.exits) {
        t->others++;
        drain(&t->ring);
    }
    return exited || o.exits;
}

/* All that waits is drained: of each limit, did the timer fire once more before? */
static void end_waits(struct counts *c, int64_t time)
{
    for (size_t n = 0; c->began != NO_TIME && n < c->limited; n++) {
        struct limit *l = &c->limits[n];
        l->drains += time - c->began >= (l->ticks + 1) * l->ns;
        l->ticks = 0;
        drain(&l->ring);
    }
    c->began = NO_TIME;
}

static void wait_in(struct counts *c, const struct record *r)
{
    if (c->began == NO_TIME)
        c->began = r->time;
    for (size_t n = 0; n < c->limited; n++) {
        struct limit *l = &c->limits[n];
        if (r->time - c->began >= (l->ticks + 1) * l->ns) {
            l->ticks = (r->time - c->began) / l->ns;
            l->drains++;
            drain(&l->ring);
        }
        put(&l->ring);
    }
}

/* Is it on the pages of a zone, or on the 8 ports around it? */
static bool beside(const struct record *r, const struct range *zone)
{
    uint64_t unit = zone->port ? NEIGHBOURS : PAGE;
    return zone->port == (uint32_t)is_port(r) && r->address / unit >= zone->start / unit &&
           r->address / unit <= zone->last / unit;
}

/* With a ring of its own for each owner. */
static void try_own(struct counts *c, const struct record *r, struct outcome o, bool unseen)
{
    bool leaves = (begins(r) && reads(r)) || (exits(&c->whole, r) && !o.within);
    for (int g = 0; g < GROUPINGS; g++) {
        for (size_t n = 0; unseen && n < c->owners; n++)
            drain(&c->own[g][n].ring);
        for (size_t n = 0; (o.within || leaves) && n < c->zones.count; n++) {
            const struct range *zone = &c->zones.at[n];
            struct own *own = &c->own[g][c->owner[g][n]];
            if (leaves && beside(r, zone))
                drain(&own->ring);
            else if (o.within && own->touched != c->pass.index && in_range(r, zone)) {
                own->touched = c->pass.index;
                put(&own->ring);
            }
        }
    }
}

static bool step(struct pass *pass, struct record *r)
{
    struct counts *c = (struct counts *)pass;
    bool recorded = inside(r, &c->recorded), unseen = false;
    if (recorded && c->whole.has_exits) {
        unseen = !exits(&c->whole, r) && was_drained(&c->drained);
        agree(c, r, unseen);
    }
    if (r->traits & EXIT) {
        begin_anew(&c->agreement, &c->agreement.plain, c->start);
        begin_anew(&c->agreement, &c->agreement.shown, c->start);
    }
    struct outcome o = with_zones(&c->whole, r, inside(r, &c->zones));
    int part = part_of(&c->whole, r, pass->index);
    c->now[part] += c->whole.has_exits ? (r->traits & EXIT) != 0 : begins(r);
    for (size_t n = 0; n < c->pages; n++) {
        bool exited = try(&c->trials[n], o, unseen);
        c->after[part] += n == 0 && exited;
    }
    for (size_t n = 0; n < c->singles.count; n++) {
        bool within = recorded || (is_single(r) && in_range(r, &c->singles.at[n]));
        try(&c->alone[n], with_zones(&c->whole, r, within), unseen);
    }
    if (unseen || o.exits)
        end_waits(c, r->time);
    if (o.within)
        wait_in(c, r);
    c->last = r->time;
    try_own(c, r, o, unseen);
    return true;
}

static bool end(struct pass *pass)
{
    struct counts *c = (struct counts *)pass;
    end_waits(c, c->last);
    return true;
}

/* --- what was counted --- */

static PyObject *numbers(const int64_t *from, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t n = 0; list && n < count; n++) {
        PyObject *number = PyLong_FromLongLong(from[n]);
        if (!number || PyList_SetItem(list, (Py_ssize_t)n, number))
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *of_trials(const struct trial *trials, size_t count)
{
    int64_t *sums = malloc((count + 1) * sizeof *sums);
    for (size_t n = 0; sums && n < count; n++)
        sums[n] = trials[n].others + trials[n].ring.exits;
    PyObject *list = sums ? numbers(sums, count) : PyErr_NoMemory();
    free(sums);
    return list;
}

/* Of each limit the exits and the drains. */
static PyObject *of_limits(const struct counts *c)
{
    int64_t *rows = malloc((2 * c->limited + 1) * sizeof *rows);
    for (size_t n = 0; rows && n < c->limited; n++) {
        rows[2 * n] = c->trials[0].others + c->limits[n].ring.exits;
        rows[2 * n + 1] = c->limits[n].drains;
    }
    PyObject *list = rows ? numbers(rows, 2 * c->limited) : PyErr_NoMemory();
    free(rows);
    return list;
}

static PyObject *of_owners(const struct counts *c)
{
    int64_t sums[GROUPINGS];
    for (int g = 0; g < GROUPINGS; g++) {
        sums[g] = c->trials[0].others;
        for (size_t n = 0; n < c->owners; n++)
            sums[g] += c->own[g][n].ring.exits;
    }
    return numbers(sums, GROUPINGS);
}

static PyObject *result(struct pass *pass)
{
    struct counts *c = (struct counts *)pass;
    const struct agreement *a = &c->agreement;
    return Py_BuildValue("NNNNNN(LLLLLLN)", of_trials(c->trials, c->pages),
                         of_trials(c->alone, c->singles.count), of_limits(c), of_owners(c),
                         numbers(c->now, PARTS), numbers(c->after, PARTS), a->writes, a->exits,
                         a->predicted, a->agreed, a->unseen, a->explained,
                         numbers(a->lines, (size_t)a->wrong));
}

static void clear(struct pass *pass)
{
    struct counts *c = (struct counts *)pass;
    void *all[] = {c->recorded.at, c->zones.at, c->singles.at, c->trials,   c->alone,     c->limits,
                   c->own[0],      c->own[1],   c->owner[0],   c->owner[1], c->drained.at};
    for (size_t n = 0; n < sizeof all / sizeof *all; n++)
        free(all[n]);
}

/* --- the conditions --- */

/* `slots`: of the rings by pages, the first one that of the recording; `ns`: limits. */
static bool made(struct counts *c, struct ring ring, const uint64_t *slots, const int64_t *ns)
{
    c->owners = c->zones.count;
    c->trials = calloc(c->pages + 1, sizeof *c->trials);
    c->alone = calloc(c->singles.count + 1, sizeof *c->alone);
    c->limits = calloc(c->limited + 1, sizeof *c->limits);
    if (!c->trials || !c->alone || !c->limits)
        return false;
    for (size_t n = 0; n < c->pages; n++) {
        c->trials[n].ring = ring;
        c->trials[n].ring.slots = slots[n];
        c->trials[n].ring.least = UINT32_MAX % slots[n];
        c->trials[n].ring.first = n ? 0 : ring.first;
    }
    for (size_t n = 0; n < c->singles.count; n++)
        c->alone[n].ring = ring;
    for (size_t n = 0; n < c->limited; n++)
        c->limits[n] = (struct limit){.ring = ring, .ns = ns[n]};
    for (int g = 0; g < GROUPINGS; g++) {
        c->own[g] = calloc(c->owners + 1, sizeof **c->own);
        if (!c->own[g])
            return false;
        for (size_t n = 0; n < c->owners; n++)
            c->own[g][n] = (struct own){{.slots = slots[0], .mended = true}, -1};
    }
    c->agreement.plain = c->agreement.shown = ring;
    c->start = ring.first;
    return true;
}

static struct pass *released(struct counts *c)
{
    clear(&c->pass);
    free(c);
    return NULL;
}

struct pass *exits_new(PyObject *args)
{
    Py_buffer of[3], drained, slots_of, ns_of, owners[GROUPINGS];
    struct ring ring = {0};
    struct counts *c = calloc(1, sizeof *c);
    if (!c)
        return (struct pass *)PyErr_NoMemory();
    if (!PyArg_ParseTuple(args, "(iiLLL)y*y*y*y*y*y*(iK)y*y*", &c->whole.has_exits, &c->whole.timed,
                          &c->whole.begin, &c->whole.end, &c->whole.events, &of[0], &of[1], &of[2],
                          &drained, &slots_of, &ns_of, &ring.mended, &ring.first, &owners[0],
                          &owners[1]))
        return released(c);
    c->pass = (struct pass){.step = step, .end = end, .result = result, .clear = clear};
    c->began = NO_TIME;
    uint64_t *slots = NULL;
    int64_t *ns = NULL;
    size_t count;
    bool good = ranges_of(&of[0], &c->recorded);
    good = ranges_of(&of[1], &c->zones) && good;
    good = ranges_of(&of[2], &c->singles) && good;
    good = copied(&drained, sizeof(int64_t), (void **)&c->drained.at, &c->drained.count) && good;
    good = copied(&slots_of, sizeof *slots, (void **)&slots, &c->pages) && good;
    good = copied(&ns_of, sizeof *ns, (void **)&ns, &c->limited) && good;
    for (int g = 0; g < GROUPINGS; g++)
        good = copied(&owners[g], sizeof(uint32_t), (void **)&c->owner[g], &count) && good;
    if (good) {
        ring.slots = slots[0];
        ring.least = UINT32_MAX % ring.slots;
        good = made(c, ring, slots, ns) || PyErr_NoMemory();
    }
    free(slots);
    free(ns);
    return good ? &c->pass : released(c);
}

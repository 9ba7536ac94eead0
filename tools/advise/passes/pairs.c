/* Holds the values beside index registers against the index that was written last.
 *
 * Of each candidate the first VALUES_MAX values, pairs and places are followed: an index register
 * has fewer.
 */
#include "record.h"
#include "table.h"

enum { REACH = 8, ENOUGH = 4, VALUES_MAX = 1 << 15 };
enum { OF_INDEX, OF_PLACE, OF_PAIR, OF_DIFFERENCE, OF_VALUE, KINDS };

struct different {
    uint64_t values[ENOUGH];
    int count;
};

/* A register that may be an index. `places`: a bit for each distance of its data. */
struct candidate {
    uint64_t address, index;
    uint32_t port, places;
    bool selected;
    struct different answers, selecting;
    int64_t same, changed, late, pairs, most;
    int64_t kept[KINDS]; /* entries of each kind in the table */
    bool awaited;
};

struct entry {
    uint64_t value;
    int64_t count, late;
    bool known, read;
};

struct waiting {
    struct candidate *candidate; /* NULL: none waits */
    uint64_t value;
    int64_t time;
};

struct pairs {
    struct pass pass;
    struct candidate *candidates;
    size_t count;
    int64_t staleness;
    struct table entries, threads;
};

static void differs(struct different *d, uint64_t value)
{
    for (int n = 0; n < d->count; n++)
        if (d->values[n] == value)
            return;
    if (d->count < ENOUGH)
        d->values[d->count++] = value;
}

/* An entry of a candidate. `*into` is NULL for one more than are followed; false: out of memory. */
static bool entry_of(struct pairs *p, struct candidate *c, int kind, uint64_t a, uint64_t b,
                     struct entry **into)
{
    struct key key = {(uint64_t)(c - p->candidates) << 3 | (unsigned)kind, a, b};
    *into = table_find(&p->entries, key);
    if (*into || c->kept[kind] == VALUES_MAX)
        return true;
    c->kept[kind]++;
    *into = table_add(&p->entries, key);
    return *into;
}

/* Is the data the index, or a constant apart? Counts each pair of index and data once. */
static bool compare(struct pairs *p, struct candidate *c, const struct record *r)
{
    unsigned bits = 64 - 8 * r->size;
    uint64_t index = c->index << bits, difference = (r->value - c->index) << bits;
    struct entry *pair, *all;
    if (!entry_of(p, c, OF_PAIR, index, difference, &pair))
        return false;
    if (!pair || pair->known)
        return true;
    pair->known = true;
    c->pairs++;
    if (!entry_of(p, c, OF_DIFFERENCE, difference, 0, &all))
        return false;
    if (all && ++all->count > c->most)
        c->most = all->count;
    return true;
}

/* An access to the data of a candidate. */
static bool access_data(struct pairs *p, struct candidate *c, const struct record *r)
{
    uint64_t place = (r->address - c->address) << 8 | r->size;
    bool read = r->traits & READ;
    struct entry *before, *last;
    if (!entry_of(p, c, OF_INDEX, c->index, place, &before) ||
        !entry_of(p, c, OF_PLACE, place, 0, &last))
        return false;
    if (read)
        differs(&c->answers, r->value);
    if (read && before && before->known && last) {
        bool same = before->value == r->value;
        c->same += same;
        c->changed += !same && before->read;
        if (same && last->value != r->value) /* the last one was another index's */
            differs(&c->selecting, c->index);
    }
    struct entry now = {.value = r->value, .known = true, .read = read};
    if (before)
        *before = now;
    if (last)
        *last = now;
    return !read || compare(p, c, r);
}

/* Note the access after a write of a candidate, and whether the guest waited before it. */
static bool follow(struct pairs *p, const struct waiting *w, const struct record *r)
{
    struct entry *of_value;
    struct candidate *c = w->candidate;
    if (!entry_of(p, c, OF_VALUE, w->value, 0, &of_value))
        return false;
    bool late = w->time != NO_TIME && r->time != NO_TIME && r->time - w->time > p->staleness;
    c->late += late;
    if (of_value) {
        of_value->count++;
        of_value->late += late;
    }
    return true;
}

static bool step(struct pass *pass, struct record *r)
{
    struct pairs *p = (struct pairs *)pass;
    if (!(r->traits & (READ | WRITE | ANNOUNCED)))
        return true;
    struct waiting *w = table_add(&p->threads, (struct key){(uint32_t)r->thread, 0, 0});
    if (!w || (w->candidate && begins(r) && !follow(p, w, r)))
        return false;
    if (begins(r))
        w->candidate = NULL;
    if (!(r->traits & (READ | WRITE)) || r->count != 1)
        return true;
    size_t low = 0, high = p->count; /* the first candidate that is in reach */
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct candidate *c = &p->candidates[middle];
        if (c->port != (uint32_t)is_port(r)
                ? c->port < (uint32_t)is_port(r)
                : c->address < r->address && r->address - c->address > REACH)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < p->count; low++) {
        struct candidate *c = &p->candidates[low];
        int64_t distance = (int64_t)(r->address - c->address);
        if (c->port != (uint32_t)is_port(r) || distance < -REACH)
            break;
        if (distance && c->selected && c->places >> (distance + REACH) & 1 && !access_data(p, c, r))
            return false;
        if (!distance && r->traits & WRITE) {
            c->index = r->value;
            c->selected = true;
            *w = (struct waiting){c, r->value, r->time};
        }
    }
    return true;
}

static bool end(struct pass *pass)
{
    struct pairs *p = (struct pairs *)pass;
    for (size_t n = 0; n < p->entries.room; n++) {
        struct slot *slot = slot_at(&p->entries, n);
        const struct entry *each = value_of(slot);
        if (slot->used && (slot->key.a & 7) == OF_VALUE && each->late >= 2 &&
            each->late * 2 > each->count)
            p->candidates[slot->key.a >> 3].awaited = true;
    }
    return true;
}

/* Of each candidate: different answers, values that select, same, changed, echoes, late, awaited. */
static PyObject *result(struct pass *pass)
{
    struct pairs *p = (struct pairs *)pass;
    PyObject *found = PyList_New(0);
    for (size_t n = 0; found && n < p->count; n++) {
        struct candidate *c = &p->candidates[n];
        PyObject *row = Py_BuildValue("iiLLNLN", c->answers.count, c->selecting.count, c->same,
                                      c->changed, PyBool_FromLong(c->most * 2 > c->pairs), c->late,
                                      PyBool_FromLong(c->awaited));
        if (!row || PyList_Append(found, row)) {
            Py_XDECREF(row);
            Py_CLEAR(found);
            break;
        }
        Py_DECREF(row);
    }
    return found;
}

static void clear(struct pass *pass)
{
    struct pairs *p = (struct pairs *)pass;
    free(p->candidates);
    free(p->entries.slots);
    free(p->threads.slots);
}

/* Candidates as ranges whose mark is the bits of their places. */
struct pass *pairs_new(PyObject *args)
{
    Py_buffer buffer;
    struct ranges ranges = {0};
    struct pairs *p = calloc(1, sizeof *p);
    if (!p)
        return (struct pass *)PyErr_NoMemory();
    if (!PyArg_ParseTuple(args, "y*L", &buffer, &p->staleness) || !ranges_of(&buffer, &ranges)) {
        free(p);
        return NULL;
    }
    p->pass = (struct pass){.step = step, .end = end, .result = result, .clear = clear};
    p->entries.value = sizeof(struct entry);
    p->threads.value = sizeof(struct waiting);
    p->count = ranges.count;
    p->candidates = calloc(p->count + 1, sizeof *p->candidates);
    for (size_t n = 0; p->candidates && n < p->count; n++) {
        struct range *range = &ranges.at[n];
        p->candidates[n] =
            (struct candidate){.address = range->start, .port = range->port, .places = range->mark};
    }
    free(ranges.at);
    if (p->candidates)
        return &p->pass;
    free(p);
    return (struct pass *)PyErr_NoMemory();
}

/* Measures, from the end of a recording to its beginning, how long each write waits for a drain. */
#include "histogram.h"
#include "record.h"
#include "table.h"

/* The longest wait in a range, -1 unknown, and the first line that has it. */
struct longest {
    int64_t wait, line;
};

struct waits {
    struct pass pass;
    struct whole whole;
    struct ranges ranges;
    struct longest *longest;
    struct table bins;
    bool drained; /* behind the record that is being read */
    int64_t time; /* of that drain, NO_TIME */
};

static int64_t wait_of(const struct waits *w, const struct record *r)
{
    if (r->time == NO_TIME)
        return NO_TIME;
    if (!w->drained) /* until the end at least */
        return w->whole.end - r->time;
    return w->time == NO_TIME || w->time < r->time ? NO_TIME : w->time - r->time;
}

static bool step(struct pass *pass, struct record *r)
{
    struct waits *w = (struct waits *)pass;
    long range = is_single(r) ? range_of(&w->ranges, r) : -1;
    if (range >= 0) {
        int64_t wait = wait_of(w, r);
        struct longest *longest = &w->longest[range];
        if (wait >= longest->wait)
            *longest = (struct longest){wait, r->line};
        if (wait >= 0 && !count_wait(&w->bins, range, wait))
            return false;
    }
    if (drains(&w->whole, r)) {
        w->drained = true;
        w->time = r->time;
    }
    return true;
}

/* Of each range the longest wait and its line; and the waits. */
static PyObject *result(struct pass *pass)
{
    struct waits *w = (struct waits *)pass;
    PyObject *bins = bins_of(&w->bins);
    if (!bins)
        return NULL;
    return Py_BuildValue("NN", bytes_of(w->longest, w->ranges.count * sizeof *w->longest), bins);
}

static void clear(struct pass *pass)
{
    struct waits *w = (struct waits *)pass;
    free(w->ranges.at);
    free(w->longest);
    free(w->bins.slots);
}

struct pass *waits_new(PyObject *args)
{
    Py_buffer ranges;
    struct waits *w = calloc(1, sizeof *w);
    if (!w)
        return (struct pass *)PyErr_NoMemory();
    if (!PyArg_ParseTuple(args, "(iiLLL)y*", &w->whole.has_exits, &w->whole.timed, &w->whole.begin,
                          &w->whole.end, &w->whole.events, &ranges)) {
        free(w);
        return NULL;
    }
    w->pass = (struct pass){.step = step, .result = result, .clear = clear};
    w->bins.value = sizeof(struct bin);
    bool good = ranges_of(&ranges, &w->ranges);
    w->longest = good ? malloc((w->ranges.count + 1) * sizeof *w->longest) : NULL;
    if (!w->longest) {
        clear(&w->pass);
        free(w);
        return (struct pass *)(good ? PyErr_NoMemory() : NULL);
    }
    for (size_t n = 0; n < w->ranges.count; n++)
        w->longest[n] = (struct longest){-2, 0};
    return &w->pass;
}

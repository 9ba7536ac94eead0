/* Lists the addresses that are written, and how their writes went. */
#include "record.h"
#include "table.h"

enum { QUEUED = 1, EXITS_FULL = 2, EXITS_APART = 4 };

struct survey {
    struct pass pass;
    struct table addresses;
    uint64_t least; /* entries with which a ring may be full */
    uint64_t since; /* writes that were queued since the last exit */
};

struct written {
    uint64_t size, how;
};

static bool step(struct pass *pass, struct record *r)
{
    struct survey *s = (struct survey *)pass;
    if ((r->traits & (WRITE | KERNEL)) == WRITE) {
        struct written *w = table_add(&s->addresses, (struct key){r->address, is_port(r), 0});
        if (!w)
            return false;
        if (r->size > w->size)
            w->size = r->size;
        if (!(r->traits & (PORT | EXITS))) {
            w->how |= QUEUED;
            s->since++;
        } else if (!(r->traits & PORT))
            w->how |= s->since >= s->least ? EXITS_FULL : EXITS_APART;
    }
    if (r->traits & EXIT)
        s->since = 0;
    return true;
}

/* Of each address: itself, 1 for a port, the size of its widest write, and how its writes went. */
static PyObject *result(struct pass *pass)
{
    struct survey *s = (struct survey *)pass;
    size_t length = s->addresses.used * 4 * sizeof(uint64_t), at = 0;
    uint64_t *rows = malloc(length ? length : 1);
    if (!rows)
        return PyErr_NoMemory();
    for (size_t n = 0; n < s->addresses.room; n++) {
        struct slot *slot = slot_at(&s->addresses, n);
        struct written *w = value_of(slot);
        if (!slot->used)
            continue;
        memcpy(rows + at, (uint64_t[]){slot->key.a, slot->key.b, w->size, w->how}, 32);
        at += 4;
    }
    PyObject *found = PyBytes_FromStringAndSize((char *)rows, (Py_ssize_t)length);
    free(rows);
    return found;
}

static void clear(struct pass *pass)
{
    free(((struct survey *)pass)->addresses.slots);
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
    s->addresses.value = sizeof(struct written);
    s->least = least;
    return &s->pass;
}

/* Finds the events of a trace in a block of text: one pass over the lines, one record per event.
 *
 * A pattern is the text of an event from its first word on, with fields: % and a column, then for a
 * number its notation. Columns: a address, v value, s size, c count, r region, t thread. Notations:
 * x hexadecimal digits, u decimal digits, d the same or negative, p 0x and digits or (nil), w one of
 * 1, 2, 4 and 8.
 * %T is a time in seconds, %n a name up to a quote, %w a word, %_ blanks if there are any, %* the
 * rest of the line; what follows %o may be missing.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { NAME_MAX_LENGTH = 96, PATTERNS_MAX = 32 };

struct event {
    uint64_t address, value, region, name; /* name: a hash */
    int64_t time;                          /* nanoseconds, -1 unknown */
    int64_t line;
    int32_t thread;
    uint32_t count;
    uint32_t name_start;
    uint16_t name_length;
    uint8_t size, kind;
};

struct text {
    const char *at, *end;
};

struct pattern {
    const char *anchor, *rest;
    size_t anchor_length;
    uint8_t kind;
};

struct tally {
    Py_ssize_t events, lines, foreign, first_line, first_start, first_end;
};

/* --- fields --- */

static bool hexadecimal(struct text *t, uint64_t *into)
{
    const char *start = t->at;
    uint64_t value = 0;
    for (; t->at < t->end; t->at++) {
        unsigned c = (unsigned char)*t->at;
        unsigned digit = c - '0' < 10u ? c - '0' : c - 'a' < 6u ? c - 'a' + 10 : 16;
        if (digit == 16)
            break;
        value = value << 4 | digit;
    }
    *into = value;
    return t->at > start && t->at - start <= 16;
}

static bool decimal(struct text *t, uint64_t *into)
{
    const char *start = t->at;
    uint64_t value = 0;
    for (; t->at < t->end && (unsigned)(*t->at - '0') < 10u; t->at++)
        value = value * 10 + (unsigned)(*t->at - '0');
    *into = value;
    return t->at > start && t->at - start <= 18;
}

static bool literal(struct text *t, const char *what, size_t length)
{
    if ((size_t)(t->end - t->at) < length || memcmp(t->at, what, length))
        return false;
    t->at += length;
    return true;
}

static bool number(struct text *t, char notation, uint64_t *into)
{
    if (notation == 'x')
        return hexadecimal(t, into);
    if (notation == 'u')
        return decimal(t, into);
    if (notation == 'p') {
        *into = 0;
        return literal(t, "(nil)", 5) || (literal(t, "0x", 2) && hexadecimal(t, into));
    }
    if (notation == 'w')
        return decimal(t, into) && !(*into & (*into - 1));
    bool negative = literal(t, "-", 1);
    bool good = decimal(t, into);
    *into = negative ? 0 - *into : *into;
    return good;
}

/* Seconds with three to nine digits behind the point. */
static bool seconds(struct text *t, int64_t *into)
{
    uint64_t whole, part;
    if (!decimal(t, &whole) || !literal(t, ".", 1))
        return false;
    const char *start = t->at;
    if (!decimal(t, &part) || t->at - start > 9 || whole > 1u << 31)
        return false;
    for (long digits = t->at - start; digits < 9; digits++)
        part *= 10;
    *into = (int64_t)(whole * 1000000000u + part);
    return true;
}

static bool quoted(struct text *t, struct event *e, const char *block)
{
    const char *start = t->at;
    uint64_t hash = 14695981039346656037u;
    for (; t->at < t->end && *t->at != '\''; t->at++)
        hash = (hash ^ (unsigned char)*t->at) * 1099511628211u;
    e->name = hash;
    e->name_start = (uint32_t)(start - block);
    e->name_length = (uint16_t)(t->at - start);
    return t->at - start <= NAME_MAX_LENGTH;
}

static bool stored(struct event *e, char column, uint64_t value)
{
    switch (column) {
    case 'a':
        e->address = value;
        return true;
    case 'v':
        e->value = value;
        return true;
    case 'r':
        e->region = value;
        return true;
    case 's':
        e->size = (uint8_t)value;
        return value >= 1 && value <= 8;
    case 'c':
        e->count = (uint32_t)value;
        return value >= 1 && value <= UINT32_MAX;
    case 't':
        value = value == UINT32_MAX ? UINT64_MAX : value;
        e->thread = (int32_t)value;
        return value + 1 <= 1u << 30;
    default:
        return false;
    }
}

static bool blanks(struct text *t)
{
    while (t->at < t->end && *t->at == ' ')
        t->at++;
    return true;
}

static bool word(struct text *t)
{
    const char *start = t->at;
    while (t->at < t->end && (unsigned char)*t->at > ' ')
        t->at++;
    return t->at > start;
}

/* One field of a pattern; `*spec` is behind the percent sign and moves behind the field. */
static bool field(struct text *t, const char **spec, struct event *e, const char *block)
{
    uint64_t value;
    char column = *(*spec)++;
    if (column == 'T')
        return seconds(t, &e->time);
    if (column == 'n')
        return quoted(t, e, block);
    if (column == 'w')
        return word(t);
    if (column == '_')
        return blanks(t);
    if (column == '*') {
        t->at = t->end;
        return true;
    }
    return number(t, *(*spec)++, &value) && stored(e, column, value);
}

static bool matches(struct text t, const char *spec, struct event *e, const char *block)
{
    while (*spec) {
        if (*spec == '%') {
            if (*++spec == 'o') {
                blanks(&t);
                if (t.at == t.end)
                    break;
                spec++;
            } else if (!field(&t, &spec, e, block))
                return false;
        } else if (t.at == t.end || *t.at++ != *spec++)
            return false;
    }
    blanks(&t);
    return t.at == t.end && e->address + (e->size ? e->size - 1u : 0) >= e->address;
}

/* --- what stands before an event: who and when --- */

static const char *blanks_before(const char *start, const char *at)
{
    while (at > start && at[-1] == ' ')
        at--;
    return at;
}

/* The last [CPU] that ends at or before `at`; NULL if there is none. */
static const char *cpu_before(const char *start, const char *at)
{
    for (; at > start; at--) {
        if (at[-1] != ']')
            continue;
        const char *digit = at - 1;
        while (digit > start && (unsigned)(digit[-1] - '0') < 10u)
            digit--;
        if (digit > start && digit[-1] == '[' && digit < at - 1)
            return digit - 1;
    }
    return NULL;
}

/* The thread: the number that ends at `at`, but for an optional (TGID) and blanks. */
static void thread_before(const char *start, const char *at, struct event *e)
{
    at = blanks_before(start, at);
    if (at > start && at[-1] == ')') {
        while (at > start && *at != '(')
            at--;
        at = blanks_before(start, at);
    }
    const char *end = at;
    while (at > start && (unsigned)(at[-1] - '0') < 10u)
        at--;
    uint64_t value;
    struct text digits = {at, end};
    if (at > start && (at[-1] == '-' || at[-1] == ' ' || at[-1] == '/') && decimal(&digits, &value))
        stored(e, 't', value);
}

/* The start of SECONDS:, of ftrace and perf, or of QEMU's TID@SECONDS:; NULL if there is none. */
static const char *time_before(const char *start, const char *at, struct event *e)
{
    for (const char *dot = at; dot > start; dot--) {
        if (*dot != '.' || (unsigned)(dot[-1] - '0') >= 10u)
            continue;
        const char *from = dot;
        while (from > start && (unsigned)(from[-1] - '0') < 10u)
            from--;
        struct text t = {from, at};
        if (seconds(&t, &e->time) && literal(&t, ":", 1))
            return from;
        e->time = -1;
    }
    return NULL;
}

/* COMM-TID [CPU] FLAGS SECONDS: of ftrace, COMM TID [CPU] SECONDS: of perf; [CPU], FLAGS and
 * SECONDS: may be missing, as may be all of them. */
static void prefix(const char *start, const char *at, struct event *e)
{
    const char *time = time_before(start, at, e);
    const char *cpu = cpu_before(start, time ? time : at);
    if (cpu)
        thread_before(start, cpu, e);
    else if (!time || (time > start && time[-1] == ' ')) {
        static const char group[] = "kvm:";
        size_t length = sizeof group - 1;
        if (!time && (size_t)(at - start) > length && !memcmp(at - length, group, length))
            at -= length;
        thread_before(start, time ? time : at, e);
    }
}

/* --- lines --- */

static const char *found(struct text t, const struct pattern *p)
{
    if ((size_t)(t.end - t.at) < p->anchor_length)
        return NULL;
    const char *from = t.at, *last = t.end - p->anchor_length; /* it fits up to there */
    for (; from <= last && (from = memchr(from, *p->anchor, (size_t)(last - from) + 1)); from++) {
        bool begins = from == t.at || from[-1] == ' ' || from[-1] == ':' || from[-1] == 'Z' ||
                      from[-1] == '\t';
        if (begins && !memcmp(from, p->anchor, p->anchor_length))
            return from;
    }
    return NULL;
}

static bool event_of(struct text line, const struct pattern *patterns, int count, struct event *e,
                     const char *block)
{
    const char *at = NULL;
    for (int n = 0; n < count; n++) {
        const struct pattern *p = &patterns[n];
        if (!n || p->anchor_length != p[-1].anchor_length ||
            memcmp(p->anchor, p[-1].anchor, p->anchor_length))
            at = found(line, p);
        if (!at)
            continue;
        *e = (struct event){.time = -1, .kind = p->kind, .count = 1};
        prefix(line.at, at, e);
        if (matches((struct text){at + p->anchor_length, line.end}, p->rest, e, block))
            return true;
    }
    return false;
}

static bool blank(struct text t)
{
    while (t.at < t.end && (unsigned char)*t.at <= ' ')
        t.at++;
    return t.at == t.end;
}

static void scan_lines(struct text all, const struct pattern *patterns, int count,
                       struct event *out, Py_ssize_t room, struct tally *tally)
{
    const char *block = all.at;
    while (all.at < all.end && tally->events < room) {
        const char *newline = memchr(all.at, '\n', (size_t)(all.end - all.at));
        struct text line = {all.at, newline ? newline : all.end};
        all.at = newline ? newline + 1 : all.end;
        if (line.end > line.at && line.end[-1] == '\r')
            line.end--;
        if (event_of(line, patterns, count, &out[tally->events], block))
            out[tally->events++].line = tally->lines;
        else if (!blank(line) && !tally->foreign++) {
            tally->first_line = tally->lines;
            tally->first_start = line.at - block;
            tally->first_end = line.end - block;
        }
        tally->lines++;
    }
}

static int patterns_of(PyObject *list, struct pattern *into)
{
    Py_ssize_t count = PyTuple_Size(list);
    if (count < 0 || count > PATTERNS_MAX) {
        if (count > 0)
            PyErr_Format(PyExc_ValueError, "expected at most %d patterns", PATTERNS_MAX);
        return -1;
    }
    for (Py_ssize_t n = 0; n < count; n++) {
        struct pattern *p = &into[n];
        if (!PyArg_ParseTuple(PyTuple_GetItem(list, n), "bss", &p->kind, &p->anchor, &p->rest))
            return -1;
        p->anchor_length = strlen(p->anchor);
    }
    return (int)count;
}

static PyObject *scan(PyObject *self, PyObject *args)
{
    (void)self;
    Py_buffer block, out;
    PyObject *list;
    struct pattern patterns[PATTERNS_MAX];
    struct tally tally = {.first_line = -1};
    if (!PyArg_ParseTuple(args, "y*O!w*", &block, &PyTuple_Type, &list, &out))
        return NULL;
    int count = patterns_of(list, patterns);
    if (count >= 0) {
        struct text all = {block.buf, (const char *)block.buf + block.len};
        Py_BEGIN_ALLOW_THREADS
        scan_lines(all, patterns, count, out.buf, out.len / (Py_ssize_t)sizeof(struct event),
                   &tally);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&block);
    PyBuffer_Release(&out);
    if (count < 0)
        return NULL;
    return Py_BuildValue("nnnnnn", tally.events, tally.lines, tally.foreign, tally.first_line,
                         tally.first_start, tally.first_end);
}

static PyMethodDef methods[] = {
    {"scan", scan, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "scan", .m_size = 0,
                                        .m_methods = methods};

PyMODINIT_FUNC PyInit_scan(void);

PyMODINIT_FUNC PyInit_scan(void)
{
    return PyModuleDef_Init(&definition);
}

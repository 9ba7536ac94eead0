/* Finds the events of a trace in a block of text: one pass over the lines, one record per event. */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "fields.h"

enum { PATTERNS_MAX = 32 };

struct pattern {
    const char *anchor, *rest;
    size_t anchor_length;
    uint8_t kind;
};

struct tally {
    Py_ssize_t events, lines, foreign, first_line, first_start, first_end;
};

/* --- what stands before an event: who and when --- */

static const char *blanks_before(const char *start, const char *at)
{
    while (at > start && at[-1] == ' ')
        at--;
    return at;
}

static const char *digits_before(const char *start, const char *at)
{
    while (at > start && (unsigned)(at[-1] - '0') < 10u)
        at--;
    return at;
}

/* The last [CPU] that ends at or before `at`; NULL if there is none. */
static const char *cpu_before(const char *start, const char *at)
{
    for (; at > start; at--) {
        if (at[-1] != ']')
            continue;
        const char *digit = digits_before(start, at - 1);
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
    at = digits_before(start, end);
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
        const char *from = digits_before(start, dot);
        struct text t = {from, at};
        if (seconds(&t, &e->time) && literal(&t, ":", 1))
            return from;
        e->time = -1;
    }
    return NULL;
}

/* The start of TIMEus and a mark of the delay, of ftrace's latency-format; NULL if there is none. */
static const char *microseconds_before(const char *start, const char *at, struct event *e)
{
    static const char unit[] = "us";
    for (; at - start > 4; at--) {
        if (at[-1] != ':' || memcmp(at - 4, unit, sizeof unit - 1))
            continue;
        uint64_t value;
        struct text t = {digits_before(start, at - 4), at};
        const char *from = t.at;
        if (decimal(&t, &value) && value <= INT64_MAX / 1000) {
            e->time = (int64_t)value * 1000;
            return from;
        }
    }
    return NULL;
}

/* The start of CPU and FLAGS, which latency-format and trace-cmd report -l join to a word; NULL if
 * none ends at `at`. */
static const char *latency_before(const char *start, const char *at)
{
    const char *end = at = blanks_before(start, at);
    while (at > start && at[-1] != ' ')
        at--;
    struct text t = {at, end};
    uint64_t cpu;
    return decimal(&t, &cpu) && t.at < end && memchr(".dDbBX", *t.at, 6) ? at : NULL;
}

/* COMM-TID [CPU] FLAGS SECONDS: of ftrace, or in its latency-format COMM-TID CPU+FLAGS TIMEus:,
 * COMM TID [CPU] SECONDS: of perf; [CPU], FLAGS and SECONDS: may be missing, as may be all of
 * them. */
static void prefix(const char *start, const char *at, struct event *e)
{
    const char *time = time_before(start, at, e);
    if (!time)
        time = microseconds_before(start, at, e);
    const char *latency = time ? latency_before(start, time) : NULL;
    const char *cpu = latency ? latency : cpu_before(start, time ? time : at);
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

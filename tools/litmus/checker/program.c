/* The program's side: its atomic accesses become events of the graph being explored. */
#include "program.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#pragma weak begin
#pragma weak finish
#pragma weak thread0
#pragma weak thread1
#pragma weak thread2
#pragma weak thread3
#pragma weak thread4

enum { SETS_UP, THREAD, ENDS };

static struct {
    const volatile void *object;
    size_t size;
} location[LOCATIONS_MAX];
static int locations;

static int phase = SETS_UP;
static struct graph *graph;
static int thread, position, await_from;
static struct event *pending;
static jmp_buf leave;
static bool *probed; /* where a probe notes what stays the same */
struct litmus_source wrong_at;

_Noreturn void unusable(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fputs("error: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    exit(2);
}

/* A loop without steps is no execution: its CPU time is limited. */
#define TICK_US 500000
#define TICKS_MOST 4

static volatile uint32_t made;      /* calls of functions, and their steps */
static const char *volatile called; /* the function that runs; NULL: none of the program's */
static const struct litmus_source *volatile behind; /* the last step of its call, or NULL */

/* What this calls is not safe in a handler, but what it interrupts never goes on. */
static void on_tick(int number)
{
    static uint32_t seen;
    static int ticks;
    (void)number;
    ticks = called && made == seen ? ticks + 1 : 0;
    seen = made;
    if (ticks < TICKS_MOST)
        return;
    char said[1024], place[768] = "";
    if (behind)
        snprintf(place, sizeof place, "%s:%d: %s: ", behind->file, behind->line, behind->text);
    int length = snprintf(
        said, sizeof said, "error: %s%s makes no %sstep in %d s of CPU time; bound the loops\n",
        place, called, place[0] ? "further " : "", TICKS_MOST * TICK_US / 1000000);
    _exit(write(STDERR_FILENO, said, (size_t)length) == length ? 2 : 3);
}

static void call(void (*function)(void), const char *name)
{
    behind = NULL;
    made++;
    called = name;
    function();
    called = NULL;
}

static uint64_t memory(const volatile void *object, size_t size)
{
    uint64_t value = 0;
    memcpy(&value, (const void *)object, size); /* little endian */
    return value;
}

static int locate(const volatile void *object, size_t size, struct litmus_source at)
{
    for (int i = 0; i < locations; i++) {
        if (location[i].object == object && location[i].size == size)
            return i;
        const volatile char *a = location[i].object, *b = object;
        if (a < b + size && b < a + location[i].size)
            unusable("%s:%d: %s overlaps an object of another size", at.file, at.line, at.text);
    }
    if (locations == LOCATIONS_MAX)
        unusable("%s:%d: more than %d atomic objects", at.file, at.line, LOCATIONS_MAX);
    location[locations].object = object;
    location[locations].size = size;
    return locations++;
}

uint64_t initial_value(int l)
{
    return memory(location[l].object, location[l].size);
}

static uint64_t value_read(const struct event *e)
{
    if (e->from == GUESSED)
        return e->value;
    return e->from == INITIAL ? initial_value(e->location) : graph->event[e->from].value;
}

/* The event at the thread's position; leaves the thread when it is new. */
static struct event *step(struct event e)
{
    e.thread = thread;
    e.position = position;
    if (position >= graph->length[thread]) {
        *pending = e;
        longjmp(leave, NEXT + 1);
    }
    struct event *known = &graph->event[graph->at[thread][position++]];
    behind = &known->source;
    made++;
    if (probed) {
        if (known->kind != e.kind || known->location != e.location)
            longjmp(leave, WAITS + 1);
        probed[position - 1] = e.kind != WRITE || known->value == e.value;
        return known;
    }
    if (known->kind != e.kind || known->location != e.location ||
        (e.kind == WRITE && known->value != e.value))
        unusable("%s:%d: %s: thread%d does something else each time it runs; keep its state in "
                 "local variables",
                 e.source.file, e.source.line, e.source.text, thread);
    return known;
}

static uint64_t read_step(int l, memory_order order, bool change, struct litmus_source at)
{
    return value_read(step((struct event){
        .kind = READ, .order = order, .change = change, .location = l, .source = at}));
}

static void write_step(int l, uint64_t value, memory_order order, bool change,
                       struct litmus_source at)
{
    step((struct event){.kind = WRITE,
                        .order = order,
                        .change = change,
                        .location = l,
                        .value = value,
                        .source = at});
}

static uint64_t last_value(int l)
{
    int n = graph->writes[l];
    return n ? graph->event[graph->order[l][n - 1]].value : initial_value(l);
}

uint64_t litmus_load(const volatile void *object, size_t size, memory_order order,
                     struct litmus_source at)
{
    if (phase == SETS_UP)
        return memory(object, size);
    int l = locate(object, size, at);
    return phase == ENDS ? last_value(l) : read_step(l, order, false, at);
}

static uint64_t cut(uint64_t value, size_t size)
{
    return size < 8 ? value & ((UINT64_C(1) << 8 * size) - 1) : value;
}

void litmus_store(volatile void *object, size_t size, uint64_t value, memory_order order,
                  struct litmus_source at)
{
    value = cut(value, size);
    if (phase == SETS_UP)
        memcpy((void *)object, &value, size);
    else if (phase == THREAD)
        write_step(locate(object, size, at), value, order, false, at);
    else
        unusable("%s:%d: %s: `finish` cannot store", at.file, at.line, at.text);
}

static uint64_t changed(enum litmus_change how, uint64_t old, uint64_t by)
{
    switch (how) {
    case LITMUS_ADD:
        return old + by;
    case LITMUS_SUB:
        return old - by;
    case LITMUS_OR:
        return old | by;
    case LITMUS_AND:
        return old & by;
    case LITMUS_XOR:
        return old ^ by;
    default:
        return by;
    }
}

uint64_t litmus_change(volatile void *object, size_t size, enum litmus_change how, uint64_t by,
                       memory_order order, struct litmus_source at)
{
    if (phase != THREAD)
        unusable("%s:%d: %s: only threads change memory so", at.file, at.line, at.text);
    int l = locate(object, size, at);
    uint64_t old = read_step(l, order, true, at);
    write_step(l, cut(changed(how, old, by), size), order, true, at);
    return old;
}

bool litmus_compare_exchange(volatile void *object, size_t size, void *expected, uint64_t value,
                             memory_order order, memory_order failed, struct litmus_source at)
{
    if (phase != THREAD)
        unusable("%s:%d: %s: only threads change memory so", at.file, at.line, at.text);
    (void)failed; /* a failed one reads with the order of a successful one */
    int l = locate(object, size, at);
    uint64_t old = read_step(l, order, true, at);
    if (old != memory(expected, size)) {
        memcpy(expected, &old, size);
        return false;
    }
    write_step(l, cut(value, size), order, true, at);
    return true;
}

void litmus_fence(memory_order order, struct litmus_source at)
{
    if (phase == THREAD && order != memory_order_relaxed)
        step((struct event){.kind = FENCE, .order = order, .location = -1, .source = at});
}

uint32_t litmus_choose(uint32_t count, struct litmus_source at)
{
    if (phase != THREAD || count == 0)
        unusable("%s:%d: choose(%u): expected a number above 0, in a thread", at.file, at.line,
                 count);
    return (uint32_t)step(
               (struct event){.kind = CHOICE, .location = -1, .choices = count, .source = at})
        ->value;
}

int litmus_thread(void)
{
    return thread;
}

void litmus_await_begin(void)
{
    await_from = position;
}

_Noreturn void litmus_waits(void)
{
    if (phase != THREAD)
        unusable("await: expected it in a thread only");
    longjmp(leave, WAITS + 1);
}

_Noreturn void litmus_wrong(struct litmus_source at)
{
    if (phase == SETS_UP)
        unusable("%s:%d: not so in `begin`: %s", at.file, at.line, at.text);
    wrong_at = at;
    longjmp(leave, WRONG + 1);
}

static void (*const thread_of[])(void) = {thread0, thread1, thread2, thread3, thread4};
static const char *const thread_names[] = {"thread0", "thread1", "thread2", "thread3"};

int program_threads(void)
{
    int n = 0;
    while (n < THREADS_MAX && thread_of[n])
        n++;
    for (int i = n; i <= THREADS_MAX; i++)
        if (thread_of[i])
            unusable("thread%d: expected thread0, thread1 and so on to thread3 at most", i);
    if (n < 2)
        unusable("expected functions thread0 and thread1 at least");
    return n;
}

int program_locations(void)
{
    return locations;
}

void program_start(void)
{
    phase = SETS_UP;
    signal(SIGPROF, on_tick);
    const struct timeval tick = {.tv_usec = TICK_US};
    setitimer(ITIMER_PROF, &(struct itimerval){tick, tick}, NULL);
    if (begin)
        call(begin, "begin");
}

enum outcome program_run(struct graph *g, int t, struct event *next)
{
    phase = THREAD;
    graph = g;
    thread = t;
    position = 0;
    pending = next;
    int left = setjmp(leave);
    if (!left) {
        call(thread_of[t], thread_names[t]);
        left = FINISHED + 1;
    }
    called = NULL;
    if (left == WAITS + 1)
        g->awaited[t] = await_from;
    return (enum outcome)(left - 1);
}

void program_probe(struct graph *g, int t, bool *same)
{
    struct event next;
    int awaited = g->awaited[t];
    probed = same;
    program_run(g, t, &next);
    probed = NULL;
    g->awaited[t] = awaited;
}

bool program_end(struct graph *g)
{
    struct event next;
    if (!finish)
        return true;
    for (int t = 0; t < g->threads; t++)
        program_run(g, t, &next); /* what they note for `finish` is that of this execution */
    phase = ENDS;
    graph = g;
    bool right = setjmp(leave) == 0;
    if (right)
        call(finish, "finish");
    called = NULL;
    return right;
}

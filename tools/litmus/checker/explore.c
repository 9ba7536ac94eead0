/*
 * Every execution of the program under a model, each explored once (the TruSt algorithm of Kokologiannakis and others,
 * 2022): events are added to a graph in an order that the graph alone decides. A read is tried with
 * each write there is; a write is also given to each earlier read that could have waited for it.
 */
#include "weak.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static enum model model;
static bool guesses; /* loads may find later stores */
static bool learned; /* a value that an earlier guess could not know */
static uint64_t executions, stopped, graphs;

static void visit(struct graph *g);

static struct graph *spare;

static struct graph *copy(const struct graph *g)
{
    struct graph *c = spare;
    if (c)
        spare = c->spare;
    else
        c = malloc(sizeof *c);
    if (!c)
        unusable("out of memory");
    memcpy(c, g, offsetof(struct graph, order));
    memcpy(c->order, g->order, (size_t)program_locations() * sizeof g->order[0]);
    memcpy(c->event, g->event, (size_t)g->count * sizeof g->event[0]);
    return c;
}

/* For the next copy: to give the memory back and ask for it anew takes longer than to use it. */
static void drop(struct graph *g)
{
    g->spare = spare;
    spare = g;
}

static int add(struct graph *g, const struct event *e)
{
    if (g->count == EVENTS_MAX)
        unusable("%s:%d: %s: more than %d steps in an execution; bound the loops", e->source.file,
                 e->source.line, e->source.text, EVENTS_MAX);
    int i = g->count++;
    g->event[i] = *e;
    g->at[e->thread][g->length[e->thread]++] = (int16_t)i;
    return i;
}

/* The graph with only what `kept` has, numbered anew. */
static struct graph *restricted(const struct graph *g, const bool *kept)
{
    struct graph *h = copy(g);
    int number[EVENTS_MAX];
    h->count = 0;
    memset(h->length, 0, sizeof h->length);
    for (int t = 0; t < g->threads; t++)
        h->progress[t] = RUNS;
    for (int i = 0; i < g->count; i++)
        if (kept[i]) {
            number[i] = h->count;
            add(h, &g->event[i]);
        }
    for (int i = 0; i < g->count; i++)
        if (kept[i] && g->event[i].kind == READ && g->event[i].from >= 0)
            h->event[number[i]].from = number[g->event[i].from];
    for (int l = 0; l < LOCATIONS_MAX; l++) {
        h->writes[l] = 0;
        for (int i = 0; i < g->writes[l]; i++)
            if (kept[g->order[l][i]])
                h->order[l][h->writes[l]++] = (int16_t)number[g->order[l][i]];
    }
    return h;
}

/* Leave out what the last step of thread `t` does not rest on. */
static struct graph *grounds(const struct graph *g, int t)
{
    static relation porf;
    bool kept[EVENTS_MAX];
    if (t < 0 || g->length[t] == 0)
        return copy(g);
    int last = g->at[t][g->length[t] - 1];
    program_and_reads(g, porf);
    for (int e = 0; e < g->count; e++)
        kept[e] = e == last || has(&porf[e], last);
    return restricted(g, kept);
}

static void text(const char *s)
{
    putchar('"');
    for (; *s; s++)
        printf(*s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
    putchar('"');
}

static void print_event(const struct graph *g, int i)
{
    static const char *const kinds[] = {"load", "store", "fence", "choose"};
    static const char *const orders[] = {"relaxed", "consume", "acquire",
                                         "release", "acq_rel", "seq_cst"};
    const struct event *e = &g->event[i];
    uint64_t value = e->value;
    if (e->kind == READ && e->from != GUESSED)
        value = e->from == INITIAL ? initial_value(e->location) : g->event[e->from].value;
    printf("%s{\"thread\": %d, \"kind\": \"%s\", \"order\": \"%s\", \"value\": %llu, \"from\": ",
           i ? ", " : "", e->thread, kinds[e->kind], orders[e->order], (unsigned long long)value);
    if (e->kind == READ && e->from >= 0)
        printf("%d", e->from);
    else
        printf("null");
    printf(", \"line\": %d, \"file\": ", e->source.line);
    text(e->source.file);
    printf(", \"text\": ");
    text(e->source.text);
    printf("}");
}

static int results; /* the descriptor that the result goes to */

/*
 * Print the result: the numbers, and the execution that is wrong, if one is; of the thread `t` that
 * fails only what it rests on (-1: all).
 */
static _Noreturn void report(const struct graph *found, const char *wrong, int t)
{
    const struct graph *g = grounds(found, t);
    fflush(stdout);
    dup2(results, STDOUT_FILENO);
    printf("{\"executions\": %llu, \"stopped\": %llu, \"graphs\": %llu, \"wrong\": ",
           (unsigned long long)executions, (unsigned long long)stopped, (unsigned long long)graphs);
    if (wrong)
        text(wrong);
    else
        printf("null");
    printf(", \"file\": ");
    text(wrong && wrong_at.file ? wrong_at.file : "");
    printf(", \"line\": %d, \"events\": [", wrong ? wrong_at.line : 0);
    for (int i = 0; wrong && i < g->count; i++)
        print_event(g, i);
    printf("]}\n");
    exit(0);
}

/* Does no write that is still possible let a stopped thread go on? */
static bool for_good(const struct graph *g)
{
    for (int t = 0; t < g->threads; t++) {
        if (g->progress[t] != STOPPED)
            continue;
        for (int p = g->awaited[t]; p < g->length[t]; p++) {
            const struct event *e = &g->event[g->at[t][p]];
            if (e->kind == READ && rank_of(g, e->from) != g->writes[e->location])
                return false;
        }
    }
    return true;
}

static void complete(struct graph *g)
{
    bool waits = false;
    if (!weak_comes_true(g))
        return;
    for (int i = 0; model == WEAK && i < g->count; i++)
        if (g->event[i].kind == WRITE)
            learned |= weak_learn(g->event[i].location, g->event[i].value);
    for (int t = 0; t < g->threads; t++)
        if (g->progress[t] == FAILED) {
            wrong_at = g->failed[t];
            report(g, wrong_at.text, t);
        }
    for (int t = 0; t < g->threads; t++)
        waits |= g->progress[t] == STOPPED;
    if (waits && for_good(g)) {
        wrong_at = (struct litmus_source){0};
        report(g, "a thread waits for good", -1);
    }
    if (waits) {
        stopped++;
        return;
    }
    executions++;
    if (!program_end(g))
        report(g, wrong_at.text, -1);
}

static void try_visit(struct graph *g)
{
    graphs++;
    if (consistent(g, model))
        visit(g);
}

static void guess_each(const struct graph *g, const struct event *e)
{
    const uint64_t *values;
    for (int i = 0; i < weak_values(e->location, &values); i++) {
        struct graph *h = copy(g);
        int r = add(h, e);
        h->event[r].from = GUESSED;
        h->event[r].value = values[i];
        try_visit(h);
        drop(h);
    }
}

static void read_each(const struct graph *g, const struct event *e)
{
    for (int i = 0; i <= g->writes[e->location]; i++) { /* an old value first: a short witness */
        struct graph *h = copy(g);
        int r = add(h, e);
        h->event[r].from = i ? g->order[e->location][i - 1] : INITIAL;
        try_visit(h);
        drop(h);
    }
    if (guesses && e->order == memory_order_relaxed && !e->change && weak_guess(g) < 0)
        guess_each(g, e);
}

/* Put the write at each place in the order of its location that its thread's earlier writes allow. */
static void place(const struct graph *g, int w)
{
    const struct event *e = &g->event[w];
    int l = e->location, n = g->writes[l], least = 0;
    for (int i = 0; i < n; i++)
        if (g->event[g->order[l][i]].thread == e->thread)
            least = i + 1;
    for (int at = n; at >= least; at--) {
        struct graph *h = copy(g);
        memmove(&h->order[l][at + 1], &h->order[l][at], (size_t)(n - at) * sizeof h->order[l][0]);
        h->order[l][at] = (int16_t)w;
        h->writes[l] = n + 1;
        try_visit(h);
        drop(h);
    }
}

/*
 * Would the explorer have added `e` in the most recent way, had `w` and what it rests on been there?
 * Only then is `e` dropped for the sake of `w`, so that no graph comes up twice.
 */
static bool most_recent(const struct graph *g, relation porf, int e, int w)
{
    const struct event *event = &g->event[e];
    if (event->kind == CHOICE)
        return event->value == 0;
    if (event->kind == FENCE)
        return true;
    for (int i = 0; i < g->count && event->kind == WRITE; i++)
        if ((i <= e || has(&porf[i], w)) && g->event[i].kind == READ && g->event[i].from == e)
            return false;
    if (event->kind == READ && event->from == GUESSED)
        return false;
    int write = event->kind == READ ? event->from : e;
    if (write > e && !has(&porf[write], w))
        return false;
    for (int i = rank_of(g, write); i < g->writes[event->location]; i++) {
        int later = g->order[event->location][i];
        if (later <= e || has(&porf[later], w))
            return false;
    }
    return true;
}

/* Let the earlier read `r` read from the new write `w`. */
static void give(struct graph *g, relation porf, int r, int w)
{
    bool kept[EVENTS_MAX];
    for (int e = 0; e < g->count; e++) {
        kept[e] = e <= r || e == w || has(&porf[e], w);
        if ((!kept[e] || e == r) && !most_recent(g, porf, e, w))
            return;
    }
    int from = g->event[r].from;
    g->event[r].from = w;
    struct graph *h = restricted(g, kept);
    g->event[r].from = from;
    place(h, h->count - 1);
    drop(h);
}

static void write_each(const struct graph *g, const struct event *e)
{
    struct graph *h = copy(g);
    int w = add(h, e);
    place(h, w);
    relation *porf = malloc(sizeof *porf);
    if (!porf)
        unusable("out of memory");
    program_and_reads(h, *porf);
    for (int r = w - 1; r >= 0; r--)
        if (h->event[r].kind == READ && h->event[r].location == e->location && !has(&(*porf)[r], w))
            give(h, *porf, r, w);
    free(porf);
    drop(h);
}

static void choose_each(const struct graph *g, const struct event *e)
{
    for (uint32_t i = 0; i < e->choices; i++) {
        struct graph *h = copy(g);
        h->event[add(h, e)].value = i;
        visit(h);
        drop(h);
    }
}

static void extend(struct graph *g, const struct event *e)
{
    if (e->kind == READ) {
        read_each(g, e);
    } else if (e->kind == WRITE) {
        write_each(g, e);
    } else if (e->kind == CHOICE) {
        choose_each(g, e);
    } else {
        add(g, e);
        try_visit(g);
    }
}

static void visit(struct graph *g)
{
    struct event next;
    for (int t = 0; t < g->threads; t++) {
        if (g->progress[t] != RUNS)
            continue;
        switch (program_run(g, t, &next)) {
        case NEXT:
            extend(g, &next);
            return;
        case FINISHED:
            g->progress[t] = DONE;
            break;
        case WAITS:
            g->progress[t] = STOPPED;
            break;
        case WRONG:
            g->progress[t] = FAILED;
            g->failed[t] = wrong_at;
            if (weak_guess(g) < 0)
                report(g, wrong_at.text, t);
        }
    }
    complete(g);
}

int main(int count, char **arguments)
{
    static const char *const names[] = {"sc", "tso", "rc11", "weak"};
    static struct graph empty;
    int m = 0;
    while (m <= WEAK && (count < 2 || strcmp(arguments[1], names[m])))
        m++;
    if (m > WEAK)
        unusable("expected one model: sc, tso, rc11 or weak");
    model = (enum model)m;
    results = dup(STDOUT_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO); /* what the program prints is no result */
    prctl(PR_SET_PDEATHSIG, SIGKILL);   /* nobody reads the result any more */
    program_start();
    empty.threads = program_threads();
    do { /* without guesses first: what the locations may hold is what loads can guess */
        learned = false;
        executions = stopped = 0;
        struct graph *g = copy(&empty);
        visit(g);
        drop(g);
        learned |= !guesses;
        guesses = true;
    } while (learned && model == WEAK);
    report(&empty, NULL, -1);
}

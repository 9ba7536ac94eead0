/* Relations between the events of an execution, and the axioms of each model. */
#include "graph.h"

#include <string.h>

bool is_acquire(const struct event *e)
{
    return (e->kind == READ || e->kind == FENCE) &&
           (e->order == memory_order_acquire || e->order == memory_order_consume ||
            e->order == memory_order_acq_rel || e->order == memory_order_seq_cst);
}

bool is_release(const struct event *e)
{
    return (e->kind == WRITE || e->kind == FENCE) &&
           (e->order == memory_order_release || e->order == memory_order_acq_rel ||
            e->order == memory_order_seq_cst);
}

static bool is_memory(const struct event *e)
{
    return e->kind == READ || e->kind == WRITE;
}

static bool is_sc(const struct event *e)
{
    return e->order == memory_order_seq_cst;
}

/* The event right before `i` in its thread; -1: it is the first. */
static int before(const struct graph *g, int i)
{
    const struct event *e = &g->event[i];
    return e->position ? g->at[e->thread][e->position - 1] : -1;
}

bool is_change_write(const struct graph *g, int i)
{
    int read = before(g, i);
    return g->event[i].kind == WRITE && g->event[i].change && read >= 0 &&
           g->event[read].kind == READ && g->event[read].change;
}

int rank_of(const struct graph *g, int write)
{
    if (write == INITIAL)
        return 0;
    int location = g->event[write].location;
    for (int i = 0; i < g->writes[location]; i++)
        if (g->order[location][i] == write)
            return i + 1;
    return -1; /* not placed yet */
}

void close_over(relation r, int count)
{
    for (int k = 0; k < count; k++)
        for (int i = 0; i < count; i++)
            if (has(&r[i], k))
                join(&r[i], &r[k]);
}

static bool cyclic(relation r, int count)
{
    close_over(r, count);
    for (int i = 0; i < count; i++)
        if (has(&r[i], i))
            return true;
    return false;
}

/* into: pairs by way of `a`, then `b` */
static void compose(relation into, relation a, relation b, int count)
{
    memset(into, 0, sizeof(relation));
    for (int i = 0; i < count; i++)
        for (int k = 0; k < count; k++)
            if (has(&a[i], k))
                join(&into[i], &b[k]);
}

static void program_order(const struct graph *g, relation r)
{
    for (int t = 0; t < g->threads; t++)
        for (int i = 0; i < g->length[t]; i++)
            for (int j = i + 1; j < g->length[t]; j++)
                put(&r[g->at[t][i]], g->at[t][j]);
}

static void reads_from(const struct graph *g, relation r, bool external)
{
    for (int i = 0; i < g->count; i++) {
        const struct event *e = &g->event[i];
        if (e->kind == READ && e->from >= 0 && !(external && g->event[e->from].thread == e->thread))
            put(&r[e->from], i);
    }
}

/* The order of the writes to a location, and from each read to the writes behind its own. */
static void memory_order_of(const struct graph *g, relation r)
{
    for (int l = 0; l < LOCATIONS_MAX; l++)
        for (int i = 0; i < g->writes[l]; i++)
            for (int j = i + 1; j < g->writes[l]; j++)
                put(&r[g->order[l][i]], g->order[l][j]);
    for (int i = 0; i < g->count; i++) {
        const struct event *e = &g->event[i];
        if (e->kind != READ || e->from == GUESSED)
            continue;
        for (int j = rank_of(g, e->from); j < g->writes[e->location]; j++)
            if (g->order[e->location][j] != i)
                put(&r[i], g->order[e->location][j]);
    }
}

void program_and_reads(const struct graph *g, relation r)
{
    memset(r, 0, sizeof(relation));
    program_order(g, r);
    reads_from(g, r, false);
    close_over(r, g->count);
}

/* A read-modify-write's write comes right behind the write that it read. */
static bool atomic(const struct graph *g)
{
    for (int i = 0; i < g->count; i++)
        if (is_change_write(g, i) && rank_of(g, i) >= 0 &&
            rank_of(g, i) != rank_of(g, g->event[before(g, i)].from) + 1)
            return false;
    return true;
}

static bool sequential(const struct graph *g)
{
    static relation all;
    memset(all, 0, sizeof all);
    program_order(g, all);
    reads_from(g, all, false);
    memory_order_of(g, all);
    return !cyclic(all, g->count);
}

/* Each location for itself is sequentially consistent. */
static bool coherent(const struct graph *g)
{
    static relation all;
    memset(all, 0, sizeof all);
    for (int i = 0; i < g->count; i++)
        for (int j = i + 1; j < g->count; j++) {
            const struct event *a = &g->event[i], *b = &g->event[j];
            if (a->thread == b->thread && is_memory(a) && is_memory(b) &&
                a->location == b->location)
                put(&all[a->position < b->position ? i : j], a->position < b->position ? j : i);
        }
    reads_from(g, all, false);
    memory_order_of(g, all);
    return !cyclic(all, g->count);
}

/* x86: does something between a store and a later load of its thread empty the store buffer? */
static bool emptied(const struct graph *g, int thread, int store, int load)
{
    for (int i = store; i <= load; i++) {
        const struct event *e = &g->event[g->at[thread][i]];
        if (e->change || (e->kind == FENCE && is_sc(e)) || (e->kind == WRITE && is_sc(e)))
            return true;
    }
    return false;
}

/*
 * x86-TSO: stores wait in a buffer, so that a later load of the thread may pass them; all else
 * keeps its order. A seq_cst store is taken for a store and mfence, a read-modify-write is locked.
 */
static bool total_store_order(const struct graph *g)
{
    static relation all;
    memset(all, 0, sizeof all);
    for (int t = 0; t < g->threads; t++)
        for (int i = 0; i < g->length[t]; i++)
            for (int j = i + 1; j < g->length[t]; j++) {
                int a = g->at[t][i], b = g->at[t][j];
                if (!is_memory(&g->event[a]) || !is_memory(&g->event[b]))
                    continue;
                bool passes = g->event[a].kind == WRITE && g->event[b].kind == READ;
                if (!passes || emptied(g, t, i, j))
                    put(&all[a], b);
            }
    reads_from(g, all, true);
    memory_order_of(g, all);
    return coherent(g) && !cyclic(all, g->count);
}

/* From a release write or fence `a` at position `i`: the write of the release, if `j` is one. */
static bool heads(const struct graph *g, int a, int w)
{
    const struct event *release = &g->event[a], *write = &g->event[w];
    if (write->kind != WRITE || write->thread != release->thread)
        return false;
    if (release->kind == FENCE)
        return write->position > release->position;
    return write->position >= release->position && write->location == release->location;
}

/*
 * The acquires that a read makes its thread synchronise by: itself, or the acquire fences behind.
 */
static void synchronise(const struct graph *g, relation hb, int release, int read)
{
    const struct event *r = &g->event[read];
    if (is_acquire(r))
        put(&hb[release], read);
    for (int p = r->position + 1; p < g->length[r->thread]; p++) {
        int f = g->at[r->thread][p];
        if (g->event[f].kind == FENCE && is_acquire(&g->event[f]))
            put(&hb[release], f);
    }
}

/*
 * sw of RC11: from a release to the acquires of each read of its release sequence, which is the
 * write, later writes of its thread to the location, and read-modify-writes of these.
 */
static void synchronises(const struct graph *g, relation hb)
{
    for (int read = 0; read < g->count; read++) {
        if (g->event[read].kind != READ)
            continue;
        for (int w = g->event[read].from; w >= 0;) {
            for (int a = 0; a < g->count; a++)
                if (is_release(&g->event[a])) {
                    bool sequence = heads(g, a, w);
                    /* Of a fence: a write behind it, then that write's release sequence. */
                    if (sequence)
                        synchronise(g, hb, a, read);
                }
            if (!is_change_write(g, w))
                break;
            w = g->event[before(g, w)].from;
        }
    }
}

static void external_order(const struct graph *g, relation eco)
{
    static relation step, read;
    memset(step, 0, sizeof step);
    memset(read, 0, sizeof read);
    memory_order_of(g, step);
    reads_from(g, read, false);
    compose(eco, step, read, g->count); /* mo;rf and fr;rf */
    for (int i = 0; i < g->count; i++) {
        join(&eco[i], &step[i]);
        join(&eco[i], &read[i]);
    }
}

/* The order of seq_cst accesses and fences (psc of RC11) has no circle. */
static bool partial_sc(const struct graph *g, relation hb, relation eco)
{
    static relation scb, psc, before_fence, back, tail;
    int n = g->count, any = 0;
    for (int i = 0; i < n; i++)
        any += is_sc(&g->event[i]);
    if (any < 2)
        return true;
    static relation po, other, middle, half;
    memset(po, 0, sizeof po);
    program_order(g, po);
    memset(other, 0, sizeof other);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            if (has(&po[i], j) && !(is_memory(&g->event[i]) && is_memory(&g->event[j]) &&
                                    g->event[i].location == g->event[j].location))
                put(&other[i], j);
    compose(half, other, hb, n);
    compose(middle, half, other, n);
    memset(scb, 0, sizeof scb);
    memory_order_of(g, scb);
    for (int i = 0; i < n; i++) {
        join(&scb[i], &po[i]);
        join(&scb[i], &middle[i]);
        for (int j = 0; j < n; j++)
            if (has(&hb[i], j) && is_memory(&g->event[i]) && is_memory(&g->event[j]) &&
                g->event[i].location == g->event[j].location)
                put(&scb[i], j);
    }
    /* before_fence: [Esc] and [Fsc];hb?  -  back: [Esc] and hb?;[Fsc] */
    memset(before_fence, 0, sizeof before_fence);
    memset(back, 0, sizeof back);
    for (int i = 0; i < n; i++) {
        bool fence = g->event[i].kind == FENCE;
        if (!is_sc(&g->event[i]))
            continue;
        put(&before_fence[i], i);
        put(&back[i], i);
        if (!fence)
            continue;
        join(&before_fence[i], &hb[i]);
        for (int j = 0; j < n; j++)
            if (has(&hb[j], i))
                put(&back[j], i);
    }
    compose(half, before_fence, scb, n);
    compose(psc, half, back, n);
    /* [Fsc];(hb and hb;eco;hb);[Fsc] */
    compose(half, hb, eco, n);
    compose(tail, half, hb, n);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            if (g->event[i].kind == FENCE && g->event[j].kind == FENCE && is_sc(&g->event[i]) &&
                is_sc(&g->event[j]) && (has(&hb[i], j) || has(&tail[i], j)))
                put(&psc[i], j);
    return !cyclic(psc, n);
}

/*
 * RC11. That po and rf have no circle holds because a read's write is added before it; only the weak
 * model guesses.
 */
static bool repaired_c11(const struct graph *g)
{
    static relation hb, eco;
    memset(hb, 0, sizeof hb);
    program_order(g, hb);
    synchronises(g, hb);
    close_over(hb, g->count);
    external_order(g, eco);
    for (int i = 0; i < g->count; i++)
        for (int j = 0; j < g->count; j++)
            if (has(&hb[i], j) && (i == j || has(&eco[j], i)))
                return false;
    return partial_sc(g, hb, eco);
}

bool consistent(const struct graph *g, enum model model)
{
    if (!atomic(g))
        return false;
    switch (model) {
    case SC:
        return sequential(g);
    case TSO:
        return total_store_order(g);
    default:
        return repaired_c11(g);
    }
}

/*
 * The weak model: a load may find a store that comes after it, as on Arm and POWER (load buffering).
 *
 * Such a load is guessed: it takes a value that its location holds in some execution, and the guess
 * must come true by a store that the load leads to. What keeps that from happening is a circle in
 * the order of IMM: acquire, release, fences, and dependencies. A store depends on a load when
 * another value that the location ever holds makes the thread take another way to it, or changes it.
 */
#include "weak.h"

#include <string.h>

static struct {
    int count;
    uint64_t value[VALUES_MAX];
} known[LOCATIONS_MAX];

bool weak_learn(int location, uint64_t value)
{
    for (int i = 0; i < known[location].count; i++)
        if (known[location].value[i] == value)
            return false;
    if (known[location].count == VALUES_MAX)
        unusable("a location holds more than %d values", VALUES_MAX);
    known[location].value[known[location].count++] = value;
    return true;
}

int weak_values(int location, const uint64_t **values)
{
    *values = known[location].value;
    return known[location].count;
}

int weak_guess(const struct graph *g)
{
    for (int i = 0; i < g->count; i++)
        if (g->event[i].kind == READ && g->event[i].from == GUESSED)
            return i;
    return -1;
}

/* The stores of a thread that depend on its load `r`. */
static void dependent(struct graph *g, int r, relation order)
{
    struct event *load = &g->event[r], kept = *load;
    int t = load->thread;
    weak_learn(load->location, initial_value(load->location));
    for (int i = 0; i < known[kept.location].count; i++) {
        bool same[EVENTS_MAX] = {false};
        load->from = GUESSED;
        load->value = known[kept.location].value[i];
        program_probe(g, t, same);
        for (int p = kept.position + 1; p < g->length[t]; p++)
            if (g->event[g->at[t][p]].kind == WRITE && !same[p])
                put(&order[r], g->at[t][p]);
        *load = kept;
    }
    int next = kept.position + 1 < g->length[t] ? g->at[t][kept.position + 1] : -1;
    if (next >= 0 && is_change_write(g, next))
        put(&order[r], next);
}

/* Do acquire, release or a fence keep `a` before `b` of the same thread? */
static bool kept_in_order(const struct event *a, const struct event *b)
{
    return a->kind == FENCE || b->kind == FENCE || (a->kind == READ && is_acquire(a)) ||
           (b->kind == WRITE && is_release(b)) ||
           (a->kind == WRITE && is_release(a) && b->kind == WRITE && a->location == b->location);
}

/* The order of IMM has no circle. */
static bool possible(struct graph *g)
{
    static relation order, from_loads;
    memset(order, 0, sizeof order);
    memset(from_loads, 0, sizeof from_loads);
    for (int i = 0; i < g->count; i++)
        if (g->event[i].kind == READ)
            dependent(g, i, from_loads);
    for (int i = 0; i < g->count; i++)
        if (g->event[i].kind == READ && g->event[i].from >= 0)
            put(&(g->event[g->event[i].from].thread == g->event[i].thread
                      ? from_loads
                      : order)[g->event[i].from],
                i);
    close_over(from_loads, g->count);
    for (int i = 0; i < g->count; i++)
        for (int j = 0; j < g->count; j++) {
            const struct event *a = &g->event[i], *b = &g->event[j];
            if (a->kind == READ && b->kind == WRITE && has(&from_loads[i], j))
                put(&order[i], j);
            if (a->thread == b->thread && a->position < b->position && kept_in_order(a, b))
                put(&order[i], j);
        }
    close_over(order, g->count);
    for (int i = 0; i < g->count; i++)
        if (has(&order[i], i))
            return false;
    return true;
}

bool weak_comes_true(struct graph *g)
{
    int r = weak_guess(g);
    if (r < 0)
        return true;
    static relation porf;
    program_and_reads(g, porf);
    for (int w = 0; w < g->count; w++) {
        if (g->event[w].kind != WRITE || g->event[w].location != g->event[r].location ||
            g->event[w].value != g->event[r].value || !has(&porf[r], w))
            continue;
        g->event[r].from = w;
        if (consistent(g, WEAK) && possible(g))
            return true;
        g->event[r].from = GUESSED;
    }
    return false;
}

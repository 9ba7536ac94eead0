/* An execution as a graph: its events in the order in which they were added, and their relations. */
#ifndef LITMUS_GRAPH_H
#define LITMUS_GRAPH_H

#include "litmus.h"

#define EVENTS_MAX 192
#define THREADS_MAX 4
#define LOCATIONS_MAX 96
#define WORDS (EVENTS_MAX / 64)
#define INITIAL (-1) /* the write that a location starts with */
#define GUESSED (-2) /* a write that is still to come */

enum kind { READ, WRITE, FENCE, CHOICE };
enum progress { RUNS, DONE, STOPPED, FAILED };
enum model { SC, TSO, RC11, WEAK };

struct event {
    enum kind kind;
    memory_order order;
    bool change; /* of a read-modify-write: the read, and the write right behind it */
    int thread, position;
    int location;
    int from;       /* of a read: the write that it reads from */
    uint64_t value; /* of a write, a choice or a guessed read */
    uint32_t choices;
    struct litmus_source source;
};

struct graph {
    int count, threads;
    enum progress progress[THREADS_MAX];
    int awaited[THREADS_MAX]; /* of a stopped thread: the position where its await begins */
    struct litmus_source failed[THREADS_MAX]; /* of a failed thread: its check */
    int length[THREADS_MAX];
    int16_t at[THREADS_MAX][EVENTS_MAX];
    int writes[LOCATIONS_MAX];
    struct graph *spare; /* the next one that is free */
    /* A copy has only what is used of these. */
    int16_t order[LOCATIONS_MAX][EVENTS_MAX]; /* the writes to a location, oldest first */
    struct event event[EVENTS_MAX];
};

typedef struct {
    uint64_t word[WORDS];
} row;
typedef row relation[EVENTS_MAX];

static inline bool has(const row *r, int i)
{
    return r->word[i / 64] >> (i % 64) & 1;
}

static inline void put(row *r, int i)
{
    r->word[i / 64] |= UINT64_C(1) << (i % 64);
}

static inline void join(row *into, const row *r)
{
    for (int i = 0; i < WORDS; i++)
        into->word[i] |= r->word[i];
}

bool is_acquire(const struct event *e);
bool is_release(const struct event *e);
bool is_change_write(const struct graph *g, int e);
int rank_of(const struct graph *g, int write); /* its place among its location's writes, from 1 */
void close_over(relation r, int count);
void program_and_reads(const struct graph *g, relation r);
bool consistent(const struct graph *g, enum model model);

#endif

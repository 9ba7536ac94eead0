/* The program's threads, run up to their next step. */
#ifndef LITMUS_PROGRAM_H
#define LITMUS_PROGRAM_H

#include "graph.h"

enum outcome { NEXT, FINISHED, WAITS, WRONG };

extern struct litmus_source wrong_at; /* the check that failed */

int program_threads(void);
int program_locations(void);
void program_start(void);
/* Run thread `t` along its events in `g`; *next is the event behind them, if there is one. */
enum outcome program_run(struct graph *g, int t, struct event *next);
/* Run thread `t` with another value for a load of it: which of its events stay as they are? */
void program_probe(struct graph *g, int t, bool *same);
/* Run `finish` on the memory that `g` leaves; false: a check failed. */
bool program_end(struct graph *g);
uint64_t initial_value(int location);
_Noreturn void unusable(const char *format, ...);

#endif

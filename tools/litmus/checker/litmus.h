/*
 * A program for the explorer: `begin` sets memory up, `thread0` to `thread3` run beside each other
 * (two to four of them), `finish` looks at the memory that they leave. `begin` and `finish` are optional.
 *
 * A thread runs anew for each execution, up to the step that is being explored. So it keeps its
 * state in local variables, shares memory by atomic accesses only, and depends on nothing else.
 */
#ifndef LITMUS_H
#define LITMUS_H

#include <stdatomic.h>

void begin(void);
void thread0(void);
void thread1(void);
void thread2(void);
void thread3(void);
void thread4(void); /* one too many: it is refused */
void finish(void);

int litmus_thread(void); /* the number of the thread that runs */
void litmus_await_begin(void);
_Noreturn void litmus_waits(void);
_Noreturn void litmus_wrong(struct litmus_source source);

/* 0 to `count` - 1; each is explored. */
#define choose(count) litmus_choose((count), LITMUS_AT("choose"))
uint32_t litmus_choose(uint32_t count, struct litmus_source source);

/*
 * Wait until the expression holds: a loop that does the same each time and changes nothing until
 * then. The loads in it may find what makes it hold, or the thread stops there. An execution in
 * which a thread stops, and no later store could make it go on, is an error.
 */
#define await(expression) (litmus_await_begin(), (expression) ? (void)0 : litmus_waits())

/* The expression must hold in every execution. */
#define check(expression) ((expression) ? (void)0 : litmus_wrong(LITMUS_AT(#expression)))
#undef assert
#define assert check

#endif

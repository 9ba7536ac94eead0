/* Loads that find a store which comes after them. */
#ifndef LITMUS_WEAK_H
#define LITMUS_WEAK_H

#include "program.h"

#define VALUES_MAX 64

/* Note that a location holds a value; true: it is new. */
bool weak_learn(int location, uint64_t value);
int weak_values(int location, const uint64_t **values);
/* The guessed load of an execution; -1: none. */
int weak_guess(const struct graph *g);
/* Does the guess come true? Then the load reads from the store that makes it so. */
bool weak_comes_true(struct graph *g);

#endif

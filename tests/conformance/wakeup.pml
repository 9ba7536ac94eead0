/*
 * Sleeping and waking of hv/core/exit.h and wait.c under x86-TSO, for spin: W1 to W4 against S1 to S6.
 *
 * Guest and VMM play ROUNDS of exit and answer; whoever waits may go to sleep at any time. -D
 * NO_WAKER_FENCE and NO_SLEEPER_FENCE leave a fence out. A lost wake-up is an end at which both wait.
 */
#define WORD(side) (side)
#define NEED(side) (2 + (side))
#define PLACES 4
#include "store_buffers.pml"

#define GUEST 0
#define VMM 1

bool pipe[2]; /* a byte is in it; the kernel's, so no buffer lies between */

inline post(me, n)
{
    STORE(me, WORD(me), n); /* W1 */
#ifndef NO_WAKER_FENCE
    FENCE(me); /* W2 */
#endif
    if
    :: SEEN(me, NEED(1 - me)) -> pipe[1 - me] = true /* W3, W4 */
    :: !SEEN(me, NEED(1 - me))
    fi
}

inline await(me, n)
{
    do
    :: SEEN(me, WORD(1 - me)) == n -> break
    :: true ->
       if
       :: undrained -> pipe[me] = false; undrained = false /* S6 */
       :: else
       fi;
       STORE(me, NEED(me), 1); /* S1 */
#ifndef NO_SLEEPER_FENCE
       FENCE(me); /* S2 */
#endif
       if
       :: SEEN(me, WORD(1 - me)) == n -> STORE(me, NEED(me), 0); break /* S3, S5 */
       :: SEEN(me, WORD(1 - me)) != n ->
          pipe[me]; /* S4 */
          undrained = true;
          STORE(me, NEED(me), 0) /* S5 */
       fi
    od
}

proctype party(byte me)
{
    byte n = 1;
    bool undrained = false;
    do
    :: n > ROUNDS -> break
    :: n <= ROUNDS ->
       if
       :: me == GUEST -> post(me, n); await(me, n)
       :: me == VMM -> await(me, n); post(me, n)
       fi;
       n++
    od
}

init {
    atomic {
        run drain(GUEST);
        run drain(VMM);
        run party(GUEST);
        run party(VMM)
    }
}

/*
 * Two processors with store buffers, as x86-TSO has them: a store goes into its processor's buffer,
 * which gives its stores to memory in order, each at any time; a load finds the newest store of its
 * own buffer, else memory; a fence waits until the buffer is empty.
 */
#ifndef PLACES
#error "PLACES: how many words memory has"
#endif
#define BUFFER 8 /* stores that a buffer holds; another store waits */

byte memory[PLACES];
chan buffer[2] = [BUFFER] of { byte, byte }; /* place, value */
byte pending[2 * PLACES]; /* stores to a place in a processor's buffer */
byte newest[2 * PLACES];  /* the value of the last of them */

#define STORE(me, place, value)                                        \
    atomic {                                                           \
        nfull(buffer[me]);                                             \
        buffer[me] ! place, value;                                     \
        newest[(me) * PLACES + (place)] = value;                       \
        pending[(me) * PLACES + (place)]++                             \
    }

#define SEEN(me, place)                                                \
    (pending[(me) * PLACES + (place)] -> newest[(me) * PLACES + (place)] : memory[place])

#define FENCE(me) empty(buffer[me])

/* The processor's end of its buffer. It never ends; that is no deadlock. */
proctype drain(byte me)
{
    byte place, value;
end:
    do
    :: atomic {
           buffer[me] ? place, value;
           memory[place] = value;
           pending[me * PLACES + place]--;
           place = 0;
           value = 0
       }
    od
}

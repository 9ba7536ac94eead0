/*
 * The ring of hv/core/ring.h under x86-TSO, for spin: P1 to P3 against C1 to C3.
 *
 * The producer shows any number of entries at once, and waits where the ring is full. The consumer
 * copies out any number of those it finds. An entry has two words that hold its number. SLOTS,
 * ENTRIES and START are given with -D; FULL_CHECK_2009 takes KVM's check of that time, on 32-bit
 * numbers, of which WRAP is 2**32 modulo SLOTS.
 *
 * Wrong is an assertion that fails, or an end at which one waits for the other.
 */
#define FIRST 0
#define LAST 1
#define WORD(slot, w) (2 + 2 * (slot) + (w))
#define PLACES (2 + 2 * SLOTS)
#include "store_buffers.pml"

#define GUEST 0
#define VMM 1
#define AFTER(slot) (((slot) + 1) % SLOTS)
#define DISTANCE(from, to) (((to) + SLOTS - (from)) % SLOTS)

#ifdef FULL_CHECK_2009
/* (first - last - 1) % 2**32 % SLOTS == 0; SLOTS keeps the number from being negative. */
#define FULL(first, last)                                                              \
    ((first > last -> first - last - 1 : (WRAP + SLOTS + first - last - 1) % SLOTS) == 0)
#else
#define FULL(first, last) (first == AFTER(last))
#endif

proctype producer()
{
    byte n = 0, next = START, published = START, first = START;
    do
    :: n == ENTRIES -> break
    :: n < ENTRIES ->
#ifdef FULL_CHECK_2009
       first = SEEN(GUEST, FIRST);
#endif
       do
       :: FULL(first, next) ->
          if
          :: published != next -> STORE(GUEST, LAST, next); published = next
          :: else
          fi;
          SEEN(GUEST, FIRST) != first;
          first = SEEN(GUEST, FIRST) /* P1 */
       :: !FULL(first, next) -> break
       od;
       n++;
       STORE(GUEST, WORD(next, 0), n); /* P2 */
       STORE(GUEST, WORD(next, 1), n);
       next = AFTER(next);
       if
       :: STORE(GUEST, LAST, next); published = next /* P3 */
       :: n < ENTRIES
       fi
    od
}

proctype consumer()
{
    byte n = 0, next = START, count = 0, i = 0;
    do
    :: n == ENTRIES -> break
    :: n < ENTRIES ->
       SEEN(VMM, LAST) != next;
       count = DISTANCE(next, SEEN(VMM, LAST)); /* C1 */
       do
       :: count > 1 -> count--
       :: break
       od;
       i = 0;
       do
       :: i == count -> break
       :: i < count ->
          n++;
          assert(SEEN(VMM, WORD((next + i) % SLOTS, 0)) == n); /* C2 */
          assert(SEEN(VMM, WORD((next + i) % SLOTS, 1)) == n);
          i++
       od;
       next = (next + count) % SLOTS;
       STORE(VMM, FIRST, next) /* C3 */
    od
}

init {
    atomic {
        memory[FIRST] = START;
        memory[LAST] = START;
        run drain(GUEST);
        run drain(VMM);
        run producer();
        run consumer()
    }
}

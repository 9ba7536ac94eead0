/* The doorbells of exit.h over pipes.h. */
#ifndef LITMUS_DOORBELLS_H
#define LITMUS_DOORBELLS_H

#include "pipes.h"
#include "exit.h"

/* That of a thread that sleeps at pipe `sleeps`, or spins, and wakes the one at pipe `wakes`. */
static inline struct doorbell doorbell(_Atomic uint32_t *own, _Atomic uint32_t *peer, int sleeps,
                                       int wakes)
{
    return (struct doorbell){.own_need_wakeup = own,
                             .peer_need_wakeup = peer,
                             .sleep_fd = sleeps,
                             .wake_fd = wakes,
                             .life_fd = -1,
                             .watch_fd = -1,
                             .policy = WAIT_ADAPTIVE};
}

#endif

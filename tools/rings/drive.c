/* The loops of the two sides, over any ring. Ours is inlined once more: what C can do here. */
#define _GNU_SOURCE
#include <sched.h>
#include <string.h>
#include <time.h>

#include "drive.h"
#include "ring.h"

#define YIELD_AFTER 256u
#define RELAXED memory_order_relaxed
#define LOAD(word) atomic_load_explicit(&(word), RELAXED)
#define STORE(word, value) atomic_store_explicit(&(word), value, RELAXED)
#define ADD(word, value) STORE(word, LOAD(word) + (value)) /* each word has one writer */
#define INLINE static inline __attribute__((always_inline))

struct ring_ops drive_user;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

INLINE void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

INLINE void look_again(uint32_t *looks)
{
    if (++*looks % YIELD_AFTER == 0)
        sched_yield();
    else
        relax();
}

INLINE void entry_make(struct user_ring_entry *e, uint64_t number, uint64_t seed)
{
    e->word[0] = number;
    e->word[1] = number * UINT64_C(0x9e3779b97f4a7c15) + seed;
    e->word[2] = (number ^ seed) * UINT64_C(0xc2b2ae3d27d4eb4f) + 1;
}

INLINE bool entry_is(const struct user_ring_entry *e, uint64_t number, uint64_t seed)
{
    struct user_ring_entry wanted;
    entry_make(&wanted, number, seed);
    return e->word[0] == wanted.word[0] && e->word[1] == wanted.word[1] &&
           e->word[2] == wanted.word[2];
}

/* ---- ours, by the same interface ----------------------------------------------------------- */

struct ours {
    uint64_t bytes;
    uint64_t unused[7];
    struct coalesced_ring ring;
};

static struct ring_producer producer;
static struct ring_consumer consumer;

static size_t ours_size(uint32_t entries)
{
    return sizeof(struct ours) + (entries + 1) * sizeof(struct coalesced_slot);
}

static int ours_init(void *memory, uint32_t entries)
{
    struct ours *ours = memory;
    ours->bytes = ours_size(entries) - offsetof(struct ours, ring);
    return 0;
}

static int ours_attach(void *memory, int is_producer)
{
    struct ours *ours = memory;
    return is_producer ? ring_producer_init(&producer, &ours->ring, ours->bytes)
                       : ring_consumer_init(&consumer, &ours->ring, ours->bytes);
}

INLINE int ours_push_many(void *memory, const struct user_ring_entry *entries, uint32_t count)
{
    (void)memory;
    uint32_t i = 0;
    enum ring_status status = RING_OK;
    /* The address has all bits of the number; a length of 8 keeps those of the data. */
    for (; i < count && status == RING_OK; i += status == RING_OK)
        status = ring_append(&producer, entries[i].word[0], 8, 0, entries[i].word[1]);
    ring_publish(&producer);
    return status < 0 ? (int)status : (int)i;
}

INLINE int ours_push(void *memory, const struct user_ring_entry *entry)
{
    return ours_push_many(memory, entry, 1);
}

/* The third word does not travel: its 64 bits are the entry's len and pio. */
static uint64_t our_seed;

INLINE int ours_pop_many(void *memory, struct user_ring_entry *entries, uint32_t most)
{
    (void)memory;
    struct coalesced_entry *out = (struct coalesced_entry *)(void *)entries;
    uint32_t count;
    enum ring_status status = ring_peek(&consumer, out, most, &count);
    if (status < 0)
        return (int)status;
    if (!count)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t number = out[i].phys_addr, data = out[i].data;
        entry_make(&entries[i], number, our_seed);
        entries[i].word[1] = data;
    }
    ring_commit(&consumer, count);
    return (int)count;
}

INLINE int ours_pop(void *memory, struct user_ring_entry *entry)
{
    return ours_pop_many(memory, entry, 1);
}

const struct ring_ops drive_ours = {
    .size = ours_size,
    .init = ours_init,
    .push = ours_push,
    .pop = ours_pop,
    .push_many = ours_push_many,
    .pop_many = ours_pop_many,
    .attach = ours_attach,
};

/* ---- the producer -------------------------------------------------------------------------- */

/* Before a single entry: until the last was taken, then a moment of random length. */
static bool wait_for_turn(const struct drive_job *job, uint64_t *chance)
{
    struct control *c = job->control;
    uint32_t looks = 0;
    while (LOAD(c->next) < LOAD(c->pushed)) {
        if (LOAD(c->stop))
            return false;
        ADD(c->producer_calls, 1); /* it waits for the consumer: no hang of this side */
        look_again(&looks);
    }
    *chance = *chance * UINT64_C(6364136223846793005) + 1442695040888963407u;
    for (uint32_t left = (uint32_t)(*chance >> 33) % job->pause; left; left--)
        relax();
    return true;
}

INLINE enum drive_status produce(const struct ring_ops *ops, const struct drive_job *job)
{
    struct control *c = job->control;
    struct user_ring_entry batch[BATCH_MOST];
    uint64_t number = LOAD(c->pushing), chance = job->seed ^ number;
    uint32_t looks = 0;
    while (number < job->until && !LOAD(c->stop)) {
        uint64_t left = job->until - number;
        uint32_t count = left < job->burst ? (uint32_t)left : job->burst;
        int done;
        if (job->pause && !wait_for_turn(job, &chance))
            break;
        for (uint32_t i = 0; i < count; i++)
            entry_make(&batch[i], number + i, job->seed);
        STORE(c->pushing, number + count);
        if (job->pause)
            STORE(c->pushed_at, now_ns());
        if (count == 1 || !ops->push_many)
            count = 1, done = ops->push(job->memory, batch);
        else
            done = ops->push_many(job->memory, batch, count);
        ADD(c->producer_calls, 1);
        if (done < 0)
            return DRIVE_REFUSED;
        if ((uint32_t)done > count)
            return DRIVE_NONSENSE;
        number += (uint32_t)done;
        if (job->pause)
            STORE(c->pushed_by, now_ns());
        atomic_store_explicit(&c->pushed, number, memory_order_release);
        if (done)
            looks = 0;
        else
            look_again(&looks);
    }
    return DRIVE_OK;
}

/* ---- the consumer -------------------------------------------------------------------------- */

static uint64_t overlap(uint64_t from, uint64_t to, uint64_t gap_from, uint64_t gap_to)
{
    uint64_t low = from > gap_from ? from : gap_from, high = to < gap_to ? to : gap_to;
    return high > low ? high - low : 0;
}

/* An entry that is not the expected one. */
static __attribute__((noinline)) uint64_t judge(const struct drive_job *job,
                                                const struct user_ring_entry *e, uint64_t expected)
{
    struct control *c = job->control;
    uint64_t number = e->word[0];
    if (!job->strict)
        return number < job->until ? number + 1 : expected;
    if (!entry_is(e, number, job->seed) || number >= job->until) {
        ADD(c->torn, 1);
        return expected + 1;
    }
    if (number > expected) {
        uint64_t excused = overlap(expected, number, LOAD(c->gap_from), LOAD(c->gap_to));
        ADD(c->lost, number - expected - excused);
        return number + 1;
    }
    if (LOAD(c->seen[number % SEEN]) == number + 1) {
        if (number >= LOAD(c->again_from) && number < LOAD(c->gap_to))
            ADD(c->redelivered, 1);
        else
            ADD(c->duplicated, 1);
    } else if (!overlap(number, number + 1, LOAD(c->gap_from), LOAD(c->gap_to))) {
        ADD(c->reordered, 1);
        ADD(c->lost, LOAD(c->lost) ? (uint64_t)-1 : 0);
    }
    return expected;
}

INLINE uint64_t check(const struct drive_job *job, const struct user_ring_entry *batch,
                      uint32_t count, uint64_t expected)
{
    struct control *c = job->control;
    for (uint32_t i = 0; i < count; i++) {
        if (entry_is(&batch[i], expected, job->seed))
            expected++;
        else
            expected = judge(job, &batch[i], expected);
        STORE(c->seen[batch[i].word[0] % SEEN], batch[i].word[0] + 1);
    }
    return expected;
}

static void take_latency(struct control *c)
{
    uint64_t at = LOAD(c->samples), ns = now_ns() - LOAD(c->pushed_at);
    c->latency[at % SAMPLES] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
    STORE(c->samples, at + 1);
}

/* Sleep; then look whether the entry of the one who should have woken us had long been there. */
static void sleep_for_news(const struct ring_ops *ops, const struct drive_job *job)
{
    struct control *c = job->control;
    ADD(c->waits, 1);
    ops->wait(job->memory, job->wait);
    ADD(c->consumer_calls, 1);
    /* Nearly as long as it may sleep: the time woke it, not the push. */
    uint64_t stale = (uint64_t)job->wait * 750000u;
    if (atomic_load_explicit(&c->pushed, memory_order_acquire) > LOAD(c->next) &&
        now_ns() - LOAD(c->pushed_by) > stale)
        ADD(c->slept_through, 1);
}

INLINE enum drive_status consume(const struct ring_ops *ops, const struct drive_job *job)
{
    struct control *c = job->control;
    struct user_ring_entry batch[BATCH_MOST];
    uint64_t expected = LOAD(c->next);
    uint32_t looks = 0, most = ops->pop_many ? job->burst : 1;
    STORE(c->popping, most);
    while (expected < job->until && !(LOAD(c->stop) && expected >= LOAD(c->pushed))) {
        int got =
            most == 1 ? ops->pop(job->memory, batch) : ops->pop_many(job->memory, batch, most);
        ADD(c->consumer_calls, 1);
        if (got < 0)
            return DRIVE_REFUSED;
        if ((uint32_t)got > most)
            return DRIVE_NONSENSE;
        if (got) {
            if (job->pause)
                take_latency(c);
            expected = check(job, batch, (uint32_t)got, expected);
            atomic_store_explicit(&c->next, expected, memory_order_release);
            looks = 0;
        } else if (LOAD(c->stop) && !job->strict) {
            break;
        } else if (job->wait && ops->wait) {
            sleep_for_news(ops, job);
        } else {
            look_again(&looks);
        }
    }
    return DRIVE_OK;
}

/* ---- which ring ---------------------------------------------------------------------------- */

enum drive_status drive_produce(int ring, const struct drive_job *job)
{
    return ring == RING_FLOOR ? produce(&drive_ours, job)
                              : produce(ring == RING_OURS ? &drive_ours : &drive_user, job);
}

enum drive_status drive_consume(int ring, const struct drive_job *job)
{
    our_seed = job->seed;
    return ring == RING_FLOOR ? consume(&drive_ours, job)
                              : consume(ring == RING_OURS ? &drive_ours : &drive_user, job);
}

/* The waits of queued writes, calculated from the guest's notes, which are checked. */
#define _GNU_SOURCE
#include "core.h"

#define NEAR 4096u /* bytes between addresses that make one range */

void waits_follow(struct wait_counts *w, void *run_page)
{
    w->shared = run_waits_of(run_page);
    w->looked_at = w->looked_before = now_ns();
}

static uint32_t bucket_of(uint64_t ns)
{
    if (ns < 16)
        return (uint32_t)ns;
    uint32_t octave = 63u - (uint32_t)__builtin_clzll(ns);
    return (octave - 3) * 16 + (uint32_t)(ns >> (octave - 4) & 15);
}

static uint64_t bucket_end(uint32_t bucket)
{
    if (bucket < 16)
        return bucket;
    uint32_t shift = bucket / 16 - 1;
    return ((uint64_t)(16 + bucket % 16) << shift) + ((UINT64_C(1) << shift) - 1);
}

uint64_t waits_percentile(const struct wait_counts *w, uint64_t percent)
{
    uint64_t most = w->taken - w->taken * (100 - percent) / 100, seen = 0;
    for (uint32_t i = 0; i < WAIT_BUCKETS; i++) {
        seen += w->bucket[i];
        if (seen >= most)
            return bucket_end(i) < w->longest ? bucket_end(i) : w->longest;
    }
    return w->longest;
}

/* The guest slept while this entry was queued. */
static void add_to_range(struct wait_counts *w, const struct coalesced_entry *e, uint64_t ns)
{
    uint64_t last = e->phys_addr + (e->len - 1);
    struct wait_range *r = NULL;
    for (uint32_t i = 0; i < w->ranges && !r; i++) {
        struct wait_range *old = &w->range[i];
        if (old->pio == e->pio && e->phys_addr + NEAR > old->low && e->phys_addr < old->high + NEAR)
            r = old;
    }
    if (!r && w->ranges < WAIT_RANGES) {
        r = &w->range[w->ranges++];
        *r = (struct wait_range){.low = e->phys_addr, .high = last, .pio = e->pio};
    }
    if (!r)
        return; /* more ranges than anybody reads */
    r->low = e->phys_addr < r->low ? e->phys_addr : r->low;
    r->high = last > r->high ? last : r->high;
    r->ns = ns > r->ns ? ns : r->ns;
    r->writes++;
}

static void add(struct wait_counts *w, const struct coalesced_entry *entries, uint64_t count,
                uint64_t since, uint64_t slept)
{
    uint64_t ns = w->looked_at - since;
    if (count == 0)
        return;
    w->bucket[bucket_of(ns)] += count;
    if (ns > w->longest) {
        w->longest = ns;
        w->longest_entry = entries[0];
    }
    for (uint64_t i = 0; i < count && w->taken + i < slept; i++)
        add_to_range(w, &entries[i], ns);
    w->taken += count;
}

void waits_account(struct wait_counts *w, const struct coalesced_entry *batch, uint32_t count)
{
    uint64_t first = w->taken, end = first + count;
    uint64_t slept = atomic_load_explicit(&w->shared->slept, memory_order_relaxed);
    uint64_t noted = atomic_load_explicit(&w->shared->noted, memory_order_relaxed);
    /* An entry that the last look did not find came after it. */
    uint64_t since = w->looked_before;
    for (uint64_t i = 0; i < noted && i < WAIT_NOTES; i++) {
        uint64_t number = atomic_load_explicit(&w->shared->note[i].number, memory_order_relaxed);
        uint64_t ns = atomic_load_explicit(&w->shared->note[i].ns, memory_order_relaxed);
        if (number >= end)
            break;
        if (number > w->taken)
            add(w, batch + (w->taken - first), number - w->taken, since, slept);
        if (ns > since)
            since = ns < w->looked_at ? ns : w->looked_at;
    }
    add(w, batch + (w->taken - first), end - w->taken, since, slept);
    w->looked_before = w->looked_at;
}

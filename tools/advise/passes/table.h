/* A hash table with keys of three words and values of one size, which begin as zero. */
#ifndef COALESCED_ADVISE_TABLE_H
#define COALESCED_ADVISE_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct key {
    uint64_t a, b, c;
};

struct slot {
    struct key key;
    uint64_t used;
    /* the value follows */
};

struct table {
    size_t value, used, room; /* room: a power of two */
    char *slots;
};

static inline struct slot *slot_at(const struct table *t, size_t place)
{
    return (struct slot *)(t->slots + place * (sizeof(struct slot) + t->value));
}

static inline struct slot *slot_of(const struct table *t, struct key k)
{
    uint64_t hash =
        k.a * 0x9e3779b97f4a7c15u ^ k.b * 0xc2b2ae3d27d4eb4fu ^ (k.c + 1) * 0x165667b19e3779f9u;
    hash ^= hash >> 29;
    hash *= 0xbf58476d1ce4e5b9u;
    size_t place = (hash ^ hash >> 32) & (t->room - 1);
    struct slot *slot = slot_at(t, place);
    while (slot->used && memcmp(&slot->key, &k, sizeof k)) {
        place = (place + 1) & (t->room - 1);
        slot = slot_at(t, place);
    }
    return slot;
}

static inline void *value_of(struct slot *slot)
{
    return slot + 1;
}

static inline bool table_grow(struct table *t)
{
    struct table larger = {t->value, t->used, t->room ? t->room * 2 : 64, NULL};
    larger.slots = calloc(larger.room, sizeof(struct slot) + t->value);
    if (!larger.slots)
        return false;
    for (size_t n = 0; n < t->room; n++) {
        struct slot *slot = slot_at(t, n);
        if (slot->used)
            memcpy(slot_of(&larger, slot->key), slot, sizeof *slot + t->value);
    }
    free(t->slots);
    *t = larger;
    return true;
}

/* The value of a key, which is added if it is new; NULL: out of memory. */
static inline void *table_add(struct table *t, struct key k)
{
    if (t->used * 4 >= t->room * 3 && !table_grow(t))
        return NULL;
    struct slot *slot = slot_of(t, k);
    if (!slot->used) {
        slot->key = k;
        slot->used = 1;
        t->used++;
    }
    return value_of(slot);
}

/* The value of a key; NULL: it is not there. */
static inline void *table_find(const struct table *t, struct key k)
{
    struct slot *slot = t->room ? slot_of(t, k) : NULL;
    return slot && slot->used ? value_of(slot) : NULL;
}

#endif

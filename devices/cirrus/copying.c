/* Copies, forwards and backwards, opaque and with a transparent colour. */
#include "engine.h"

/* All ones in the units of a word that are zero, zeros in the others. */
static uint64_t zero_units(uint64_t word, int unit)
{
    uint64_t top = unit == 1 ? 0x8080808080808080u : 0x8000800080008000u;
    uint64_t found = ~(((word & ~top) + ~top) | word | ~top);
    return (found >> (8 * unit - 1)) * (unit == 1 ? 0xffu : 0xffffu);
}

static uint64_t copied(const struct copy *c, uint64_t s, uint64_t d)
{
    uint64_t result = combine(&c->rop, s, d);
    return c->keyed ? result ^ ((result ^ d) & zero_units(result ^ c->key, c->unit)) : result;
}

static inline unsigned load_unit(const uint8_t *from, int unit)
{
    return unit == 1 ? *from : (unsigned)(from[0] | from[1] << 8);
}

static inline void store_unit(uint8_t *to, unsigned value, int unit)
{
    to[0] = (uint8_t)value;
    if (unit == 2)
        to[1] = (uint8_t)(value >> 8);
}

static inline unsigned copied_unit(const struct copy *c, unsigned s, unsigned d, int unit)
{
    unsigned mask = unit == 1 ? 0xff : 0xffff;
    unsigned result = (unsigned)combine(&c->rop, s, d) & mask;
    return c->keyed && result == (c->key & mask) ? d : result;
}

/* Copy unit by unit. Of what is read `lag` units after it was written the last two are at hand: the
 * processor would take longer to find it in memory. */
static inline void copy_units(const struct copy *c, uint8_t *to, const uint8_t *from, int64_t size,
                              int64_t lag, int unit)
{
    int step = c->backwards ? -unit : unit;
    unsigned next = 0, last = 0;
    if (lag == 1 || lag == 2)
        next = load_unit(from, unit), last = load_unit(from + (lag == 2 ? step : 0), unit);
    for (; size > 0; size -= unit, to += step, from += step) {
        unsigned s = lag == 1 ? last : lag == 2 ? next : load_unit(from, unit);
        next = last;
        last = copied_unit(c, s, load_unit(to, unit), unit);
        store_unit(to, last, unit);
    }
}

static void copy_slowly(const struct copy *c, uint8_t *to, const uint8_t *from, int64_t size,
                        int64_t apart)
{
    if (c->unit == 1)
        copy_units(c, to, from, size, apart, 1);
    else
        copy_units(c, to, from, size, apart / 2, 2);
}

/* A word with its units in the order of copying. */
static uint64_t ordered(const struct copy *c, uint64_t word)
{
    return c->backwards ? __builtin_bswap64(word) : word;
}

/* Copy bytes that repeat those `apart` bytes before them, 1 to 7, without a transparent colour.
 *
 * A byte becomes (source & a) ^ b. Such steps compose: after each doubling a byte depends on
 * one twice as far before it, until all of a word depend on what was before the word. */
static void repeat(const struct copy *c, uint8_t *to, const uint8_t *from, int64_t size, int apart)
{
    int block = 8 / apart * apart, below = c->backwards ? 8 - c->unit : 0;
    uint64_t first = ((uint64_t)1 << 8 * apart) - 1, every = 0;
    uint64_t kept = block == 8 ? 0 : ~(((uint64_t)1 << 8 * block) - 1);
    for (int at = 0; at < block; at += apart)
        every |= (uint64_t)1 << 8 * at;
    int step = c->backwards ? -block : block;
    uint64_t s = ordered(c, load(from - below)) & first;
    uint64_t d, following = load(to - below);
    for (; size >= 8; size -= block, to += step) {
        d = ordered(c, following);
        if (size >= block + 8)
            following = load(to + step - below); /* before a store that reaches into it */
        uint64_t a = c->rop.source ^ (d & c->rop.both), b = c->rop.none ^ (d & c->rop.target);
        for (int shift = 8 * apart; shift < 64; shift *= 2) {
            b ^= a & (b << shift);
            a &= (a << shift) | (((uint64_t)1 << shift) - 1);
        }
        uint64_t result = ((s * every) & a) ^ b;
        s = result >> 8 * (block - apart) & first;
        store(to - below, ordered(c, (d & kept) | (result & ~kept)));
    }
    copy_slowly(c, to, c->backwards ? to + apart : to - apart, size, 8);
}

/* Copy bytes that wrap neither at `to` nor at `from`; with backward copies these are the last units. */
static void copy_straight(const struct copy *c, uint8_t *to, const uint8_t *from, int64_t size)
{
    int64_t apart = c->backwards ? from - to : to - from;
    bool near = c->source.at == c->memory.at && apart > 0 && apart < 8;
    int step = c->backwards ? -8 : 8, below = c->backwards ? 8 - c->unit : 0;
    if (near && !c->keyed && size >= 16) {
        repeat(c, to, from, size, (int)apart);
        return;
    }
    if (!near)
        for (; size >= 8; size -= 8, to += step, from += step)
            store(to - below, copied(c, load(from - below), load(to - below)));
    copy_slowly(c, to, from, size, near ? apart : 8);
}

static int64_t straight(const struct copy *c, int64_t at, int64_t size)
{
    return c->backwards ? at + c->unit : size - at;
}

static void copy_row(const struct copy *c, int64_t dst, int64_t src)
{
    int64_t size = c->width * c->unit;
    /* A unit lies at a multiple of its size: where its address is none, at the one below. */
    dst = wrapped(dst, c->memory.size) & -(int64_t)c->unit;
    src = wrapped(src, c->source.size) & -(int64_t)c->unit;
    while (size > 0) {
        int64_t part = size;
        if (part > straight(c, dst, c->memory.size))
            part = straight(c, dst, c->memory.size);
        if (part > straight(c, src, c->source.size))
            part = straight(c, src, c->source.size);
        copy_straight(c, c->memory.at + dst, c->source.at + src, part);
        size -= part;
        dst = wrapped(dst + (c->backwards ? -part : part), c->memory.size);
        src = wrapped(src + (c->backwards ? -part : part), c->source.size);
    }
}

void copy_rows(const struct copy *c)
{
    int direction = c->backwards ? -1 : 1;
    int64_t first = c->backwards ? 1 - c->unit : 0; /* a backward copy gives a unit's last byte */
    for (int64_t row = 0; row < c->height; row++)
        copy_row(c, c->dst + first + direction * row * c->dst_stride,
                 c->src + first + direction * row * c->src_stride);
}

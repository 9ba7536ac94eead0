/* The blitter's inner loops, in the order in which QEMU's engine touches memory.
 *
 * Blits may run over their own source, and drivers rely on what comes of it; so what a step reads
 * depends on what the steps before it have written. A step here takes eight bytes of a copy, or eight
 * pixels, wherever that makes no difference, and one unit where it does.
 *
 * Memory and sources wrap at their ends. No address is used before it has been reduced to their size. */
#ifndef CIRRUS_ENGINE_H
#define CIRRUS_ENGINE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define PIXELS 8     /* of a step: the bits of a byte, the columns of a pattern */
#define MOST_BYTES 4 /* of a pixel */

struct bytes {
    uint8_t *at;
    int64_t size;
};

/* A raster operation, bit by bit, is none ^ s & source ^ d & target ^ s & d & both. */
struct rop {
    uint64_t none, source, target, both;
};

struct copy {
    struct bytes memory, source;
    struct rop rop;
    int64_t dst, dst_stride, src, src_stride; /* bytes; backward copies stride down */
    int64_t width, height;                    /* units, rows */
    int unit;                                 /* bytes, 1 or 2 */
    bool backwards, keyed;
    uint64_t key; /* the transparent colour in every unit of the word */
};

struct drawing {
    struct bytes memory, source;
    struct rop rop;
    int64_t dst, pitch, src;
    int64_t count, height; /* pixels, rows */
    int pixel;
    uint64_t words[MOST_BYTES];  /* eight pixels of the colour that is 1, or of a pattern */
    uint64_t others[MOST_BYTES]; /* eight of the colour that is 0 */
    bool transparent;            /* bits that are 0 leave the destination */
};

static inline int64_t wrapped(int64_t at, int64_t size)
{
    at %= size;
    return at < 0 ? at + size : at;
}

static inline uint64_t load(const uint8_t *from)
{
    uint64_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

static inline void store(uint8_t *to, uint64_t word)
{
    memcpy(to, &word, sizeof word);
}

static inline uint64_t combine(const struct rop *rop, uint64_t s, uint64_t d)
{
    return rop->none ^ (s & rop->source) ^ (d & rop->target) ^ (s & d & rop->both);
}

void copy_rows(const struct copy *c);

/* Once, before the others. */
void prepare_drawing(void);

/* Expand rows of bits, `size` bytes each; `shift` bits of the first are left out, 8 at most. */
void expand_rows(const struct drawing *g, int64_t size, int shift, uint8_t flip);

/* Tile rows with eight lines of eight bits; each line is fetched when its row begins. */
void tile_bits(const struct drawing *g, int top, int column, uint8_t flip);

/* Tile rows with eight lines of eight pixels, `lines` bytes apart. A skip of 24-bit pixels beyond the
 * pattern takes the first pixel from behind its line, as QEMU does. */
void tile_pixels(struct drawing *g, int lines, int top, int skip);

#endif

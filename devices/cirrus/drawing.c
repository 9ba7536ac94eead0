/* Fills, patterns and colour expansion. */
#include "engine.h"

/* By bytes per pixel and byte: its bits, highest first, each as the bytes of a pixel. */
static uint8_t spread[MOST_BYTES + 1][256][PIXELS * MOST_BYTES];

void prepare_drawing(void)
{
    for (int pixel = 1; pixel <= MOST_BYTES; pixel++)
        for (int bits = 0; bits < 256; bits++)
            for (int at = 0; at < PIXELS * pixel; at++)
                spread[pixel][bits][at] = bits >> (PIXELS - 1 - at / pixel) & 1 ? 0xff : 0;
}

static uint8_t fetched(const struct drawing *g, int64_t at)
{
    return g->source.at[wrapped(at, g->source.size)];
}

static void paint_byte(const struct drawing *g, int64_t at, uint8_t value)
{
    uint8_t *to = g->memory.at + wrapped(at, g->memory.size);
    *to = (uint8_t)combine(&g->rop, value, *to);
}

/* Paint the pixels [first, stop) of eight at `at`, by the bits of a byte. */
static void paint_few(const struct drawing *g, int64_t at, uint8_t bits, int first, int stop)
{
    const uint8_t *ones = (const uint8_t *)g->words, *zeros = (const uint8_t *)g->others;
    for (int byte = first * g->pixel; byte < stop * g->pixel; byte++) {
        bool one = spread[g->pixel][bits][byte];
        if (one || !g->transparent)
            paint_byte(g, at + byte, one ? ones[byte] : zeros[byte]);
    }
}

/* Paint eight pixels at `at` by the bits of a byte. */
static void paint_eight(const struct drawing *g, int64_t at, uint8_t bits)
{
    at = wrapped(at, g->memory.size);
    if (at + PIXELS * g->pixel > g->memory.size) {
        paint_few(g, at, bits, 0, PIXELS);
        return;
    }
    const uint8_t *mask = spread[g->pixel][bits];
    uint8_t *to = g->memory.at + at;
    for (int word = 0; word < g->pixel; word++, to += 8, mask += 8) {
        uint64_t ones = load(mask), d = load(to);
        uint64_t s = g->others[word] ^ ((g->words[word] ^ g->others[word]) & ones);
        uint64_t result = combine(&g->rop, s, d);
        store(to, g->transparent ? d ^ ((result ^ d) & ones) : result);
    }
}

/* The start of a row, at a multiple of the unit in which its pixels are written. */
static int64_t row_start(const struct drawing *g, int64_t row)
{
    int64_t unit = g->pixel == 3 ? 1 : g->pixel;
    return wrapped(g->dst + row * g->pitch, g->memory.size) & -unit;
}

void expand_rows(const struct drawing *g, int64_t size, int shift, uint8_t flip)
{
    for (int64_t row = 0; row < g->height; row++) {
        int64_t at = row_start(g, row) - shift * g->pixel, src = g->src + row * size;
        int64_t stop = g->count + shift;
        for (int64_t bit = 0; bit < stop; bit += PIXELS, at += PIXELS * g->pixel) {
            uint8_t bits = fetched(g, src + bit / PIXELS) ^ flip;
            int first = bit < shift ? shift - (int)bit : 0;
            if (first == 0 && stop - bit >= PIXELS)
                paint_eight(g, at, bits);
            else
                paint_few(g, at, bits, first, stop - bit < PIXELS ? (int)(stop - bit) : PIXELS);
        }
    }
}

void tile_bits(const struct drawing *g, int top, int column, uint8_t flip)
{
    for (int64_t row = 0; row < g->height; row++) {
        int64_t at = row_start(g, row), left = g->count;
        unsigned line = fetched(g, g->src + (top + row) % 8) ^ flip;
        uint8_t bits = (uint8_t)(line << column | line >> (8 - column));
        for (; left >= PIXELS; left -= PIXELS, at += PIXELS * g->pixel)
            paint_eight(g, at, bits);
        paint_few(g, at, bits, 0, (int)left);
    }
}

static void paint_from(const struct drawing *g, int64_t at, int64_t from)
{
    uint8_t value[MOST_BYTES];
    for (int byte = 0; byte < g->pixel; byte++)
        value[byte] = fetched(g, from + byte);
    for (int byte = 0; byte < g->pixel; byte++)
        paint_byte(g, at + byte, value[byte]);
}

/* Load eight pixels of a line of a pattern, its `column` first. */
static void load_line(struct drawing *g, int64_t line, int column)
{
    uint8_t *to = (uint8_t *)g->words;
    for (int at = 0; at < PIXELS * g->pixel; at++)
        to[at] = fetched(g, line + (column * g->pixel + at) % (PIXELS * g->pixel));
}

/* Tile a row with the eight pixels of `line`, from `column` on, which it may paint over. */
static void tile_row(struct drawing *g, int64_t at, int64_t line, int column, int64_t left)
{
    int size = PIXELS * g->pixel;
    bool alike = g->source.at == g->memory.at;
    load_line(g, line, column);
    for (; left > 0; left -= PIXELS, at += size) {
        int64_t apart = wrapped(line - at, g->memory.size);
        if (left >= PIXELS && !(alike && (apart < size || apart > g->memory.size - size))) {
            paint_eight(g, at, 0xff);
            continue;
        }
        for (int pixel = 0; pixel < (left < PIXELS ? left : PIXELS); pixel++)
            paint_from(g, at + pixel * g->pixel, line + (column + pixel) % PIXELS * g->pixel);
        load_line(g, line, column);
    }
}

void tile_pixels(struct drawing *g, int lines, int top, int skip)
{
    for (int64_t row = 0; row < g->height; row++) {
        int64_t at = row_start(g, row), line = g->src + (top + row) % 8 * lines, left = g->count;
        int column = skip;
        if (skip >= PIXELS && left > 0) {
            paint_from(g, at, line + skip * g->pixel);
            at += g->pixel;
            left--;
            column++;
        }
        tile_row(g, at, line, column % PIXELS, left);
    }
}

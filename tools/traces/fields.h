/* Matches a line with a pattern, and keeps its fields in an event.
 *
 * A pattern is the text of an event from its first word on, with fields: % and a column, then for a
 * number its notation. Columns: a address, v value, s size, c count, r region, t thread. Notations:
 * x hexadecimal digits, u decimal digits, d the same or negative, p 0x and digits or (nil), w one of
 * 1, 2, 4 and 8.
 * %T is a time in seconds, %n a name up to a quote, %w a word, %_ blanks if there are any, %* the
 * rest of the line; what follows %o may be missing.
 */
#ifndef COALESCED_TRACES_FIELDS_H
#define COALESCED_TRACES_FIELDS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { NAME_MAX_LENGTH = 96 };

struct event {
    uint64_t address, value, region, name; /* name: a hash */
    int64_t time;                          /* nanoseconds, -1 unknown */
    int64_t line;
    int32_t thread;
    uint32_t count;
    uint32_t name_start;
    uint16_t name_length;
    uint8_t size, kind;
};

struct text {
    const char *at, *end;
};

static inline bool hexadecimal(struct text *t, uint64_t *into)
{
    const char *start = t->at;
    uint64_t value = 0;
    for (; t->at < t->end; t->at++) {
        unsigned c = (unsigned char)*t->at;
        unsigned digit = c - '0' < 10u ? c - '0' : c - 'a' < 6u ? c - 'a' + 10 : 16;
        if (digit == 16)
            break;
        value = value << 4 | digit;
    }
    *into = value;
    return t->at > start && t->at - start <= 16;
}

static inline bool decimal(struct text *t, uint64_t *into)
{
    const char *start = t->at;
    uint64_t value = 0;
    for (; t->at < t->end && (unsigned)(*t->at - '0') < 10u; t->at++)
        value = value * 10 + (unsigned)(*t->at - '0');
    *into = value;
    return t->at > start && t->at - start <= 18;
}

static inline bool literal(struct text *t, const char *what, size_t length)
{
    if ((size_t)(t->end - t->at) < length || memcmp(t->at, what, length))
        return false;
    t->at += length;
    return true;
}

static inline bool number(struct text *t, char notation, uint64_t *into)
{
    if (notation == 'x')
        return hexadecimal(t, into);
    if (notation == 'u')
        return decimal(t, into);
    if (notation == 'p') {
        *into = 0;
        return literal(t, "(nil)", 5) || (literal(t, "0x", 2) && hexadecimal(t, into));
    }
    if (notation == 'w')
        return decimal(t, into) && !(*into & (*into - 1));
    bool negative = literal(t, "-", 1);
    bool good = decimal(t, into);
    *into = negative ? 0 - *into : *into;
    return good;
}

/* Seconds with three to nine digits behind the point. */
static inline bool seconds(struct text *t, int64_t *into)
{
    uint64_t whole, part;
    if (!decimal(t, &whole) || !literal(t, ".", 1))
        return false;
    const char *start = t->at;
    if (!decimal(t, &part) || t->at - start > 9 || whole > 1u << 31)
        return false;
    for (long digits = t->at - start; digits < 9; digits++)
        part *= 10;
    *into = (int64_t)(whole * 1000000000u + part);
    return true;
}

static inline bool quoted(struct text *t, struct event *e, const char *block)
{
    const char *start = t->at;
    uint64_t hash = 14695981039346656037u;
    for (; t->at < t->end && *t->at != '\''; t->at++)
        hash = (hash ^ (unsigned char)*t->at) * 1099511628211u;
    e->name = hash;
    e->name_start = (uint32_t)(start - block);
    e->name_length = (uint16_t)(t->at - start);
    return t->at - start <= NAME_MAX_LENGTH;
}

static inline bool stored(struct event *e, char column, uint64_t value)
{
    switch (column) {
    case 'a':
        e->address = value;
        return true;
    case 'v':
        e->value = value;
        return true;
    case 'r':
        e->region = value;
        return true;
    case 's':
        e->size = (uint8_t)value;
        return value >= 1 && value <= 8;
    case 'c':
        e->count = (uint32_t)value;
        return value >= 1 && value <= UINT32_MAX;
    case 't':
        value = value == UINT32_MAX ? UINT64_MAX : value;
        e->thread = (int32_t)value;
        return value + 1 <= 1u << 30;
    default:
        return false;
    }
}

static inline bool blanks(struct text *t)
{
    while (t->at < t->end && *t->at == ' ')
        t->at++;
    return true;
}

static inline bool word(struct text *t)
{
    const char *start = t->at;
    while (t->at < t->end && (unsigned char)*t->at > ' ')
        t->at++;
    return t->at > start;
}

/* One field of a pattern; `*spec` is behind the percent sign and moves behind the field. */
static inline bool field(struct text *t, const char **spec, struct event *e, const char *block)
{
    uint64_t value;
    char column = *(*spec)++;
    if (column == 'T')
        return seconds(t, &e->time);
    if (column == 'n')
        return quoted(t, e, block);
    if (column == 'w')
        return word(t);
    if (column == '_')
        return blanks(t);
    if (column == '*') {
        t->at = t->end;
        return true;
    }
    return number(t, *(*spec)++, &value) && stored(e, column, value);
}

static inline bool matches(struct text t, const char *spec, struct event *e, const char *block)
{
    while (*spec) {
        if (*spec == '%') {
            if (*++spec == 'o') {
                blanks(&t);
                if (t.at == t.end)
                    break;
                spec++;
            } else if (!field(&t, &spec, e, block))
                return false;
        } else if (t.at == t.end || *t.at++ != *spec++)
            return false;
    }
    blanks(&t);
    return t.at == t.end && e->address + (e->size ? e->size - 1u : 0) >= e->address;
}

#endif

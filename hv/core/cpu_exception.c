/*
 * The details of an exception: Unicorn reports only the vector. The rest is in a copy of its
 * processor's state.
 *
 * The place of the error code in that copy depends on Unicorn's version. Before anything else runs,
 * a probe finds it by an exception whose error code is known.
 */
#define _GNU_SOURCE
#include "cpu.h"

#include <stdlib.h>
#include <string.h>

enum { NONE = -1 };
#define PROBE_SELECTOR 0x7a58u /* beyond the limit of the probe's table */

/* The layout around the error code: whether an INT raised the exception is the next word. */
enum { INT_BEHIND_ERROR = sizeof(uint32_t) };

static int32_t word_at(const uint8_t *bytes, size_t offset)
{
    int32_t word;
    memcpy(&word, bytes + offset, sizeof word);
    return word;
}

/* The only offset whose word was one value before and is another after; 0 when there are others. */
static size_t find_change(const uint8_t *before, const uint8_t *after, size_t size, int32_t was,
                          int32_t is)
{
    size_t found = 0;
    for (size_t at = 0; at + sizeof is <= size; at += sizeof is)
        if (word_at(before, at) == was && word_at(after, at) == is) {
            if (found)
                return 0;
            found = at;
        }
    return found;
}

/* Load a selector from memory that is in no table; the state before lies in `before`. */
static int probe(CpuObject *c, uint8_t *page, uc_context *before)
{
    static const uint8_t load_ds[] = {0x8e, 0x1d, 0x80, 0, 0, 0}; /* mov ds, [0x80] */
    uint16_t selector = PROBE_SELECTOR;
    memset(page, 0, PAGE);
    memcpy(page, load_ds, sizeof load_ds);
    memcpy(page + 0x80, &selector, sizeof selector);
    int error = c->uc.mem_map_ptr(c->engine, 0, PAGE, UC_PROT_READ | UC_PROT_EXEC, page);
    if (error == UC_ERR_OK)
        error = c->uc.context_save(c->engine, before);
    if (error == UC_ERR_OK && c->uc.emu_start(c->engine, 0, PAGE, 0, 1) == UC_ERR_EXCEPTION)
        error = c->uc.context_save(c->engine, c->context);
    return error;
}

static int locate(CpuObject *c, uint8_t *page, uc_context *before)
{
    int error = probe(c, page, before);
    if (error == UC_ERR_OK)
        error = c->uc.context_restore(c->engine, before);
    if (error == UC_ERR_OK)
        error = c->uc.mem_unmap(c->engine, 0, PAGE);
    const uint8_t *was = (const uint8_t *)before, *is = (const uint8_t *)c->context;
    size_t size = c->uc.context_size(c->engine);
    c->error_at = find_change(was, is, size, 0, PROBE_SELECTOR);
    c->in_flight_at = find_change(was, is, size, NONE, GENERAL_PROTECTION);
    return error;
}

int cpu_prepare_exceptions(CpuObject *c)
{
    uc_context *before = NULL;
    uint8_t *page = aligned_alloc(PAGE, PAGE);
    int error = c->uc.context_alloc(c->engine, &c->context);
    if (error == UC_ERR_OK)
        error = c->uc.context_alloc(c->engine, &before);
    if (error == UC_ERR_OK && page)
        error = locate(c, page, before);
    if (before)
        c->uc.context_free(before);
    free(page);
    if (error != UC_ERR_OK)
        return cpu_error(c, "exceptions", error);
    if (c->error_at && c->in_flight_at)
        return 0;
    vcpu_take_gil(c->vcpu);
    PyErr_SetString(error_host, "unicorn: it keeps the error codes of exceptions elsewhere: "
                                "expected version 2.1");
    return -1;
}

bool cpu_take_exception(CpuObject *c, enum interrupt_kind *kind, uint32_t *error)
{
    static const int32_t none = NONE;
    uint8_t *state = (uint8_t *)c->context;
    if (c->uc.context_save(c->engine, c->context) != UC_ERR_OK)
        return false;
    *error = (uint32_t)word_at(state, c->error_at);
    *kind = word_at(state, c->error_at + INT_BEHIND_ERROR) ? SOFTWARE : EXCEPTION;
    if (word_at(state, c->in_flight_at) == NONE)
        return true;
    /* It is delivered here: for Unicorn it would be in flight until the next, a double fault. */
    memcpy(state + c->in_flight_at, &none, sizeof none);
    return c->uc.context_restore(c->engine, c->context) == UC_ERR_OK;
}

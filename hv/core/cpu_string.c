/*
 * REP STOS into a device: what is left of it behind its first elements is one bulk store.
 *
 * Unicorn executes it element by element, each as a block of its own; the second of them shows
 * where they go. No store to RAM comes between the elements of one instruction, so that their
 * entries may be published together: all of them are before the instruction ends or exits.
 */
#define _GNU_SOURCE
#include "cpu.h"

enum { AT_ONCE = 4096 }; /* elements between two looks for an interrupt, or for the VMM's wish */
#define FLAG_DF 0x400u

struct string {
    uint32_t mask; /* of its registers: 16 or 32 bits */
    uint32_t count, at;
};

/* Is a block the instruction REP STOS? It may have prefixes for the sizes of data and addresses. */
static bool is_rep_stos(const CpuObject *c, uint32_t block, uint32_t size, bool *resized)
{
    uint8_t code[4];
    bool repeated = false;
    if (size < 2 || size > sizeof code || !cpu_read(c, block, code, size))
        return false;
    for (uint32_t i = 0; i + 1 < size; i++) {
        repeated = repeated || code[i] == 0xf3;
        *resized = *resized || code[i] == 0x67;
        if (code[i] != 0xf3 && code[i] != 0x66 && code[i] != 0x67)
            return false;
    }
    return repeated && (code[size - 1] & 0xfe) == 0xaa;
}

/* The elements that lie in the region of the last one, before the address register wraps. */
static uint32_t elements(const CpuObject *c, const struct string *s)
{
    const struct cpu_store *last = &c->stored;
    uint64_t room = last->region->start + last->region->size - last->address;
    uint64_t most = room / last->size - 1;
    uint32_t wraps = (s->mask - s->at) / last->size;
    if (s->at < last->size) /* it has wrapped behind the last one: the next is elsewhere */
        return 0;
    most = most < wraps ? most : wraps;
    most = most < s->count ? most : s->count;
    return most < AT_ONCE ? (uint32_t)most : AT_ONCE;
}

static int fill(CpuObject *c, uint32_t count)
{
    VcpuObject *v = c->vcpu;
    const struct cpu_store *last = &c->stored;
    v->publish_every = PUBLISH_AT_LATEST;
    int result = vcpu_fill(v, last->address + last->size, last->size, count, last->value);
    v->publish_every = 1;
    v->op_index = -1;
    vm_ring_show(v->ring);
    return result;
}

int cpu_go_on_with_string(CpuObject *c, uint32_t block, uint32_t size)
{
    bool resized = false;
    if (block == c->no_string || cpu_get(c, UC_X86_REG_CR0) & CR0_PG ||
        cpu_get(c, UC_X86_REG_EFLAGS) & (FLAG_DF | FLAG_TF))
        return 0;
    if (!is_rep_stos(c, block, size, &resized)) {
        c->no_string = block;
        return 0;
    }
    uint32_t ecx = cpu_get(c, UC_X86_REG_ECX), edi = cpu_get(c, UC_X86_REG_EDI);
    struct string s = {.mask = cpu_code_is_wide(c) != resized ? UINT32_MAX : UINT16_MAX};
    s.count = ecx & s.mask;
    s.at = edi & s.mask;
    uint32_t count = elements(c, &s);
    if (!count || !c->vcpu->ring)
        return 0;
    cpu_set(c, UC_X86_REG_ECX, (ecx & ~s.mask) | (s.count - count));
    cpu_set(c, UC_X86_REG_EDI, (edi & ~s.mask) | (s.at + count * c->stored.size));
    return fill(c, count);
}

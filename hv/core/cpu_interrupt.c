/*
 * Entering the handler of an interrupt or exception, which Unicorn leaves to its user (Intel SDM
 * volume 3, 6.12 and 20.1.4).
 *
 * Real mode, and protected mode at privilege level 0; a handler at another level than the code
 * that it interrupts is none that can be entered.
 */
#define _GNU_SOURCE
#include "cpu.h"

enum { GATE_TRAP = 1, GATE_32 = 8 }; /* bits of a gate's type */

uint32_t cpu_get(const CpuObject *c, int reg)
{
    uint64_t value = 0; /* narrower registers leave its upper bytes */
    c->uc.reg_read(c->engine, reg, &value);
    return (uint32_t)value;
}

void cpu_set(const CpuObject *c, int reg, uint32_t value)
{
    uint64_t wide = value;
    c->uc.reg_write(c->engine, reg, &wide);
}

/* The physical address of a linear one; `access` is Unicorn's. */
static bool translate(const CpuObject *c, uint32_t address, int access, uint64_t *physical)
{
    *physical = address;
    if (!(cpu_get(c, UC_X86_REG_CR0) & CR0_PG))
        return true;
    return c->uc.vmem_translate &&
           c->uc.vmem_translate(c->engine, address, access, physical) == UC_ERR_OK;
}

bool cpu_read(const CpuObject *c, uint32_t address, void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        uint64_t physical;
        if (!translate(c, address + (uint32_t)i, UC_PROT_READ, &physical) ||
            c->uc.mem_read(c->engine, physical, (uint8_t *)bytes + i, 1) != UC_ERR_OK)
            return false;
    }
    return true;
}

static bool in_memory(const CpuObject *c, uint64_t physical)
{
    for (int i = 0; i < c->regions; i++)
        if (physical - c->region[i]->start < c->region[i]->size)
            return c->region[i]->host != NULL;
    return false;
}

bool cpu_read_memory(const CpuObject *c, uint32_t address, uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        uint64_t physical;
        if (!translate(c, address + (uint32_t)i, UC_PROT_READ, &physical) ||
            !in_memory(c, physical) || !cpu_read(c, address + (uint32_t)i, bytes + i, 1))
            return false;
    }
    return true;
}

bool cpu_write(const CpuObject *c, uint32_t address, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        uint64_t physical;
        if (!translate(c, address + (uint32_t)i, UC_PROT_WRITE, &physical) ||
            c->uc.mem_write(c->engine, physical, (const uint8_t *)bytes + i, 1) != UC_ERR_OK)
            return false;
    }
    return true;
}

/* The base of a segment, and whether its offsets have 32 bits. */
struct segment {
    uint32_t base;
    bool wide;
};

static bool segment_of(const CpuObject *c, int reg, struct segment *s)
{
    uint32_t selector = cpu_get(c, reg);
    uint8_t d[8];
    struct uc_x86_mmr gdt = {0};
    if (!(cpu_get(c, UC_X86_REG_CR0) & CR0_PE)) {
        *s = (struct segment){selector << 4, false};
        return true;
    }
    c->uc.reg_read(c->engine, UC_X86_REG_GDTR, &gdt);
    if ((selector & 4) || (selector | 7) > gdt.limit ||
        !cpu_read(c, (uint32_t)gdt.base + (selector & ~7u), d, sizeof d))
        return false;
    s->base = (uint32_t)d[2] | (uint32_t)d[3] << 8 | (uint32_t)d[4] << 16 | (uint32_t)d[7] << 24;
    s->wide = d[6] & 0x40;
    return true;
}

bool cpu_code_is_wide(const CpuObject *c)
{
    struct segment s;
    return segment_of(c, UC_X86_REG_CS, &s) && s.wide;
}

uint32_t cpu_code_base(const CpuObject *c)
{
    struct segment code = {0};
    return segment_of(c, UC_X86_REG_CS, &code) ? code.base : 0;
}

/* Push `count` values of 4 bytes, or of 2. */
static bool push(CpuObject *c, const uint32_t *values, int count, bool wide)
{
    struct segment stack;
    uint32_t size = wide ? 4 : 2, esp = cpu_get(c, UC_X86_REG_ESP);
    if (!segment_of(c, UC_X86_REG_SS, &stack))
        return false;
    uint32_t mask = stack.wide ? UINT32_MAX : 0xffff, at = esp;
    for (int i = 0; i < count; i++) {
        at = (esp & ~mask) | ((at - size) & mask);
        if (!cpu_write(c, stack.base + (at & mask), &values[i], size))
            return false;
    }
    cpu_set(c, UC_X86_REG_ESP, at);
    return true;
}

static bool has_error_code(uint32_t vector)
{
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

static bool enter_real(CpuObject *c, uint32_t vector, uint32_t base, uint32_t limit)
{
    uint16_t entry[2];
    uint32_t flags = cpu_get(c, UC_X86_REG_EFLAGS);
    uint32_t frame[] = {flags, cpu_get(c, UC_X86_REG_CS), cpu_get(c, UC_X86_REG_EIP)};
    if (4 * vector + 3 > limit || !cpu_read(c, base + 4 * vector, entry, sizeof entry) ||
        !push(c, frame, 3, false))
        return false;
    cpu_set(c, UC_X86_REG_EFLAGS, flags & ~(FLAG_IF | FLAG_TF | FLAG_RF | FLAG_AC));
    cpu_set(c, UC_X86_REG_CS, entry[1]);
    cpu_set(c, UC_X86_REG_EIP, entry[0]);
    return true;
}

static bool enter_protected(CpuObject *c, uint32_t vector, enum interrupt_kind kind, uint32_t base,
                            uint32_t limit)
{
    uint8_t gate[8], code[8];
    struct uc_x86_mmr gdt = {0};
    uint32_t flags = cpu_get(c, UC_X86_REG_EFLAGS), cs = cpu_get(c, UC_X86_REG_CS);
    uint32_t frame[] = {flags, cs, cpu_get(c, UC_X86_REG_EIP), 0};
    if ((flags & FLAG_VM) || (cs & 3) || 8 * vector + 7 > limit ||
        !cpu_read(c, base + 8 * vector, gate, sizeof gate))
        return false;
    uint32_t selector = gate[2] | (uint32_t)gate[3] << 8, type = gate[5] & 0x1f;
    bool wide = type & GATE_32;
    if (!(gate[5] & 0x80) || (type & ~(GATE_TRAP | GATE_32)) != 6)
        return false;
    c->uc.reg_read(c->engine, UC_X86_REG_GDTR, &gdt);
    if ((selector & 7) || selector + 7 > gdt.limit ||
        !cpu_read(c, (uint32_t)gdt.base + selector, code, sizeof code) ||
        (code[5] & 0x98) != 0x98) /* a present code segment */
        return false;
    if (!push(c, frame, kind == EXCEPTION && has_error_code(vector) ? 4 : 3, wide))
        return false;
    uint32_t cleared = FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM | (type & GATE_TRAP ? 0 : FLAG_IF);
    cpu_set(c, UC_X86_REG_EFLAGS, flags & ~cleared);
    cpu_set(c, UC_X86_REG_CS, selector);
    cpu_set(c, UC_X86_REG_EIP,
            gate[0] | (uint32_t)gate[1] << 8 |
                (wide ? (uint32_t)gate[6] << 16 | (uint32_t)gate[7] << 24 : 0));
    return true;
}

bool cpu_enter_handler(CpuObject *c, uint32_t vector, enum interrupt_kind kind)
{
    struct uc_x86_mmr idt = {0};
    c->uc.reg_read(c->engine, UC_X86_REG_IDTR, &idt);
    return cpu_get(c, UC_X86_REG_CR0) & CR0_PE
               ? enter_protected(c, vector, kind, (uint32_t)idt.base, idt.limit)
               : enter_real(c, vector, (uint32_t)idt.base, idt.limit);
}

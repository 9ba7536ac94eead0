/*
 * Entering the handler of an interrupt or exception, which Unicorn leaves to its user (Intel SDM
 * volume 3, 6.12 and 20.1.4).
 *
 * Real mode, and protected mode with handlers at level 0, from any level. No task gates, no local
 * table, no virtual 8086 mode.
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
        if (!cpu_write(c, stack.base + (at & mask), &values[i], size)) {
            cpu_set(c, UC_X86_REG_CR2, stack.base + (at & mask));
            return false;
        }
    }
    cpu_set(c, UC_X86_REG_ESP, at);
    return true;
}

/* ---- delivery ------------------------------------------------------------------------------ */

struct delivery {
    uint32_t vector;
    enum interrupt_kind kind;
    uint32_t error;
};

/* The values to push, and their sources. */
struct frame {
    uint32_t flags, cs, eip, esp, ss, level;
};

/* An exception of the delivery itself; its error code says whether a program caused the event. */
static bool fails(struct delivery *e, uint32_t vector, uint32_t error)
{
    uint32_t external = e->kind == SOFTWARE ? 0 : 1;
    *e = (struct delivery){vector, EXCEPTION, error ? error | external : 0};
    return false;
}

static bool has_error_code(const struct delivery *e)
{
    return e->kind == EXCEPTION && (e->vector == DOUBLE_FAULT || e->vector == ALIGNMENT_CHECK ||
                                    (e->vector >= INVALID_TSS && e->vector <= PAGE_FAULT));
}

/* A present code segment for level 0 at the level `cpl`; else false, with the fault in `e`. */
static bool check_code(const CpuObject *c, uint32_t selector, struct delivery *e)
{
    uint8_t code[8];
    struct uc_x86_mmr gdt = {0};
    c->uc.reg_read(c->engine, UC_X86_REG_GDTR, &gdt);
    if ((selector & ~3u) == 0)
        return fails(e, GENERAL_PROTECTION, 0);
    if ((selector & 4) || (selector | 7) > gdt.limit)
        return fails(e, GENERAL_PROTECTION, selector & ~3u);
    if (!cpu_read(c, (uint32_t)gdt.base + (selector & ~7u), code, sizeof code))
        return fails(e, PAGE_FAULT, 0);
    if ((code[5] & 0x78) != 0x18) /* code, for level 0 */
        return fails(e, GENERAL_PROTECTION, selector & ~3u);
    return code[5] & 0x80 ? true : fails(e, NOT_PRESENT, selector & ~3u);
}

/* The stack of level 0, from the task's segment. */
static bool inner_stack(CpuObject *c, struct delivery *e)
{
    struct uc_x86_mmr task = {0};
    uint8_t slot[6] = {0};
    c->uc.reg_read(c->engine, UC_X86_REG_TR, &task);
    bool wide = task.flags & 0x800; /* the type's bit for 32 bits */
    uint32_t at = wide ? 4 : 2, size = wide ? 6 : 4;
    if (at + size - 1 > task.limit)
        return fails(e, INVALID_TSS, task.selector & ~3u);
    if (!cpu_read(c, (uint32_t)task.base + at, slot, size))
        return fails(e, PAGE_FAULT, 0);
    const uint8_t *ss = slot + (wide ? 4 : 2);
    uint32_t selector = (uint32_t)(ss[0] | ss[1] << 8);
    uint16_t value = (uint16_t)selector;
    if (c->uc.reg_write(c->engine, UC_X86_REG_SS, &value) != UC_ERR_OK)
        return fails(e, INVALID_TSS, selector & ~3u);
    cpu_set(c, UC_X86_REG_ESP,
            (uint32_t)(slot[0] | slot[1] << 8) |
                (wide ? (uint32_t)slot[2] << 16 | (uint32_t)slot[3] << 24 : 0));
    return true;
}

static bool enter_real(CpuObject *c, const struct frame *f, struct delivery *e, uint32_t base,
                       uint32_t limit)
{
    uint16_t entry[2];
    uint32_t values[] = {f->flags, f->cs, f->eip};
    if (4 * e->vector + 3 > limit || !cpu_read(c, base + 4 * e->vector, entry, sizeof entry))
        return fails(e, GENERAL_PROTECTION, 0);
    if (!push(c, values, 3, false))
        return fails(e, STACK_FAULT, 0);
    cpu_set(c, UC_X86_REG_EFLAGS, f->flags & ~(FLAG_IF | FLAG_TF | FLAG_RF | FLAG_AC));
    cpu_set(c, UC_X86_REG_CS, entry[1]);
    cpu_set(c, UC_X86_REG_EIP, entry[0]);
    return true;
}

/* The vector's gate, which this event may pass; else false, with the fault in `e`. */
static bool read_gate(const CpuObject *c, uint32_t level, struct delivery *e, uint32_t base,
                      uint32_t limit, uint8_t gate[8])
{
    uint32_t entry = 8 * e->vector + 2; /* as an error code: of the IDT */
    if (8 * e->vector + 7 > limit)
        return fails(e, GENERAL_PROTECTION, entry);
    if (!cpu_read(c, base + 8 * e->vector, gate, 8))
        return fails(e, PAGE_FAULT, 0);
    uint32_t type = gate[5] & 0x1f;
    if ((type & ~(GATE_TRAP | GATE_32)) != 6)
        return fails(e, GENERAL_PROTECTION, entry);
    if (e->kind == SOFTWARE && (gate[5] >> 5 & 3u) < level)
        return fails(e, GENERAL_PROTECTION, entry);
    return gate[5] & 0x80 ? true : fails(e, NOT_PRESENT, entry);
}

static bool enter_protected(CpuObject *c, const struct frame *f, struct delivery *e, uint32_t base,
                            uint32_t limit)
{
    uint8_t gate[8];
    if (!read_gate(c, f->level, e, base, limit, gate))
        return false;
    uint32_t selector = gate[2] | (uint32_t)gate[3] << 8, type = gate[5] & 0x1f;
    bool wide = type & GATE_32;
    if (!check_code(c, selector, e) || (f->level && !inner_stack(c, e)))
        return false;
    uint32_t values[] = {f->ss, f->esp, f->flags, f->cs, f->eip, e->error};
    int first = f->level ? 0 : 2, count = (has_error_code(e) ? 6 : 5) - first;
    if (!push(c, values + first, count, wide))
        return fails(e, cpu_get(c, UC_X86_REG_CR0) & CR0_PG ? PAGE_FAULT : STACK_FAULT, 0);
    uint32_t cleared = FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM | (type & GATE_TRAP ? 0 : FLAG_IF);
    cpu_set(c, UC_X86_REG_EFLAGS, f->flags & ~cleared);
    cpu_set(c, UC_X86_REG_CS, selector & ~3u);
    cpu_set(c, UC_X86_REG_EIP,
            gate[0] | (uint32_t)gate[1] << 8 |
                (wide ? (uint32_t)gate[6] << 16 | (uint32_t)gate[7] << 24 : 0));
    return true;
}

/* Go to level 0. Unicorn's level is that of SS, which takes any value outside protected mode. */
static void go_to_level_0(const CpuObject *c)
{
    uint32_t cr0 = cpu_get(c, UC_X86_REG_CR0);
    cpu_set(c, UC_X86_REG_CR0, cr0 & ~CR0_PE);
    cpu_set(c, UC_X86_REG_SS, 0);
    cpu_set(c, UC_X86_REG_CR0, cr0);
}

static bool is_contributory(uint32_t vector)
{
    return vector == DIVIDE_ERROR || (vector >= INVALID_TSS && vector <= GENERAL_PROTECTION);
}

/* The length of the INT, INT3 or INTO that ends at `eip`. */
static uint32_t length_of_int(const CpuObject *c, uint32_t eip, uint32_t vector)
{
    uint8_t before[2] = {0};
    bool is_int = cpu_read(c, cpu_code_base(c) + eip - 2, before, sizeof before) &&
                  before[0] == 0xcd && before[1] == vector;
    return is_int ? 2 : 1;
}

/* Do these two, the second one while the first is delivered, make a double fault? */
static bool make_double_fault(const struct delivery *first, uint32_t second)
{
    if (first->kind != EXCEPTION)
        return false;
    return (is_contributory(first->vector) && is_contributory(second)) ||
           (first->vector == PAGE_FAULT && (is_contributory(second) || second == PAGE_FAULT));
}

bool cpu_enter_handler(CpuObject *c, uint32_t vector, enum interrupt_kind kind, uint32_t error)
{
    struct uc_x86_mmr idt = {0};
    bool is_protected = cpu_get(c, UC_X86_REG_CR0) & CR0_PE;
    struct frame f = {cpu_get(c, UC_X86_REG_EFLAGS), cpu_get(c, UC_X86_REG_CS),
                      cpu_get(c, UC_X86_REG_EIP),    cpu_get(c, UC_X86_REG_ESP),
                      cpu_get(c, UC_X86_REG_SS),     0};
    struct delivery e = {vector, kind, error};
    f.level = is_protected ? f.cs & 3 : 0;
    c->uc.reg_read(c->engine, UC_X86_REG_IDTR, &idt);
    if (f.flags & FLAG_VM)
        return false;
    if (f.level)
        go_to_level_0(c);
    for (;;) {
        struct delivery tried = e;
        if (is_protected ? enter_protected(c, &f, &e, (uint32_t)idt.base, idt.limit)
                         : enter_real(c, &f, &e, (uint32_t)idt.base, idt.limit))
            return true;
        if (tried.vector == DOUBLE_FAULT && tried.kind == EXCEPTION)
            return false;
        if (tried.kind == SOFTWARE) /* the fault is that of the instruction */
            f.eip -= length_of_int(c, f.eip, tried.vector);
        if (make_double_fault(&tried, e.vector))
            e = (struct delivery){DOUBLE_FAULT, EXCEPTION, 0};
    }
}

/* RAM and devices as Unicorn sees them: RAM by pointer, everything else by calls. */
#define _GNU_SOURCE
#include "cpu.h"

#include <stdlib.h>
#include <string.h>

/* ---- code that devices write over ---------------------------------------------------------- */

static bool executed(const CpuObject *c, uint64_t page)
{
    return c->code[page / 8] >> (page % 8) & 1;
}

/* Drop the translations of the executed pages of a range; where there are none, false. */
static bool forget(CpuObject *c, uint64_t start, uint64_t size, bool drop)
{
    bool any = false;
    uint64_t end = start + size < SPACE ? start + size : SPACE;
    for (uint64_t page = start / PAGE; page * PAGE < end; page++)
        if (executed(c, page)) {
            any = true;
            if (drop)
                c->uc.ctl(c->engine, (int)UC_CTL_TB_REMOVE_CACHE, page * PAGE, (page + 1) * PAGE);
        }
    return any;
}

/* Look at the VMM's notes since the last look: drop translations, or only see if there are any. */
static bool look_at_written(CpuObject *c, bool drop)
{
    const struct run_words *w = c->vcpu->words;
    /* Acquire: the notes go before the count. */
    uint32_t count = atomic_load_explicit(&w->written_count, memory_order_acquire);
    uint32_t seen = c->written_seen;
    /* Translations are found by linear addresses, and the notes have physical ones. */
    bool all = count != seen && cpu_get(c, UC_X86_REG_CR0) & CR0_PG;
    bool any = all && forget(c, 0, SPACE, drop);
    for (uint32_t i = seen; !all && i != count && count - seen <= WRITTEN_NOTES; i++) {
        uint64_t start =
            atomic_load_explicit(&w->written[i % WRITTEN_NOTES].start, memory_order_relaxed);
        uint64_t size =
            atomic_load_explicit(&w->written[i % WRITTEN_NOTES].size, memory_order_relaxed);
        any = (start < SPACE && size <= SPACE && forget(c, start, size, drop)) || any;
    }
    atomic_thread_fence(memory_order_acquire);
    uint32_t now = atomic_load_explicit(&w->written_count, memory_order_relaxed);
    if (now - seen > WRITTEN_NOTES) /* notes were overwritten by newer ones */
        any = forget(c, 0, SPACE, drop) || any;
    if (drop || !any)
        c->written_seen = now - seen > WRITTEN_NOTES ? now : count;
    return any;
}

void cpu_forget_written(CpuObject *c)
{
    look_at_written(c, true);
}

/* ---- accesses ------------------------------------------------------------------------------ */

void cpu_look_for_changes(CpuObject *c)
{
    const struct run_words *w = c->vcpu->words;
    if (c->memory_version != c->vcpu->memory_version ||
        atomic_load_explicit(&w->interrupt, memory_order_relaxed) ||
        (atomic_load_explicit(&w->written_count, memory_order_relaxed) != c->written_seen &&
         look_at_written(c, false)))
        c->restart = true;
}

static uint64_t on_load(uc_engine *engine, uint64_t offset, unsigned size, void *data)
{
    (void)engine;
    struct cpu_region *region = data;
    CpuObject *c = region->cpu;
    uint64_t value = 0;
    if (c->stop == STOP_FAILED)
        return 0;
    if (vcpu_load(c->vcpu, region->start + offset, size, &value) < 0)
        cpu_stop(c, STOP_FAILED);
    else
        cpu_look_for_changes(c);
    return value;
}

static void store(CpuObject *c, uint64_t address, uint32_t size, uint64_t value)
{
    uint32_t exits = c->vcpu->exit_sequence;
    if (c->stop == STOP_FAILED)
        return;
    int result = vcpu_store(c->vcpu, address, size, value);
    /* As ram_store: it is visible before what the guest's code stores to RAM from here on. */
    atomic_thread_fence(memory_order_release);
    if (result < 0)
        cpu_stop(c, STOP_FAILED);
    else if (c->vcpu->exit_sequence != exits)
        cpu_look_for_changes(c);
}

static void on_store(uc_engine *engine, uint64_t offset, unsigned size, uint64_t value, void *data)
{
    (void)engine;
    struct cpu_region *region = data;
    CpuObject *c = region->cpu;
    c->stored = (struct cpu_store){.region = region,
                                   .address = region->start + offset,
                                   .value = value,
                                   .size = size,
                                   .count = c->stored.count + 1};
    store(c, region->start + offset, size, value);
}

/* A store to ROM: a device may take it. */
static bool on_store_to_rom(uc_engine *engine, int type, uint64_t address, int size, int64_t value,
                            void *data)
{
    (void)engine;
    (void)type;
    store(data, address, (uint32_t)size, (uint64_t)value);
    return true;
}

/*
 * An access of `size` bytes from or to a port. What reaches past the last port comes as bytes: there
 * is nothing behind it, which reads as ones. 0, or -1 with an exception set.
 */
static int access_ports(VcpuObject *v, uint32_t port, uint32_t size, bool write, uint64_t *value)
{
    if (port + size <= PORTS)
        return write ? vcpu_out(v, port, size, *value) : vcpu_in(v, port, size, value);
    for (uint32_t at = 0; at < size; at++) {
        uint64_t byte = write ? *value >> 8 * at & 0xff : 0xff;
        if (port + at < PORTS &&
            (write ? vcpu_out(v, port + at, 1, byte) : vcpu_in(v, port + at, 1, &byte)) < 0)
            return -1;
        if (!write)
            *value |= byte << 8 * at;
    }
    return 0;
}

static uint32_t on_in(uc_engine *engine, uint32_t port, int size, void *data)
{
    (void)engine;
    CpuObject *c = data;
    uint64_t value = 0;
    if (c->stop == STOP_FAILED)
        return 0;
    if (access_ports(c->vcpu, port & 0xffff, (uint32_t)size, false, &value) < 0)
        cpu_stop(c, STOP_FAILED);
    else
        cpu_look_for_changes(c);
    return (uint32_t)value;
}

static void on_out(uc_engine *engine, uint32_t port, int size, uint32_t value, void *data)
{
    (void)engine;
    CpuObject *c = data;
    uint64_t sent = value;
    if (c->stop == STOP_FAILED)
        return;
    if (access_ports(c->vcpu, port & 0xffff, (uint32_t)size, true, &sent) < 0)
        cpu_stop(c, STOP_FAILED);
    else
        cpu_look_for_changes(c);
}

int cpu_add_access_hooks(CpuObject *c)
{
    size_t hook;
    /* Conversions of function pointers to void * are POSIX's, as dlsym has them. */
    int error = c->uc.hook_add(c->engine, &hook, UC_HOOK_INSN, (void *)(uintptr_t)on_in, c, 1, 0,
                               UC_X86_INS_IN);
    if (error == UC_ERR_OK)
        error = c->uc.hook_add(c->engine, &hook, UC_HOOK_INSN, (void *)(uintptr_t)on_out, c, 1, 0,
                               UC_X86_INS_OUT);
    if (error == UC_ERR_OK)
        error = c->uc.hook_add(c->engine, &hook, UC_HOOK_MEM_WRITE_PROT,
                               (void *)(uintptr_t)on_store_to_rom, c, 1, 0);
    return error == UC_ERR_OK ? 0 : cpu_error(c, "hooks", error);
}

/* ---- the map ------------------------------------------------------------------------------- */

static int by_start(const void *a, const void *b)
{
    uint64_t left = ((const struct cpu_region *)a)->start;
    uint64_t right = ((const struct cpu_region *)b)->start;
    return left < right ? -1 : left > right;
}

/* The whole space: the vCPU's RAM in order, and devices between. */
static int lay_out(const CpuObject *c, struct cpu_region *regions)
{
    const VcpuObject *v = c->vcpu;
    struct cpu_region ram[RAM_SLOTS];
    int slots = 0, count = 0;
    uint64_t at = 0;
    for (int i = 0; i < v->ram_count; i++)
        if (v->ram[i].start + v->ram[i].size <= SPACE)
            ram[slots++] = (struct cpu_region){.start = v->ram[i].start,
                                               .size = v->ram[i].size,
                                               .host = v->ram[i].host,
                                               .readonly = v->ram[i].readonly};
    qsort(ram, (size_t)slots, sizeof *ram, by_start);
    for (int i = 0; i <= slots; i++) {
        uint64_t end = i < slots ? ram[i].start : SPACE;
        if (end > at)
            regions[count++] = (struct cpu_region){.start = at, .size = end - at};
        if (i < slots) {
            regions[count++] = ram[i];
            at = ram[i].start + ram[i].size;
        }
    }
    return count;
}

static bool same(const struct cpu_region *a, const struct cpu_region *b)
{
    return a->start == b->start && a->size == b->size && a->host == b->host &&
           a->readonly == b->readonly;
}

static int map(CpuObject *c, struct cpu_region *region)
{
    const struct unicorn *uc = &c->uc;
    uint32_t all = UC_PROT_READ | UC_PROT_WRITE | UC_PROT_EXEC;
    if (!region->host)
        return uc->mmio_map(c->engine, region->start, region->size, on_load, region, on_store,
                            region);
    int error = uc->mem_map_ptr(c->engine, region->start, region->size, all, region->host);
    /* Mapped without write access, Unicorn would write there behind the hook. */
    if (error == UC_ERR_OK && region->readonly)
        error = uc->mem_protect(c->engine, region->start, region->size, all & ~UC_PROT_WRITE);
    return error;
}

/* The region of `old` that is like `wanted`, taken out of the list; or NULL. */
static struct cpu_region *take(struct cpu_region **old, int count, const struct cpu_region *wanted)
{
    for (int i = 0; i < count; i++)
        if (old[i] && same(wanted, old[i])) {
            struct cpu_region *found = old[i];
            old[i] = NULL;
            return found;
        }
    return NULL;
}

int cpu_map_memory(CpuObject *c)
{
    struct cpu_region wanted[CPU_REGIONS], *now[CPU_REGIONS];
    int count = lay_out(c, wanted), error = UC_ERR_OK;
    for (int i = 0; i < count; i++)
        now[i] = take(c->region, c->regions, &wanted[i]);
    for (int i = 0; i < c->regions; i++)
        if (c->region[i]) {
            error =
                error ? error : c->uc.mem_unmap(c->engine, c->region[i]->start, c->region[i]->size);
            free(c->region[i]);
        }
    c->regions = 0;
    for (int i = 0; i < count; i++) {
        if (!now[i] && (now[i] = malloc(sizeof *now[i]))) {
            *now[i] = wanted[i];
            now[i]->cpu = c;
            error = error ? error : map(c, now[i]);
        }
        if (!now[i]) {
            vcpu_take_gil(c->vcpu);
            PyErr_NoMemory();
            return -1;
        }
        c->region[c->regions++] = now[i];
    }
    c->memory_version = c->vcpu->memory_version;
    return error == UC_ERR_OK ? 0 : cpu_error(c, "memory map", error);
}

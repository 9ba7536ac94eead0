/* Cpu: machine code executed by Unicorn in the guest process; every exit is its Vcpu's. */
#define _GNU_SOURCE
#include "cpu.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define CR0_AT_RESET 0x60000010u

int cpu_error(const CpuObject *c, const char *what, int error)
{
    vcpu_take_gil(c->vcpu);
    PyErr_Format(error_host, "unicorn: %s: %s", what, c->uc.strerror(error));
    return -1;
}

void cpu_stop(CpuObject *c, enum cpu_stop stop)
{
    c->stop = stop;
    c->uc.emu_stop(c->engine);
}

/* ---- between two blocks -------------------------------------------------------------------- */

/* Is the next instruction the one behind a STI, or a load of SS? No interrupt comes before it. */
static bool in_shadow(const CpuObject *c, uint64_t block, uint64_t last_end)
{
    uint8_t before[2] = {0};
    if (block != last_end || !cpu_read(c, (uint32_t)block - 2, before, sizeof before))
        return false;
    bool mov_ss = before[0] == 0x8e && (before[1] & 0x38) == 0x10;
    return before[1] == 0xfb || before[1] == 0x17 || mov_ss;
}

static void note_executed(CpuObject *c, uint64_t start, uint64_t size)
{
    uint64_t last = (start + size - 1) & (SPACE - 1);
    c->code[start / PAGE / 8] |= (uint8_t)(1u << (start / PAGE % 8));
    c->code[last / PAGE / 8] |= (uint8_t)(1u << (last / PAGE % 8));
}

static void leave(CpuObject *c, uint32_t reason)
{
    if (vcpu_exit(c->vcpu, reason) < 0) {
        cpu_stop(c, STOP_FAILED);
        return;
    }
    cpu_look_for_changes(c);
    if (c->restart)
        cpu_stop(c, STOP_RESTART);
}

/* The same block again, which has made one store to a device; true: the emulation stops. */
static bool go_on(CpuObject *c, uint32_t size)
{
    if (cpu_go_on_with_string(c, (uint32_t)c->block, size) < 0)
        cpu_stop(c, STOP_FAILED);
    else {
        cpu_look_for_changes(c);
        if (c->restart)
            cpu_stop(c, STOP_RESTART);
    }
    return c->stop != STOP_NONE;
}

static void on_block(uc_engine *engine, uint64_t address, uint32_t size, void *data)
{
    (void)engine;
    CpuObject *c = data;
    struct run_page *run = c->vcpu->run;
    uint64_t last_end = c->block_end;
    if (c->stop == STOP_FAILED)
        return;
    if (c->restart) {
        cpu_stop(c, STOP_RESTART);
        return;
    }
    uint64_t block = address & (SPACE - 1);
    if (block == c->block && c->block_end == block + size) {
        if (c->stored.count == 1 && go_on(c, size))
            return;
    } else
        note_executed(c, block, size);
    c->stored.count = 0;
    c->block = block;
    c->block_end = block + size;
    if (atomic_load_explicit(&run->immediate_exit, memory_order_relaxed))
        leave(c, EXIT_INTR);
    else if (atomic_load_explicit(&run->request_interrupt_window, memory_order_relaxed) &&
             cpu_get(c, UC_X86_REG_EFLAGS) & FLAG_IF && !in_shadow(c, block, last_end))
        leave(c, EXIT_IRQ_WINDOW_OPEN);
}

static void on_exception(uc_engine *engine, uint32_t vector, void *data)
{
    (void)engine;
    CpuObject *c = data;
    if (c->stop == STOP_FAILED)
        return;
    c->vector = vector;
    cpu_stop(c, STOP_EXCEPTION);
}

/* CPUID; Unicorn's own is that of a processor with an APIC. */
static int on_cpuid(uc_engine *engine, void *data)
{
    (void)engine;
    CpuObject *c = data;
    static const int answer[] = {UC_X86_REG_EAX, UC_X86_REG_EBX, UC_X86_REG_ECX, UC_X86_REG_EDX};
    static const uint32_t unknown[5];
    const uint32_t *leaf = unknown;
    uint32_t function = cpu_get(c, UC_X86_REG_EAX);
    for (size_t i = 0; i < c->leaves; i++)
        if (c->cpuid[i][0] == function)
            leaf = c->cpuid[i];
    for (int i = 0; i < 4; i++)
        cpu_set(c, answer[i], leaf[1 + i]);
    return 1; /* it is carried out */
}

/* ---- the processor ------------------------------------------------------------------------- */

static void reset(CpuObject *c)
{
    static const int zeroed[] = {UC_X86_REG_EAX, UC_X86_REG_EBX, UC_X86_REG_ECX, UC_X86_REG_EDX,
                                 UC_X86_REG_ESI, UC_X86_REG_EDI, UC_X86_REG_EBP, UC_X86_REG_ESP,
                                 UC_X86_REG_CR3, UC_X86_REG_CR4, UC_X86_REG_DS,  UC_X86_REG_ES,
                                 UC_X86_REG_FS,  UC_X86_REG_GS,  UC_X86_REG_SS};
    struct uc_x86_mmr table = {.limit = 0xffff};
    cpu_set(c, UC_X86_REG_CR0, CR0_AT_RESET);
    for (size_t i = 0; i < sizeof zeroed / sizeof *zeroed; i++)
        cpu_set(c, zeroed[i], 0);
    c->uc.reg_write(c->engine, UC_X86_REG_IDTR, &table);
    c->uc.reg_write(c->engine, UC_X86_REG_GDTR, &table);
    cpu_set(c, UC_X86_REG_EFLAGS, 2);
    /* The BIOS lies below 1 MiB as well: Unicorn has no segment base but 16 times the selector. */
    cpu_set(c, UC_X86_REG_CS, 0xf000);
    cpu_set(c, UC_X86_REG_EIP, 0xfff0);
}

/* Take the interrupt or reset of the VMM's last entry; false if the processor has shut down. */
static bool take_interrupt(CpuObject *c)
{
    uint32_t wanted = atomic_exchange_explicit(&c->vcpu->words->interrupt, 0, memory_order_relaxed);
    if (wanted & INTERRUPT_RESET)
        reset(c);
    else if (wanted & INTERRUPT_PENDING)
        return cpu_enter_handler(c, wanted & 0xff, EXTERNAL, 0);
    return true;
}

/* HLT: the VMM enters with an interrupt, a reset, or never. */
static int halt(CpuObject *c)
{
    VcpuObject *v = c->vcpu;
    v->run->if_flag = (cpu_get(c, UC_X86_REG_EFLAGS) & FLAG_IF) != 0;
    v->exits++;
    return vcpu_exit(v, EXIT_HLT);
}

/* The emulation ends by itself behind other instructions, too, as PAUSE. */
static bool behind_halt(const CpuObject *c)
{
    uint8_t before;
    uint32_t behind = cpu_code_base(c) + cpu_get(c, UC_X86_REG_EIP);
    return cpu_read_memory(c, behind - 1, &before, 1) && before == 0xf4;
}

enum { ENDED = -1, CONTINUES, SHUT_DOWN };

/* Deal with what ended the emulation; ENDED: an exception is set. */
static int handle_stop(CpuObject *c, int error)
{
    bool alive = true;
    if (c->stop == STOP_EXCEPTION) {
        enum interrupt_kind kind;
        uint32_t code;
        alive = cpu_take_exception(c, &kind, &code) && cpu_enter_handler(c, c->vector, kind, code);
    } else if (error == UC_ERR_INSN_INVALID)
        alive = cpu_enter_handler(c, INVALID_OPCODE, EXCEPTION, 0);
    else if (error == UC_ERR_NOMEM)
        return cpu_error(c, "emulation", error);
    else if (error != UC_ERR_OK) {
        c->lost = c->uc.strerror(error);
        return SHUT_DOWN;
    } else if (c->stop == STOP_NONE && behind_halt(c))
        return halt(c);
    return alive ? CONTINUES : SHUT_DOWN;
}

/* Until the processor cannot go on, or an exception (-1). */
static int execute(CpuObject *c)
{
    int state = CONTINUES;
    while (state == CONTINUES) {
        if (c->memory_version != c->vcpu->memory_version && cpu_map_memory(c) < 0)
            return -1;
        cpu_forget_written(c);
        if (!take_interrupt(c))
            break;
        c->stop = STOP_NONE;
        c->restart = false;
        c->stored.count = 0;
        int error = c->uc.emu_start(c->engine, cpu_get(c, UC_X86_REG_EIP), UINT64_MAX, 0, 0);
        state = c->stop == STOP_FAILED ? ENDED : handle_stop(c, error);
    }
    return state == ENDED ? -1 : 0;
}

static PyObject *py_run(PyObject *self, PyObject *unused)
{
    (void)unused;
    CpuObject *c = (CpuObject *)self;
    if (vcpu_begin(c->vcpu, true) < 0 || vcpu_end(c->vcpu, execute(c)) < 0)
        return NULL;
    if (c->lost)
        return PyUnicode_FromFormat("its processor cannot go on (%s)", c->lost);
    return PyUnicode_FromString("it shut down by a triple fault");
}

static PyObject *py_next_code(PyObject *self, PyObject *unused)
{
    (void)unused;
    const CpuObject *c = (CpuObject *)self;
    uint32_t address = cpu_code_base(c) + cpu_get(c, UC_X86_REG_EIP);
    return Py_BuildValue("kO", (unsigned long)address, cpu_code_is_wide(c) ? Py_True : Py_False);
}

static PyObject *py_read(PyObject *self, PyObject *args)
{
    unsigned long address;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "kn", &address, &size))
        return NULL;
    if (size < 0 || size > PAGE) {
        PyErr_Format(PyExc_ValueError, "expected 0 to %d bytes, got %zd", PAGE, size);
        return NULL;
    }
    uint8_t bytes[PAGE];
    if (!cpu_read_memory((CpuObject *)self, (uint32_t)address, bytes, (size_t)size))
        Py_RETURN_NONE;
    return PyBytes_FromStringAndSize((char *)bytes, size);
}

static const struct {
    const char *name;
    int number;
} registers[] = {
    {"eax", UC_X86_REG_EAX},       {"ebx", UC_X86_REG_EBX}, {"ecx", UC_X86_REG_ECX},
    {"edx", UC_X86_REG_EDX},       {"esi", UC_X86_REG_ESI}, {"edi", UC_X86_REG_EDI},
    {"ebp", UC_X86_REG_EBP},       {"esp", UC_X86_REG_ESP}, {"eip", UC_X86_REG_EIP},
    {"eflags", UC_X86_REG_EFLAGS}, {"cs", UC_X86_REG_CS},   {"ds", UC_X86_REG_DS},
    {"es", UC_X86_REG_ES},         {"ss", UC_X86_REG_SS},   {"cr0", UC_X86_REG_CR0},
    {"cr2", UC_X86_REG_CR2},       {"cr3", UC_X86_REG_CR3},
};

static PyObject *py_registers(PyObject *self, PyObject *unused)
{
    (void)unused;
    PyObject *all = PyDict_New();
    for (size_t i = 0; all && i < sizeof registers / sizeof *registers; i++) {
        PyObject *value = PyLong_FromUnsignedLong(cpu_get((CpuObject *)self, registers[i].number));
        if (!value || PyDict_SetItemString(all, registers[i].name, value) < 0)
            Py_CLEAR(all);
        Py_XDECREF(value);
    }
    return all;
}

/* ---- set-up -------------------------------------------------------------------------------- */

static int open_engine(CpuObject *c)
{
    size_t hook;
    int error = c->uc.open(UC_ARCH_X86, UC_MODE_32, &c->engine);
    if (error == UC_ERR_OK && cpu_prepare_exceptions(c) < 0)
        return -1;
    /* Unicorn looks for code where a run would end, and a page fault there leaves CR2 changed. */
    if (error == UC_ERR_OK)
        error = c->uc.ctl(c->engine, (int)UC_CTL_USE_EXITS, 1);
    if (error == UC_ERR_OK)
        error =
            c->uc.hook_add(c->engine, &hook, UC_HOOK_BLOCK, (void *)(uintptr_t)on_block, c, 1, 0);
    if (error == UC_ERR_OK)
        error = c->uc.hook_add(c->engine, &hook, UC_HOOK_INSN, (void *)(uintptr_t)on_cpuid, c, 1, 0,
                               UC_X86_INS_CPUID);
    if (error == UC_ERR_OK)
        error = c->uc.hook_add(c->engine, &hook, UC_HOOK_INTR, (void *)(uintptr_t)on_exception, c,
                               1, 0);
    if (error != UC_ERR_OK)
        return cpu_error(c, "start", error);
    if (cpu_add_access_hooks(c) < 0 || cpu_map_memory(c) < 0)
        return -1;
    reset(c);
    return 0;
}

static PyObject *cpu_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"vcpu", "library", "cpuid", NULL};
    VcpuObject *vcpu;
    const char *path;
    Py_buffer table;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!sy*", names, VcpuType, &vcpu, &path, &table))
        return NULL;
    CpuObject *c = (CpuObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (c) {
        c->leaves = (size_t)table.len / sizeof *c->cpuid;
        c->cpuid = PyMem_Malloc(c->leaves * sizeof *c->cpuid + 1);
        if (c->cpuid)
            memcpy(c->cpuid, table.buf, c->leaves * sizeof *c->cpuid);
    }
    PyBuffer_Release(&table);
    if (!c || !c->cpuid) {
        Py_XDECREF((PyObject *)c);
        return PyErr_NoMemory();
    }
    c->vcpu = (VcpuObject *)Py_NewRef((PyObject *)vcpu);
    c->no_string = UINT64_MAX;
    /* A store is seen before a later one to RAM, which nobody intercepts. */
    vcpu->publish_every = 1;
    if (unicorn_load(&c->uc, path) < 0 || open_engine(c) < 0) {
        Py_DECREF((PyObject *)c);
        return NULL;
    }
    return (PyObject *)c;
}

static void cpu_dealloc(PyObject *self)
{
    CpuObject *c = (CpuObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    if (c->context)
        c->uc.context_free(c->context);
    if (c->engine)
        c->uc.close(c->engine);
    for (int i = 0; i < c->regions; i++)
        free(c->region[i]);
    if (c->uc.library)
        dlclose(c->uc.library);
    PyMem_Free(c->cpuid);
    Py_XDECREF((PyObject *)c->vcpu);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef cpu_methods[] = {
    {"run", py_run, METH_NOARGS, "Execute machine code until it cannot go on; the reason."},
    {"next_code", py_next_code, METH_NOARGS, "(linear address of the next instruction, 32-bit?)."},
    {"read", py_read, METH_VARARGS, "read(address, size): memory at a linear address, or None."},
    {"registers", py_registers, METH_NOARGS, "The registers by name."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot cpu_slots[] = {
    {Py_tp_doc, "A processor that executes machine code."},
    {Py_tp_new, cpu_new},
    {Py_tp_dealloc, cpu_dealloc},
    {Py_tp_methods, cpu_methods},
    {0, NULL},
};

static PyType_Spec cpu_spec = {
    .name = "coalesced.hv.core.Cpu",
    .basicsize = sizeof(CpuObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = cpu_slots,
};

int cpu_init_type(PyObject *module)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromSpec(&cpu_spec);
    return type ? PyModule_AddType(module, type) : -1;
}

/* A processor that executes machine code: Unicorn, whose accesses go through a Vcpu. */
#ifndef COALESCED_CPU_H
#define COALESCED_CPU_H

#include "unicorn.h"
#include "vcpu.h"

#define SPACE (UINT64_C(1) << 32) /* of physical addresses */
#define CPU_REGIONS (2 * RAM_SLOTS + 1)

enum cpu_stop {
    STOP_NONE,      /* the emulation ended by itself, as at a HLT */
    STOP_EXCEPTION, /* an instruction raised `vector` */
    STOP_RESTART,   /* memory has changed, or the VMM has an interrupt */
    STOP_FAILED,    /* a Python exception is set */
};

typedef struct CpuObject {
    PyObject_HEAD
    VcpuObject *vcpu;
    struct unicorn uc;
    uc_engine *engine;
    struct cpu_region {
        struct CpuObject *cpu;
        uint64_t start, size;
        uint8_t *host; /* RAM; NULL: devices */
        bool readonly;
    } *region[CPU_REGIONS]; /* Unicorn keeps pointers to those of devices */
    int regions;
    uint32_t memory_version; /* of the vCPU's memory that `region` shows */
    uint32_t written_seen;   /* notes of the VMM that have been dealt with */
    uint32_t (*cpuid)[5];    /* function, EAX, EBX, ECX, EDX */
    size_t leaves;
    enum cpu_stop stop;
    bool restart; /* before the next block: until then a HLT would pass for the stop */
    uint32_t vector;
    const char *lost;    /* what keeps the processor from going on; NULL: a triple fault */
    uc_context *context; /* a copy of Unicorn's processor, in which */
    size_t error_at, in_flight_at; /* exceptions have these offsets */
    uint64_t block, block_end;     /* of the block that runs, linear addresses */
    uint64_t no_string;            /* a block that is known not to be a string instruction */
    struct cpu_store {
        const struct cpu_region *region;
        uint64_t address, value;
        uint32_t size, count;       /* count: of stores to devices since the block began */
    } stored;                       /* the last store to a device */
    uint8_t code[SPACE / PAGE / 8]; /* a bit per page that has been executed */
} CpuObject;

/* cpu_memory.c: RAM and devices in Unicorn's address space. */
/* Let the guest's accesses come to the vCPU; 0, or -1 with an exception set. */
int cpu_add_access_hooks(CpuObject *c);
/* Show Unicorn the vCPU's memory; 0, or -1 with an exception set. */
int cpu_map_memory(CpuObject *c);
/* Forget the translations of code that devices have written over. */
void cpu_forget_written(CpuObject *c);
/* After an exit: restart when memory has changed, or the VMM has an interrupt. */
void cpu_look_for_changes(CpuObject *c);
/* HostError for an error of Unicorn; returns -1. */
int cpu_error(const CpuObject *c, const char *what, int error);

/* cpu_string.c: at the start of a block that has begun a store to a device each time it ran. */
/* If it is a REP STOS, carry out more of it; 0, or -1 with an exception set. */
int cpu_go_on_with_string(CpuObject *c, uint32_t block, uint32_t size);

/* Vectors of exceptions. */
enum {
    DIVIDE_ERROR = 0,
    INVALID_OPCODE = 6,
    DOUBLE_FAULT = 8,
    INVALID_TSS = 10,
    NOT_PRESENT = 11,
    STACK_FAULT = 12,
    GENERAL_PROTECTION = 13,
    PAGE_FAULT = 14,
    ALIGNMENT_CHECK = 17,
};

/* cpu_interrupt.c: what the processor does at an interrupt or an exception. */
enum interrupt_kind { EXTERNAL, SOFTWARE, EXCEPTION };
/* Enter the handler of `vector`, or of what that raises; false: the processor has shut down. */
bool cpu_enter_handler(CpuObject *c, uint32_t vector, enum interrupt_kind kind, uint32_t error);

/* cpu_exception.c: what Unicorn does not tell of an exception. */
/* Before there is memory, hooks or a reset; 0, or -1 with an exception set. */
int cpu_prepare_exceptions(CpuObject *c);
/* Take the exception that was raised out of Unicorn's hands; false where that failed. */
bool cpu_take_exception(CpuObject *c, enum interrupt_kind *kind, uint32_t *error);

/* The base of the code segment. */
uint32_t cpu_code_base(const CpuObject *c);
/* Whether addresses in the code segment have 32 bits. */
bool cpu_code_is_wide(const CpuObject *c);
uint32_t cpu_get(const CpuObject *c, int reg);
void cpu_set(const CpuObject *c, int reg, uint32_t value);
/* At a linear address; false where there is no memory. */
bool cpu_read(const CpuObject *c, uint32_t address, void *bytes, size_t size);
/* The same in RAM and ROM alone: no device is asked. */
bool cpu_read_memory(const CpuObject *c, uint32_t address, uint8_t *bytes, size_t size);
bool cpu_write(const CpuObject *c, uint32_t address, const void *bytes, size_t size);

/* End the emulation: at the start of a block before it, else behind it. */
void cpu_stop(CpuObject *c, enum cpu_stop stop);

#define CR0_PE 1u
#define CR0_PG 0x80000000u
#define FLAG_TF 0x100u
#define FLAG_IF 0x200u
#define FLAG_NT 0x4000u
#define FLAG_RF 0x10000u
#define FLAG_VM 0x20000u
#define FLAG_AC 0x40000u

#endif

/*
 * The parts of Unicorn's interface that the processor uses. The library is loaded when a Cpu is
 * made, never before, and nothing of it is built in.
 */
#ifndef COALESCED_UNICORN_H
#define COALESCED_UNICORN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { UC_ARCH_X86 = 4, UC_MODE_32 = 4 };
enum {
    UC_ERR_OK = 0,
    UC_ERR_NOMEM = 1,
    UC_ERR_INSN_INVALID = 10,
    UC_ERR_EXCEPTION = 21,
};
enum { UC_PROT_READ = 1, UC_PROT_WRITE = 2, UC_PROT_EXEC = 4 };
enum {
    UC_HOOK_INTR = 1 << 0,
    UC_HOOK_INSN = 1 << 1,
    UC_HOOK_BLOCK = 1 << 3,
    UC_HOOK_MEM_WRITE_PROT = 1 << 8,
};
enum { UC_X86_INS_CPUID = 113, UC_X86_INS_IN = 218, UC_X86_INS_OUT = 500 };
enum {
    UC_X86_REG_CS = 11,
    UC_X86_REG_DS = 17,
    UC_X86_REG_EAX = 19,
    UC_X86_REG_EBP = 20,
    UC_X86_REG_EBX = 21,
    UC_X86_REG_ECX = 22,
    UC_X86_REG_EDI = 23,
    UC_X86_REG_EDX = 24,
    UC_X86_REG_EFLAGS = 25,
    UC_X86_REG_EIP = 26,
    UC_X86_REG_ES = 28,
    UC_X86_REG_ESI = 29,
    UC_X86_REG_ESP = 30,
    UC_X86_REG_FS = 32,
    UC_X86_REG_GS = 33,
    UC_X86_REG_SS = 49,
    UC_X86_REG_CR0 = 50,
    UC_X86_REG_CR2 = 52,
    UC_X86_REG_CR3 = 53,
    UC_X86_REG_CR4 = 54,
    UC_X86_REG_IDTR = 242,
    UC_X86_REG_GDTR = 243,
    UC_X86_REG_TR = 245,
};
/* uc_ctl: write, one argument; end a run at the addresses of a list, which is empty. */
#define UC_CTL_USE_EXITS (4u | 1u << 26 | 1u << 30)
/* uc_ctl: write, two arguments; remove the translations of [begin, end). */
#define UC_CTL_TB_REMOVE_CACHE (9u | 2u << 26 | 1u << 30)

typedef struct uc_struct uc_engine;
typedef struct uc_context uc_context;

struct uc_x86_mmr {
    uint16_t selector;
    uint64_t base;
    uint32_t limit;
    uint32_t flags;
};

struct unicorn {
    void *library;
    int (*open)(int arch, int mode, uc_engine **engine);
    int (*close)(uc_engine *engine);
    const char *(*strerror)(int error);
    int (*reg_read)(uc_engine *engine, int reg, void *value);
    int (*reg_write)(uc_engine *engine, int reg, const void *value);
    int (*mem_read)(uc_engine *engine, uint64_t address, void *bytes, uint64_t size);
    int (*mem_write)(uc_engine *engine, uint64_t address, const void *bytes, uint64_t size);
    int (*mem_map_ptr)(uc_engine *engine, uint64_t address, uint64_t size, uint32_t perms,
                       void *host);
    int (*mem_protect)(uc_engine *engine, uint64_t address, uint64_t size, uint32_t perms);
    int (*mem_unmap)(uc_engine *engine, uint64_t address, uint64_t size);
    int (*mmio_map)(uc_engine *engine, uint64_t address, uint64_t size,
                    uint64_t (*read)(uc_engine *, uint64_t, unsigned, void *), void *read_data,
                    void (*write)(uc_engine *, uint64_t, unsigned, uint64_t, void *),
                    void *write_data);
    int (*hook_add)(uc_engine *engine, size_t *hook, int type, void *callback, void *data,
                    uint64_t begin, uint64_t end, ...);
    int (*emu_start)(uc_engine *engine, uint64_t begin, uint64_t until, uint64_t timeout,
                     size_t count);
    int (*emu_stop)(uc_engine *engine);
    int (*ctl)(uc_engine *engine, int control, ...);
    int (*context_alloc)(uc_engine *engine, uc_context **context);
    int (*context_free)(uc_context *context);
    int (*context_save)(uc_engine *engine, uc_context *context);
    int (*context_restore)(uc_engine *engine, uc_context *context);
    size_t (*context_size)(uc_engine *engine);
    int (*vmem_translate)(uc_engine *engine, uint64_t address, int access, uint64_t *physical);
};

/* Load the library at `path`; 0, or -1 with HostError set. */
int unicorn_load(struct unicorn *uc, const char *path);

#endif

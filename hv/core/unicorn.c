/* The functions of libunicorn, which is loaded when machine code is to run. */
#include "core.h"

#include <dlfcn.h>
#include <string.h>

#include "unicorn.h"

#define LOOK_UP(member, symbol) {symbol, offsetof(struct unicorn, member)}

int unicorn_load(struct unicorn *uc, const char *path)
{
    static const struct {
        const char *symbol;
        size_t offset;
    } functions[] = {
        LOOK_UP(open, "uc_open"),
        LOOK_UP(close, "uc_close"),
        LOOK_UP(strerror, "uc_strerror"),
        LOOK_UP(reg_read, "uc_reg_read"),
        LOOK_UP(reg_write, "uc_reg_write"),
        LOOK_UP(mem_read, "uc_mem_read"),
        LOOK_UP(mem_write, "uc_mem_write"),
        LOOK_UP(mem_map_ptr, "uc_mem_map_ptr"),
        LOOK_UP(mem_protect, "uc_mem_protect"),
        LOOK_UP(mem_unmap, "uc_mem_unmap"),
        LOOK_UP(mmio_map, "uc_mmio_map"),
        LOOK_UP(hook_add, "uc_hook_add"),
        LOOK_UP(emu_start, "uc_emu_start"),
        LOOK_UP(emu_stop, "uc_emu_stop"),
        LOOK_UP(ctl, "uc_ctl"),
        LOOK_UP(context_alloc, "uc_context_alloc"),
        LOOK_UP(context_free, "uc_context_free"),
        LOOK_UP(context_save, "uc_context_save"),
        LOOK_UP(context_restore, "uc_context_restore"),
        LOOK_UP(context_size, "uc_context_size"),
        LOOK_UP(vmem_translate, "uc_vmem_translate"),
    };
    uc->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!uc->library) {
        PyErr_Format(error_host, "unicorn: %s", dlerror());
        return -1;
    }
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *found = dlsym(uc->library, functions[i].symbol);
        if (!found) {
            PyErr_Format(error_host, "unicorn: %s has no %s: expected version 2.1 or newer", path,
                         functions[i].symbol);
            return -1;
        }
        memcpy((char *)uc + functions[i].offset, &found, sizeof found);
    }
    return 0;
}

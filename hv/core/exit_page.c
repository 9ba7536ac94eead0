/* Exits as they stand in kvm_run: read once, checked, and loads answered there. */
#define _GNU_SOURCE
#include "core.h"

#include <string.h>

static int bad_exit(const char *what, unsigned long value, const char *expected)
{
    PyErr_Format(error_protocol, "run page: %s is %lu, expected %s", what, value, expected);
    return -1;
}

PyObject *exit_tuple(const struct guest_exit *e)
{
    PyObject *items[] = {PyLong_FromUnsignedLong(e->reason),
                         PyLong_FromUnsignedLongLong(e->address), PyLong_FromUnsignedLong(e->size),
                         PyBool_FromLong(e->is_write), PyLong_FromUnsignedLongLong(e->value)};
    PyObject *tuple = PyTuple_New(5);
    bool whole = tuple != NULL;
    for (Py_ssize_t i = 0; i < 5; i++) {
        whole = whole && items[i];
        if (tuple)
            PyTuple_SetItem(tuple, i, items[i]); /* takes the reference, also when it is NULL */
        else
            Py_XDECREF(items[i]);
    }
    if (!whole)
        Py_CLEAR(tuple);
    return tuple;
}

static int read_mmio(const volatile struct run_page *run, struct pending_load *load,
                     struct guest_exit *e)
{
    uint64_t address = run->mmio.phys_addr, data = run->mmio.data;
    uint32_t len = run->mmio.len;
    uint8_t is_write = run->mmio.is_write;
    if (len < 1 || len > 8)
        return bad_exit("mmio.len", len, "1 to 8");
    if (is_write > 1)
        return bad_exit("mmio.is_write", is_write, "0 or 1");
    if (address > UINT64_MAX - (len - 1))
        return bad_exit("mmio.phys_addr", address, "an address that does not wrap");
    *load = (struct pending_load){.size = is_write ? 0 : len};
    /* A load finds old data there. */
    data = is_write ? data & (UINT64_MAX >> (64 - 8 * len)) : 0;
    *e = (struct guest_exit){EXIT_MMIO, len, address, data, is_write};
    return 0;
}

static int read_io(const volatile struct run_page *run, const uint8_t *io_data,
                   struct pending_load *load, uint32_t element, uint32_t most, struct guest_exit *e)
{
    uint8_t direction = run->io.direction, size = run->io.size;
    uint16_t port = run->io.port;
    uint32_t count = run->io.count;
    uint64_t offset = run->io.data_offset, data;
    if (size != 1 && size != 2 && size != 4)
        return bad_exit("io.size", size, "1, 2 or 4");
    if (direction > IO_OUT)
        return bad_exit("io.direction", direction, "0 or 1");
    if (count <= element || count > most)
        return bad_exit("io.count", count, most > 1 ? "no more than fit in the page" : "1");
    if (offset != PAGE)
        return bad_exit("io.data_offset", offset, "4096");
    data = 0;
    memcpy(&data, io_data + (size_t)element * size, size);
    data = direction == IO_OUT ? data : 0;
    *load = (struct pending_load){
        .size = direction == IO_OUT ? 0 : size, .io = true, .element = element};
    *e = (struct guest_exit){EXIT_IO, size, port, data, direction == IO_OUT};
    return 0;
}

/* Each field of the page is read once, then checked, and only the copy is used. */
int exit_read(const volatile struct run_page *run, const uint8_t *io_data,
              struct pending_load *load, struct guest_exit *e)
{
    uint32_t reason = run->exit_reason;
    load->size = 0;
    *e = (struct guest_exit){.reason = reason};
    switch (reason) {
    case EXIT_MMIO:
        return read_mmio(run, load, e);
    case EXIT_IO:
        if (read_io(run, io_data, load, 0, 1, e) < 0)
            return -1;
        if (e->address <= PORTS - e->size)
            return 0;
        load->size = 0;
        return bad_exit("io.port", (unsigned long)e->address,
                        "a port whose last byte is below 0x10000");
    case EXIT_SYSTEM_EVENT:
        e->address = run->system_event.type;
        return 0;
    case EXIT_HLT:
        e->value = run->if_flag != 0;
        return 0;
    case EXIT_IRQ_WINDOW_OPEN:
    case EXIT_INTR:
        return 0;
    default:
        return bad_exit("exit_reason", reason, "2, 5, 6, 7, 10 or 24");
    }
}

uint32_t exit_elements(const volatile struct run_page *run)
{
    return run->exit_reason == EXIT_IO ? run->io.count : 0;
}

int exit_read_element(const volatile struct run_page *run, const uint8_t *io_data,
                      struct pending_load *load, uint32_t element, struct guest_exit *e)
{
    uint8_t size = run->io.size;
    load->size = 0;
    return read_io(run, io_data, load, element, size ? PAGE / size : 1, e);
}

int exit_complete(struct run_page *run, uint8_t *io_data, struct pending_load *load, uint64_t value)
{
    if (load->size == 0) {
        PyErr_SetString(PyExc_RuntimeError, "the last exit was no load, or it is answered");
        return -1;
    }
    value &= UINT64_MAX >> (64 - 8 * load->size);
    if (load->io)
        memcpy(io_data + (size_t)load->element * load->size, &value, load->size);
    else
        run->mmio.data = value;
    load->size = 0;
    return 0;
}

PyObject *exit_answer(struct run_page *run, uint8_t *io_data, struct pending_load *load,
                      PyObject *argument)
{
    uint64_t value = PyLong_AsUnsignedLongLongMask(argument);
    if (value == UINT64_MAX && PyErr_Occurred())
        return NULL;
    return exit_complete(run, io_data, load, value) < 0 ? NULL : Py_NewRef(Py_None);
}

/* ioeventfds: a write that matches one signals a descriptor; there is neither an entry nor an exit. */
#define _GNU_SOURCE
#include "vcpu.h"

#include <string.h>

static bool matches(const struct ioeventfd *e, uint64_t address, uint32_t size, uint64_t value)
{
    return address == e->address && (e->length == 0 || e->length == size) &&
           (!e->matches_value || value == e->value);
}

bool vcpu_signal_event(VcpuObject *v, int pio, uint64_t address, uint32_t size, uint64_t value,
                       bool before_zones)
{
    for (uint32_t i = 0; i < v->event_count[pio]; i++) {
        const struct ioeventfd *e = &v->events[pio][i];
        if ((before_zones && !e->before_zones) || !matches(e, address, size, value))
            continue;
        vm_ring_show(v->ring); /* the VMM drains the ring before it tells the device */
        static const uint64_t one = 1;
        ssize_t n;
        do
            n = write(e->fd, &one, sizeof one);
        while (n < 0 && errno == EINTR);
        /* EAGAIN: the counter is full, so that one more signal makes no difference. */
        return true;
    }
    return false;
}

void vcpu_mark_zones(VcpuObject *v)
{
    for (int pio = 0; pio < 2; pio++)
        for (uint32_t i = 0; i < v->zone_count[pio]; i++) {
            struct zone *z = &v->zones[pio][i];
            z->clear_of_ram = z->clear_of_events = true;
            for (int s = 0; s < v->ram_count && !pio; s++)
                if (z->start <= v->ram[s].start + (v->ram[s].size - 1) &&
                    z->last >= v->ram[s].start)
                    z->clear_of_ram = false;
            for (uint32_t e = 0; e < v->event_count[pio]; e++)
                if (z->start <= v->events[pio][e].address && v->events[pio][e].address <= z->last)
                    z->clear_of_events = false;
            z->bulk = z->clear_of_ram && z->clear_of_events && !z->posted;
        }
}

PyObject *vcpu_py_set_events(PyObject *self, PyObject *args)
{
    VcpuObject *v = (VcpuObject *)self;
    int pio;
    Py_buffer given;
    if (!PyArg_ParseTuple(args, "py*", &pio, &given))
        return NULL;
    size_t count = (size_t)given.len / sizeof(struct ioeventfd);
    struct ioeventfd *events = PyMem_Calloc(count + 1, sizeof *events);
    if (events)
        memcpy(events, given.buf, count * sizeof *events);
    PyBuffer_Release(&given);
    if (!events)
        return PyErr_NoMemory();
    if (vcpu_may_change(v) < 0) {
        PyMem_Free(events);
        return NULL;
    }
    PyMem_Free(v->events[pio]);
    v->events[pio] = events;
    v->event_count[pio] = (uint32_t)count;
    vcpu_mark_zones(v);
    Py_RETURN_NONE;
}

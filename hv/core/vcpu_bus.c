/* A guest's access reaches guest RAM or the ring, or exits to the VMM. */
#define _GNU_SOURCE
#include "ram.h"

static int guest_error(VcpuObject *v, const char *what, uint32_t size, uint64_t address,
                       const char *expected)
{
    char where[40] = "", text[24];
    vcpu_take_gil(v);
    if (v->op_index >= 0)
        PyOS_snprintf(where, sizeof where, "operation %lld: ", (long long)v->op_index);
    PyOS_snprintf(text, sizeof text, "0x%llx", (unsigned long long)address);
    PyErr_Format(error_guest, "%s%s of %u bytes at %s: expected %s", where, what, size, text,
                 expected);
    return -1;
}

static inline bool zone_covers(const struct zone *z, uint64_t address, uint64_t last)
{
    return address >= z->start && last <= z->last;
}

/* The zone that a write lies wholly inside, or NULL. */
static inline const struct zone *zone_find(VcpuObject *v, int pio, uint64_t address, uint64_t last)
{
    const struct zone *zones = v->zones[pio];
    uint32_t count = v->zone_count[pio];
    if (count == 0)
        return NULL;
    const struct zone *hit = &zones[v->zone_hit[pio]];
    if (zone_covers(hit, address, last))
        return hit;
    /* None lies in another, so ends ascend with starts: the last one that starts at or below. */
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (zones[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || !zone_covers(&zones[low - 1], address, last))
        return NULL;
    v->zone_hit[pio] = low - 1;
    return &zones[low - 1];
}

/* 1: queued in `r`; 0: that is full; -1: an exception is set, the GIL held. */
static inline int vcpu_queue(VcpuObject *v, struct vm_ring *r, uint64_t address, uint32_t size,
                             uint32_t pio, uint64_t value)
{
    vm_ring_hold(r);
    enum ring_status status = ring_append(&r->producer, address, size, pio, value);
    if (status == RING_OK && ++r->unpublished >= v->publish_every)
        vm_ring_publish(r);
    vm_ring_release(r);
    if (status == RING_OK) {
        v->coalesced++;
        return 1;
    }
    if (status == RING_FULL)
        return 0;
    vcpu_take_gil(v);
    if (mapping_check(r->mapping) == 0)
        ring_raise(status, r->producer.bad, 0, r->producer.slots);
    return -1;
}

/*
 * Put a write into the ring, or signal its ioeventfd. 1: done; 0: it must exit; -1: an exception is
 * set, the GIL held. *full: the ring was found full; nothing more is queued then.
 */
static int write_without_exit(VcpuObject *v, const struct zone *zone, int pio, uint64_t address,
                              uint32_t size, uint64_t value, bool *full)
{
    if (v->event_count[pio] && vcpu_signal_event(v, pio, address, size, value, zone != NULL))
        return 1;
    int queued = 0;
    if (zone && !*full) {
        queued = vcpu_queue(v, zone->ring, address, size, (uint32_t)pio, value);
        *full = queued == 0;
    }
    if (queued > 0 && zone->posted)
        vcpu_post(v);
    /* As in KVM the next one on the bus gets what has no room in the ring. */
    if (queued == 0 && zone && !zone->clear_of_events)
        return vcpu_signal_event(v, pio, address, size, value, false);
    return queued;
}

/* The same of a store that crosses no page; it may also go into RAM. */
static inline int store_without_exit(VcpuObject *v, uint64_t address, uint32_t size, uint64_t value,
                                     bool *full)
{
    const struct zone *zone = zone_find(v, 0, address, address + (size - 1));
    if (zone && zone->bulk && !*full) {
        int queued = vcpu_queue(v, zone->ring, address, size, 0, value);
        *full = queued == 0;
        return queued;
    }
    if (!zone || !zone->clear_of_ram) {
        uint64_t left;
        uint8_t *host = ram_find(v, address, &left, true);
        if (host) {
            ram_store(host, size, value);
            return 1;
        }
    }
    return write_without_exit(v, zone, 0, address, size, value, full);
}

/* A store in two parts, of `room` bytes and the rest. */
static int store_across(VcpuObject *v, uint64_t address, uint32_t size, uint64_t value,
                        uint32_t room)
{
    /*
     * KVM tries both parts before it exits for either: the second is in the ring when the first
     * exits for want of a zone. Where it exits for want of room so does the second, although a
     * VMM that drains just now may have made some: in the ring it would overtake the first.
     */
    uint64_t low = value & size_mask(room), high = value >> (8 * room);
    bool full = false;
    int first = store_without_exit(v, address, room, low, &full);
    INJECT(between_parts);
    int second = first < 0 ? -1 : store_without_exit(v, address + room, size - room, high, &full);
    if (second == 0)
        v->rest = (struct split_store){address + room, high, size - room};
    if (second < 0 || (first == 0 && vcpu_exit_mmio(v, address, room, true, &low) < 0))
        return -1;
    return second ? 0 : vcpu_send_rest(v);
}

static inline int load_piece(VcpuObject *v, uint64_t address, uint32_t size, uint64_t *value)
{
    uint64_t left;
    const uint8_t *host = ram_find(v, address, &left, false);
    if (host) {
        *value = ram_load(host, size);
        return 0;
    }
    return vcpu_exit_mmio(v, address, size, false, value);
}

static inline int check_memory(VcpuObject *v, const char *what, uint64_t address, uint32_t size)
{
    if (size == 0 || size > 8 || (size & (size - 1)))
        return guest_error(v, what, size, address, "a size of 1, 2, 4 or 8");
    if (address > UINT64_MAX - (size - 1))
        return guest_error(v, what, size, address, "an address that does not wrap");
    return 0;
}

static inline int check_port(VcpuObject *v, const char *what, uint64_t port, uint32_t size)
{
    if (size == 0 || size > 4 || (size & (size - 1)))
        return guest_error(v, what, size, port, "a size of 1, 2 or 4");
    if (port > 0xffff - (size - 1))
        return guest_error(v, what, size, port, "ports of 0 to 0xffff");
    return 0;
}

int vcpu_store(VcpuObject *v, uint64_t address, uint32_t size, uint64_t value)
{
    if (vcpu_check_kick(v) < 0 || check_memory(v, "store", address, size) < 0)
        return -1;
    value &= size_mask(size);
    uint32_t room = PAGE - (uint32_t)(address & (PAGE - 1));
    /* The processor splits what crosses a page; each part is an access of its own. */
    if (size > room)
        return store_across(v, address, size, value, room);
    bool full = false;
    int done = store_without_exit(v, address, size, value, &full);
    return done ? (done < 0 ? -1 : 0) : vcpu_exit_mmio(v, address, size, true, &value);
}

int vcpu_load(VcpuObject *v, uint64_t address, uint32_t size, uint64_t *value)
{
    if (vcpu_check_kick(v) < 0 || check_memory(v, "load", address, size) < 0)
        return -1;
    uint32_t room = PAGE - (uint32_t)(address & (PAGE - 1));
    if (size <= room)
        return load_piece(v, address, size, value);
    uint64_t high;
    if (load_piece(v, address, room, value) < 0 ||
        load_piece(v, address + room, size - room, &high) < 0)
        return -1;
    *value |= high << (8 * room);
    return 0;
}

int vcpu_out(VcpuObject *v, uint64_t port, uint32_t size, uint64_t value)
{
    if (vcpu_check_kick(v) < 0 || check_port(v, "out", port, size) < 0)
        return -1;
    value &= size_mask(size);
    bool full = false;
    const struct zone *zone = zone_find(v, 1, port, port + size - 1);
    int done = write_without_exit(v, zone, 1, port, size, value, &full);
    if (done != 0)
        return done < 0 ? -1 : 0;
    return vcpu_exit_io(v, (uint16_t)port, size, true, &value);
}

int vcpu_in(VcpuObject *v, uint64_t port, uint32_t size, uint64_t *value)
{
    if (vcpu_check_kick(v) < 0 || check_port(v, "in", port, size) < 0)
        return -1;
    return vcpu_exit_io(v, (uint16_t)port, size, false, value);
}

/* A bulk operation's operations, made one by one. */
typedef bool (*next_store)(const void *bulk, Py_ssize_t i, struct op *op);

#define BULK static inline __attribute__((always_inline))

/* A bulk operation's use of a ring, in registers. */
struct queuing {
    struct ring_producer ring;
    struct wait_noter *waits;
    struct zone zone; /* that was hit last */
    uint32_t unpublished, publish_every;
};

/*
 * Append the stores numbered `i` to `end`, which there is room for, up to the first that does not
 * lie wholly in the zone and in a page; its number.
 */
BULK Py_ssize_t put_stores(struct queuing *q, next_store next, const void *bulk, Py_ssize_t i,
                           Py_ssize_t end)
{
    uint32_t size = 0; /* of the store before: that of the next one is mostly the same */
    uint64_t mask = 0;
    struct op op;
    for (; i < end && next(bulk, i, &op); i++) {
        if (op.size != size) {
            if (op.size - 1 > 7 || (op.size & (op.size - 1)))
                break;
            size = op.size;
            mask = size_mask(size);
        }
        if ((op.address & (PAGE - 1)) + size > PAGE ||
            !zone_covers(&q->zone, op.address, op.address + (size - 1)))
            break;
        ring_put(&q->ring, op.address, size, 0, op.value & mask);
        if (++q->unpublished >= q->publish_every) {
            waits_publish(q->waits, &q->ring);
            q->unpublished = 0;
        }
    }
    return i;
}

/* How many stores there is room for, at most so many as may go between two looks for a kick. */
static inline Py_ssize_t room_for_stores(const VcpuObject *v, struct queuing *q)
{
    if (atomic_load_explicit(&v->run->immediate_exit, memory_order_relaxed) ||
        (ring_room(&q->ring) == 0 && ring_look_first(&q->ring) != RING_OK))
        return 0;
    uint32_t room = ring_room(&q->ring);
    return room < PUBLISH_AT_LATEST ? room : PUBLISH_AT_LATEST;
}

/*
 * The fast path of bulk operations: stores from number `i` on into the zone that was hit last. It
 * ends at the first store that needs anything else, which vcpu_store does; its number.
 */
BULK Py_ssize_t queue_stores(VcpuObject *v, next_store next, const void *bulk, Py_ssize_t i,
                             Py_ssize_t count)
{
    if (v->zone_count[0] == 0 || !v->zones[0][v->zone_hit[0]].bulk)
        return i;
    struct vm_ring *r = v->zones[0][v->zone_hit[0]].ring;
    Py_ssize_t first = i, end, part, done;
    do {
        end = r->eager && count - i > PUBLISH_AT_LATEST ? i + PUBLISH_AT_LATEST : count;
        vm_ring_hold(r);
        struct queuing q = {.ring = r->producer,
                            .waits = &r->waits,
                            .zone = v->zones[0][v->zone_hit[0]],
                            .unpublished = r->unpublished,
                            .publish_every = v->publish_every};
        do {
            part = room_for_stores(v, &q);
            part = part < end - i ? part : end - i;
            done = put_stores(&q, next, bulk, i, i + part) - i;
            i += done;
        } while (done && done == part && i < end);
        r->producer = q.ring;
        r->unpublished = q.unpublished;
        vm_ring_release(r);
    } while (i == end && i < count);
    v->coalesced += (uint64_t)(i - first);
    return i;
}

/* Each store of a bulk operation that has nothing but stores. */
BULK int store_all(VcpuObject *v, next_store next, const void *bulk, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; (i = queue_stores(v, next, bulk, i, count)) < count; i++) {
        struct op op;
        next(bulk, i, &op);
        v->op_index = i;
        if (vcpu_store(v, op.address, op.size, op.value) < 0)
            return -1;
    }
    return 0;
}

struct columns {
    const uint64_t *addresses, *values;
    uint32_t size;
};

static inline bool column_store(const void *bulk, Py_ssize_t i, struct op *op)
{
    const struct columns *c = bulk;
    *op = (struct op){OP_STORE, c->size, c->addresses[i], c->values[i]};
    return true;
}

int vcpu_store_many(VcpuObject *v, const uint64_t *addresses, uint32_t size, const uint64_t *values,
                    Py_ssize_t count)
{
    struct columns columns = {addresses, values, size};
    return store_all(v, column_store, &columns, count);
}

static inline bool fill_store(const void *bulk, Py_ssize_t i, struct op *op)
{
    *op = *(const struct op *)bulk;
    op->address += (uint64_t)i * op->size;
    return true;
}

int vcpu_fill(VcpuObject *v, uint64_t address, uint32_t size, uint64_t count, uint64_t value)
{
    struct op first = {OP_STORE, size, address, value};
    return store_all(v, fill_store, &first,
                     count < PY_SSIZE_T_MAX ? (Py_ssize_t)count : PY_SSIZE_T_MAX);
}

static inline bool listed_store(const void *bulk, Py_ssize_t i, struct op *op)
{
    *op = ((const struct op *)bulk)[i];
    return op->kind == OP_STORE;
}

static int run_op(VcpuObject *v, struct op *op)
{
    switch (op->kind) {
    case OP_STORE:
        return vcpu_store(v, op->address, op->size, op->value);
    case OP_LOAD:
        return vcpu_load(v, op->address, op->size, &op->value);
    case OP_OUT:
        return vcpu_out(v, op->address, op->size, op->value);
    case OP_IN:
        return vcpu_in(v, op->address, op->size, &op->value);
    }
    return guest_error(v, "unknown kind of access", op->size, op->address,
                       "load, store, in or out (0 to 3)");
}

int vcpu_run_ops(VcpuObject *v, struct op *ops, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; (i = queue_stores(v, listed_store, ops, i, count)) < count; i++) {
        v->op_index = i;
        if (run_op(v, &ops[i]) < 0)
            return -1;
    }
    return 0;
}

int vcpu_copy_memory(VcpuObject *v, uint64_t address, uint8_t *bytes, Py_ssize_t size, bool write)
{
    while (size > 0) {
        uint64_t left;
        uint8_t *host = ram_find(v, address, &left, write);
        if (!host)
            return guest_error(v, write ? "write" : "read", 1, address, "guest RAM");
        Py_ssize_t part = (uint64_t)size < left ? size : (Py_ssize_t)left;
        if (write) {
            /* As ram_store: what was queued before is visible before these bytes are. */
            atomic_thread_fence(memory_order_release);
            memcpy(host, bytes, (size_t)part);
        } else if (bytes)
            memcpy(bytes, host, (size_t)part);
        address += (uint64_t)part;
        bytes = bytes ? bytes + part : NULL;
        size -= part;
    }
    return 0;
}

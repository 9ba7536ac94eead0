/* Counts, for each range of registers, what its writes were seen to do. */
#include "histogram.h"
#include "odd.h"
#include "record.h"
#include "table.h"

enum { STEP_MAX = 256, REACH = 8, GRANULE = 64 };
enum { WINDOW = 1, JOINED = 2 }; /* bits of a range's mark */

struct counted {
    int64_t count, line; /* line: the first, 0: there is none */
};

/* As evidence.FOUND has it. */
struct found {
    int64_t writes, strings, reads, exits, first_line, name, in_force, exits_of_writes;
    int64_t same_back, in_range, followed, read, polled, continued, several_values;
    uint64_t value; /* of the first write */
    struct counted other_back, repeated, counting, window, mapping, beside;
    int64_t parts[PARTS];
    int64_t near[2 * REACH + 1]; /* accesses beside it that follow, by their distance */
};

/* An access that another one of its thread follows. */
struct access {
    uint64_t address, value;
    int64_t time, line;
    long range;
    uint32_t traits;
    uint8_t size, single;
};

struct thread {
    struct access last, before; /* line 0: there is none */
};

/* The bytes that were last written to 64 addresses, and which of them are known. */
struct bytes {
    uint8_t at[GRANULE];
    uint64_t known;
};

struct evidence {
    struct pass pass;
    struct whole whole;
    struct ranges ranges, zones;
    struct found *found;
    struct table threads, values, memory, to_next, odd;
    int64_t staleness, least; /* when a write is late, and how many late ones make an address odd */
    uint64_t mapping_registers; /* a bit for each of 64 words of PCI's configuration space */
    unsigned config_address, config_data, selected;
};

static void count(struct counted *c, int64_t line)
{
    c->count++;
    if (!c->line || line < c->line)
        c->line = line;
}

static bool is_window(const struct evidence *e, long range)
{
    return range >= 0 && e->ranges.at[range].mark & WINDOW;
}

/* --- the order of a thread's accesses --- */

static bool is_beside(const struct evidence *e, const struct access *w, const struct access *then,
                      int64_t *distance)
{
    const struct range *range = &e->ranges.at[w->range];
    *distance = (int64_t)(then->address - range->start);
    return !range->mark && range->port == (uint32_t)((then->traits & PORT) != 0) && *distance &&
           *distance >= -REACH && *distance <= REACH;
}

/* A single write, and the next access. */
static bool follow(struct evidence *e, const struct access *w, const struct access *then)
{
    struct found *f = &e->found[w->range];
    int64_t distance;
    f->followed++;
    if (then->address == w->address && then->traits & WRITE &&
        !((then->traits ^ w->traits) & PORT) && then->value != w->value)
        count(&f->repeated, w->line);
    if (then->range == w->range && then->traits & WRITE)
        f->in_range++;
    if (is_window(e, then->range) && then->range != w->range)
        count(&f->window, w->line);
    if (is_beside(e, w, then, &distance)) {
        count(&f->beside, w->line);
        f->read += (then->traits & (READ | ANNOUNCED)) != 0;
        f->near[distance + REACH]++;
    }
    if (w->time == NO_TIME || then->time == NO_TIME || then->time < w->time)
        return true;
    int64_t wait = then->time - w->time;
    if (is_window(e, w->range) && wait > e->staleness &&
        !odd_late(&e->odd, w->address, w->size, w->line))
        return false;
    return count_wait(&e->to_next, w->range, wait);
}

/* A single write, the access that follows, and the one that follows that. */
static void follow_on(struct evidence *e, const struct access *w, const struct access *then,
                      const struct access *again)
{
    struct found *f = &e->found[w->range];
    int64_t distance;
    if (!is_beside(e, w, then, &distance))
        return;
    bool both = then->traits & (READ | ANNOUNCED) && again->traits & (READ | ANNOUNCED);
    f->polled += both && again->address == then->address;
    f->continued += again->address == then->address + then->size &&
                    again->address != e->ranges.at[w->range].start;
}

static bool in_order(struct evidence *e, const struct record *r, long range)
{
    struct thread *t = table_add(&e->threads, (struct key){(uint32_t)r->thread, 0, 0});
    if (!t)
        return false;
    struct access now = {r->address, r->value,  r->time, r->line,
                         range,      r->traits, r->size, is_single(r)};
    if (t->last.line && t->last.single && t->last.range >= 0 && !follow(e, &t->last, &now))
        return false;
    if (t->before.line && t->before.single && t->before.range >= 0)
        follow_on(e, &t->before, &t->last, &now);
    t->before = t->last;
    t->last = now;
    return true;
}

/* --- values --- */

static struct key granule_of(const struct record *r, uint64_t address)
{
    return (struct key){address / GRANULE, is_port(r), 0};
}

static bool write_bytes(struct evidence *e, const struct record *r)
{
    struct bytes *bytes = NULL;
    for (unsigned n = 0; n < r->size; n++) {
        uint64_t address = r->address + n;
        if (n == 0 || address % GRANULE == 0)
            bytes = table_add(&e->memory, granule_of(r, address));
        if (!bytes)
            return false;
        bytes->at[address % GRANULE] = (uint8_t)(r->value >> 8 * n);
        bytes->known |= (uint64_t)1 << address % GRANULE;
    }
    return true;
}

/* Were all bytes of a read written before, and does one differ from what was written? */
static bool read_back(struct evidence *e, const struct record *r, long range)
{
    struct found *f = &e->found[range];
    bool other = false, known = true;
    const struct bytes *bytes = NULL;
    for (unsigned n = 0; n < r->size; n++) {
        uint64_t address = r->address + n;
        if (n == 0 || address % GRANULE == 0)
            bytes = table_find(&e->memory, granule_of(r, address));
        bool here = bytes && bytes->known >> address % GRANULE & 1;
        known &= here;
        other |= here && bytes->at[address % GRANULE] != (uint8_t)(r->value >> 8 * n);
    }
    if (other)
        count(&f->other_back, r->line);
    else if (known)
        f->same_back++;
    return !other || !is_window(e, range) || odd_other(&e->odd, r);
}

/* Is a value one small step above the last one that was written there? */
static bool count_up(struct evidence *e, const struct record *r, struct found *f)
{
    size_t before = e->values.used;
    uint64_t *value =
        table_add(&e->values, (struct key){r->address, (uint64_t)r->size << 1 | is_port(r), 0});
    if (!value)
        return false;
    uint64_t step = r->value - *value;
    if (is_single(r) && e->values.used == before && step && step <= STEP_MAX)
        count(&f->counting, r->line);
    *value = r->value;
    return true;
}

/* Does it write configuration data of PCI that moves or enables a range? */
static bool maps(const struct evidence *e, const struct record *r)
{
    return is_port(r) && r->address >= e->config_data && r->address < e->config_data + 4 &&
           e->mapping_registers >> (e->selected >> 2 & 63) & 1;
}

static void write_to(struct evidence *e, const struct record *r, struct found *f)
{
    if (!f->first_line) {
        f->first_line = r->line;
        f->name = r->name;
    }
    if (!is_single(r)) {
        f->strings++;
        return;
    }
    if (!f->writes++)
        f->value = r->value;
    f->several_values |= f->value != r->value;
    f->in_force |= inside(r, &e->zones);
    f->exits_of_writes += exits(&e->whole, r);
    if (maps(e, r))
        count(&f->mapping, r->line);
}

static bool touch(struct evidence *e, const struct record *r, long range)
{
    struct found *f = &e->found[range];
    f->exits += exits(&e->whole, r);
    f->parts[part_of(&e->whole, r, e->pass.index)] += begins(r);
    struct odd *odd = is_window(e, range) ? odd_find(&e->odd, r) : NULL;
    if (r->traits & READ) {
        f->reads++;
        if (odd)
            odd->reads++;
        return r->count != 1 || read_back(e, r, range);
    }
    if (!(r->traits & WRITE))
        return true;
    if (odd)
        odd->writes++;
    write_to(e, r, f);
    return e->ranges.at[range].mark || count_up(e, r, f);
}

static bool step(struct pass *pass, struct record *r)
{
    struct evidence *e = (struct evidence *)pass;
    if (!(r->traits & (READ | WRITE | ANNOUNCED)))
        return true;
    long range = range_of(&e->ranges, r);
    if (range >= 0 && !touch(e, r, range))
        return false;
    bool judged = range < 0 || !(e->ranges.at[range].mark & JOINED);
    if (judged && is_single(r) && !(r->traits & KERNEL) && !write_bytes(e, r))
        return false;
    if ((r->traits & (WRITE | PORT)) == (WRITE | PORT) && r->address == e->config_address)
        e->selected = (unsigned)r->value & 0xfc;
    return !begins(r) || in_order(e, r, range);
}

/* The evidence of each range, the waits to the next access, and odd addresses of windows. */
static PyObject *result(struct pass *pass)
{
    struct evidence *e = (struct evidence *)pass;
    PyObject *bins = bins_of(&e->to_next);
    PyObject *odd = bins ? odd_rows(&e->odd, e->least) : NULL;
    if (!odd) {
        Py_XDECREF(bins);
        return NULL;
    }
    return Py_BuildValue("NNN", bytes_of(e->found, e->ranges.count * sizeof *e->found), bins, odd);
}

static void clear(struct pass *pass)
{
    struct evidence *e = (struct evidence *)pass;
    free(e->ranges.at);
    free(e->zones.at);
    free(e->found);
    free(e->threads.slots);
    free(e->values.slots);
    free(e->memory.slots);
    free(e->to_next.slots);
    free(e->odd.slots);
}

struct pass *evidence_new(PyObject *args)
{
    Py_buffer ranges, zones;
    struct evidence *e = calloc(1, sizeof *e);
    if (!e)
        return (struct pass *)PyErr_NoMemory();
    unsigned long long registers;
    if (!PyArg_ParseTuple(args, "(iiLLL)y*y*(IIK)(LL)", &e->whole.has_exits, &e->whole.timed,
                          &e->whole.begin, &e->whole.end, &e->whole.events, &ranges, &zones,
                          &e->config_address, &e->config_data, &registers, &e->staleness,
                          &e->least)) {
        free(e);
        return NULL;
    }
    e->pass = (struct pass){.step = step, .result = result, .clear = clear};
    e->mapping_registers = registers;
    e->threads.value = sizeof(struct thread);
    e->values.value = sizeof(uint64_t);
    e->memory.value = sizeof(struct bytes);
    e->to_next.value = sizeof(struct bin);
    e->odd.value = sizeof(struct odd);
    bool good = ranges_of(&ranges, &e->ranges);
    good = ranges_of(&zones, &e->zones) && good;
    e->found = good ? calloc(e->ranges.count + 1, sizeof *e->found) : NULL;
    if (e->found)
        return &e->pass;
    clear(&e->pass);
    free(e);
    return (struct pass *)(good ? PyErr_NoMemory() : NULL);
}

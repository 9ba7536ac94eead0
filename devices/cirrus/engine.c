/* The extension coalesced.devices.cirrus.engine: arguments of the blitter's inner loops, checked. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "engine.h"

static struct rop rop_of(unsigned truth)
{
    /* Bit s * 2 + d of the truth table is what s and d give. */
    uint64_t none = truth & 1, target = none ^ (truth >> 1 & 1), source = none ^ (truth >> 2 & 1);
    uint64_t both = none ^ target ^ source ^ (truth >> 3 & 1);
    return (struct rop){-none, -source, -target, -both};
}

static PyObject *finish(Py_buffer *memory, Py_buffer *source, const char *wrong)
{
    PyBuffer_Release(memory);
    PyBuffer_Release(source);
    if (wrong) {
        PyErr_SetString(PyExc_ValueError, wrong);
        return NULL;
    }
    Py_RETURN_NONE;
}

static const char *check(struct bytes memory, int64_t count, int64_t height)
{
    if (memory.size < 64 || (memory.size & (memory.size - 1)))
        return "expected memory of a power of two, 64 bytes at least";
    if (count < 0 || count > 1 << 16 || height < 0 || height > 1 << 16)
        return "expected 0 to 65536 columns and rows";
    return NULL;
}

static PyObject *engine_copy(PyObject *module, PyObject *arguments)
{
    (void)module;
    Py_buffer memory, source;
    struct copy c = {0};
    long long dst, dst_stride, src, src_stride, width, height;
    int truth, key, backwards;
    if (!PyArg_ParseTuple(arguments, "w*y*iLLLLLLiip", &memory, &source, &c.unit, &width, &height,
                          &dst, &dst_stride, &src, &src_stride, &truth, &key, &backwards))
        return NULL;
    c.memory = (struct bytes){memory.buf, memory.len};
    c.source = (struct bytes){source.buf, source.len};
    c.rop = rop_of((unsigned)truth);
    c.dst = dst, c.dst_stride = dst_stride, c.src = src, c.src_stride = src_stride;
    c.width = width, c.height = height, c.backwards = backwards, c.keyed = key >= 0;
    c.key = (uint64_t)key * (c.unit == 1 ? 0x0101010101010101u : 0x0001000100010001u);
    const char *wrong = check(c.memory, width, height);
    if (!wrong && (c.source.size < 2 || c.source.size % 2))
        wrong = "expected a source of an even number of bytes";
    if (!wrong && c.unit != 1 && c.unit != 2)
        wrong = "expected units of 1 or 2 bytes";
    if (!wrong)
        copy_rows(&c);
    return finish(&memory, &source, wrong);
}

/* Eight pixels of one colour. */
static void repeat_color(uint64_t *words, unsigned color, int pixel)
{
    uint8_t *to = (uint8_t *)words;
    for (int at = 0; at < PIXELS * pixel; at++)
        to[at] = (uint8_t)(color >> 8 * (at % pixel));
}

enum kind { EXPAND, TILE_BITS, TILE_PIXELS };

/* The arguments that all drawings have; `extra` and `first` are the kind's own. */
static PyObject *draw(PyObject *arguments, enum kind kind)
{
    Py_buffer memory, source;
    struct drawing g = {0};
    long long dst, pitch, src, count, height, extra;
    int truth, first, transparent, flip;
    unsigned one, zero;
    if (!PyArg_ParseTuple(arguments, "w*y*iLLLLLLiiIIpp", &memory, &source, &g.pixel, &count,
                          &height, &dst, &pitch, &src, &extra, &first, &truth, &one, &zero,
                          &transparent, &flip))
        return NULL;
    g.memory = (struct bytes){memory.buf, memory.len};
    g.source = (struct bytes){source.buf, source.len};
    g.rop = rop_of((unsigned)truth);
    g.dst = dst, g.pitch = pitch, g.src = src, g.count = count, g.height = height;
    g.transparent = transparent;
    const char *wrong = check(g.memory, count, height);
    if (!wrong && g.source.size < 1)
        wrong = "expected a source that is not empty";
    if (!wrong && (g.pixel < 1 || g.pixel > MOST_BYTES))
        wrong = "expected pixels of 1 to 4 bytes";
    if (!wrong &&
        (first < 0 || first > (kind == TILE_PIXELS ? 31 : 8) || extra < 0 || extra > 1 << 16))
        wrong = "expected what is left out to be at most 8 columns, of a pattern of pixels 31";
    if (wrong)
        return finish(&memory, &source, wrong);
    repeat_color(g.words, one, g.pixel);
    repeat_color(g.others, zero, g.pixel);
    if (kind == EXPAND)
        expand_rows(&g, extra, first, flip ? 0xff : 0);
    else if (kind == TILE_BITS)
        tile_bits(&g, (int)extra, first % 8, flip ? 0xff : 0);
    else
        tile_pixels(&g, g.pixel == 3 ? 32 : PIXELS * g.pixel, (int)extra, first);
    return finish(&memory, &source, NULL);
}

static PyObject *engine_expand(PyObject *module, PyObject *arguments)
{
    (void)module;
    return draw(arguments, EXPAND);
}

static PyObject *engine_tile_bits(PyObject *module, PyObject *arguments)
{
    (void)module;
    return draw(arguments, TILE_BITS);
}

static PyObject *engine_tile_pixels(PyObject *module, PyObject *arguments)
{
    (void)module;
    return draw(arguments, TILE_PIXELS);
}

static PyMethodDef functions[] = {
    {"copy", engine_copy, METH_VARARGS, "Combine a rectangle into another, unit by unit."},
    {"expand", engine_expand, METH_VARARGS, "Turn rows of bits into pixels."},
    {"tile_bits", engine_tile_bits, METH_VARARGS, "Tile a rectangle with 8 x 8 bits."},
    {"tile_pixels", engine_tile_pixels, METH_VARARGS, "Tile a rectangle with 8 x 8 pixels."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "coalesced.devices.cirrus.engine",
    .m_doc = "The blitter's inner loops.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit_engine(void);

PyMODINIT_FUNC PyInit_engine(void)
{
    prepare_drawing();
    return PyModule_Create(&definition);
}

/* VcpuHandle, running: enter, wait, and the exit that came, for Python and for other C. */
#define _GNU_SOURCE
#include "handle.h"
#include "posted.h"

/* Interval of looks at the descriptor, a system call each, while exits keep coming. */
#define LOOK_NS 50000u

/* Waits that end at once keep the interpreter; one in this many lets another thread run. */
#define WAITS_HELD 64u
#define LOOKS 64 /* of such a wait: some microseconds */

static bool exited(const HandleObject *h)
{
    return atomic_load_explicit(&h->words->exit_sequence, memory_order_relaxed) != h->exits;
}

/* A third process wrote to one of our words: the other side may never answer it. */
static bool words_overwritten(const HandleObject *h)
{
    const struct run_words *w = h->words;
    return atomic_load_explicit(&w->resume_sequence, memory_order_relaxed) != h->resumes ||
           atomic_load_explicit(&w->irq_lines, memory_order_relaxed) != h->lines ||
           atomic_load_explicit(&w->request_sequence, memory_order_relaxed) != h->requests ||
           (h->kicked && !atomic_load_explicit(&h->run->immediate_exit, memory_order_relaxed));
}

bool handle_ready(void *ctx)
{
    const HandleObject *h = ctx;
    if (exited(h) || words_overwritten(h))
        return true;
    if (!h->watched)
        return false;
    if (h->watched & WATCH_POSTED && posted_since(h->words, h->posted))
        return true;
    /* Only whether to look; ring_look reads it again, with acquire. */
    return h->watched & WATCH_RING &&
           atomic_load_explicit(&h->ring->c.ring->last, memory_order_relaxed) != h->ring->c.next;
}

bool handle_posted_apart(const HandleObject *h)
{
    return h->watched & POSTED_APART && posted_since(h->words, h->posted);
}

static int enter(HandleObject *h)
{
    atomic_store_explicit(&h->run->immediate_exit, 0, memory_order_relaxed);
    h->kicked = false;
    h->running = true;
    h->unread = h->untaken = false;
    h->load.size = 0;
    resume_post(h->words, ++h->resumes);
    doorbell_signal(&h->bell);
    return mapping_check(h->mapping);
}

int handle_enter_now(HandleObject *h)
{
    return enter(h);
}

static int enter_once(PyObject *self)
{
    HandleObject *h = (HandleObject *)self;
    if (h->running) {
        PyErr_SetString(PyExc_RuntimeError, "the vCPU is running already");
        return -1;
    }
    return enter(h);
}

PyObject *handle_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (enter_once(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* Take note of an exit; 0, or -1 with an exception set. */
static int note_exit(HandleObject *h)
{
    uint32_t exits = exit_take(h->words);
    if (mapping_check(h->mapping) < 0)
        return -1;
    if (exits != h->exits + 1 || !h->running) {
        PyErr_Format(error_protocol, "run page: exit sequence is %u, expected %u", exits,
                     h->exits + (h->running ? 1 : 0));
        return -1;
    }
    h->exits = exits;
    h->running = false;
    return 0;
}

/*
 * A guest that exits all the time must keep out neither timers nor descriptors: TIMED_OUT, READABLE,
 * or EXITED when it is the exit's turn.
 */
static int look_past_exits(HandleObject *h, uint64_t due)
{
    if ((due == UINT64_MAX && h->bell.watch_fd < 0) || h->passed_over)
        return EXITED;
    uint64_t now = now_ns();
    if (now >= due)
        return TIMED_OUT;
    if (h->bell.watch_fd < 0 || now - h->looked_at < LOOK_NS)
        return EXITED;
    h->looked_at = now;
    return doorbell_watched(&h->bell) ? READABLE : EXITED;
}

/* Look a few times with the interpreter held: giving it up and taking it costs what an exit does. */
static inline bool ready_at_once(HandleObject *h, bool (*ready)(void *), void *ctx)
{
    if (ready(ctx))
        return true;
    if (h->bell.policy == WAIT_BLOCK || ++h->waits_held % WAITS_HELD == 0)
        return false;
    for (int i = 0; i < LOOKS; i++) {
        cpu_relax();
        if (ready(ctx))
            return true;
    }
    return false;
}

/* Wait without the interpreter: EXITED when there is something to see, another event, or -1. */
static int sleep_until_ready(HandleObject *h, bool (*ready)(void *), void *ctx, uint64_t deadline)
{
    PyThreadState *save = PyEval_SaveThread();
    enum wait_result r = core_wait(&h->bell, ready, ctx, deadline, h->mapping, &save);
    PyEval_RestoreThread(save);
    if (r == WAIT_PEER_GONE)
        PyErr_SetString(error_peer_died, "the guest process ended");
    if (r == WAIT_ERROR || r == WAIT_PEER_GONE)
        return -1;
    return r == WAIT_TIMEOUT ? TIMED_OUT : r == WAIT_WATCHED ? READABLE : EXITED;
}

void handle_watch_for(HandleObject *h, long watch)
{
    h->keeps = watch & KEEP_WRITES;
    h->watched = h->ring ? watch & (WATCH_RING | WATCH_POSTED | POSTED_APART) : 0;
}

/* Inline, with `ready` known: an indirect call costs a waiter of one vCPU some nanoseconds. */
static inline __attribute__((always_inline)) int wait_until(HandleObject *h, bool (*ready)(void *),
                                                            void *ctx, const struct waiting *w)
{
    h->bell.watch_fd = w->watch & WATCH_DESCRIPTOR ? h->watch_fd : -1;
    uint64_t end = w->deadline < w->due ? w->deadline : w->due;
    int news = ready_at_once(h, ready, ctx) ? EXITED : sleep_until_ready(h, ready, ctx, end);
    if (news == EXITED) {
        news = look_past_exits(h, w->due);
        h->passed_over = news != EXITED;
    }
    return news;
}

int handle_wait_until(HandleObject *h, bool (*ready)(void *), void *ctx, const struct waiting *w)
{
    return wait_until(h, ready, ctx, w);
}

static inline int look(HandleObject *h)
{
    if (exited(h))
        return note_exit(h) < 0 ? -1 : EXITED;
    if (!words_overwritten(h))
        return TIMED_OUT;
    if (mapping_check(h->mapping) == 0)
        PyErr_SetString(error_protocol, "run page: a word of the VMM's was overwritten");
    return -1;
}

int handle_look(HandleObject *h)
{
    return look(h);
}

/* Wait for an exit, or for what `watch` has: an event, or -1 with an exception set. */
static int wait_for(HandleObject *h, const struct waiting *w)
{
    handle_watch_for(h, w->watch);
    int news = wait_until(h, handle_ready, h, w);
    if (news != EXITED)
        return news;
    if (!handle_posts_first(h, handle_posted_apart(h)) && (news = look(h)) != TIMED_OUT)
        return news;
    h->posted = posted_take(h->words);
    return RING_FILLED;
}

int waiting_from(PyObject *const *args, Py_ssize_t n, struct waiting *w)
{
    w->due = UINT64_MAX;
    if (n != 2 && n != 3) {
        PyErr_Format(PyExc_TypeError, "expected 2 or 3 arguments, got %zd", n);
        return -1;
    }
    if (deadline_from(args[0], &w->deadline) < 0 || (n == 3 && moment_from(args[2], &w->due) < 0))
        return -1;
    w->watch = PyLong_AsLong(args[1]);
    return w->watch == -1 && PyErr_Occurred() ? -1 : 0;
}

PyObject *handle_wait(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    struct waiting w;
    if (waiting_from(args, n, &w) < 0)
        return NULL;
    int got = wait_for((HandleObject *)self, &w);
    return got < 0 ? NULL : Py_NewRef(event_objects[got]);
}

static int read_exit(HandleObject *h, struct guest_exit *e)
{
    int result = exit_read(h->run, h->io_data, &h->load, e);
    return result < 0 ? result : mapping_check(h->mapping);
}

PyObject *handle_exit(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct guest_exit e;
    return read_exit((HandleObject *)self, &e) < 0 ? NULL : exit_tuple(&e);
}

int handle_tell_exit(HandleObject *h, struct guest_exit *e)
{
    h->unread = false;
    if ((h->watched & (WATCH_POSTED | POSTED_APART)) == WATCH_POSTED)
        h->posted = posted_take(h->words); /* the ring is drained before an exit is handled */
    int result = read_exit(h, e);
    h->untaken = result == 0 && h->keeps && e->is_write;
    return result < 0 ? -1 : EXITED;
}

static int run(HandleObject *h, const struct waiting *w, struct guest_exit *e)
{
    if (handle_has_exit(h))
        return handle_tell_exit(h, e);
    if (!h->running && enter(h) < 0)
        return -1;
    int got = wait_for(h, w);
    return got == EXITED ? handle_tell_exit(h, e) : got;
}

PyObject *handle_run(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    struct waiting w;
    struct guest_exit e;
    if (waiting_from(args, n, &w) < 0)
        return NULL;
    int got = run((HandleObject *)self, &w, &e);
    return got < 0 ? NULL : got == EXITED ? exit_tuple(&e) : Py_NewRef(event_objects[got]);
}

int handle_stopped(HandleObject *h)
{
    return wait_for(h, &(struct waiting){.deadline = UINT64_MAX, .due = UINT64_MAX});
}

PyObject *handle_complete(PyObject *self, PyObject *argument)
{
    HandleObject *h = (HandleObject *)self;
    return exit_answer(h->run, h->io_data, &h->load, argument);
}

/* ---- for other extensions (calls.h) --------------------------------------------------------- */

static int call_run(PyObject *handles, long watch, uint64_t due, struct guest_exit *e,
                    PyObject **of)
{
    struct waiting w = {.deadline = UINT64_MAX, .due = due, .watch = watch};
    if (Py_TYPE(handles) != HandleType)
        return handles_run(handles, &w, e, of);
    *of = handles;
    return run((HandleObject *)handles, &w, e);
}

static int call_check(PyObject *handles)
{
    if (Py_TYPE(handles) == HandleType || Py_TYPE(handles) == HandlesType)
        return 0;
    PyErr_SetString(PyExc_TypeError, "expected a VcpuHandle or VcpuHandles");
    return -1;
}

static int call_queued(PyObject *handle)
{
    const ConsumerObject *ring = ((HandleObject *)handle)->ring;
    /* As in handle_ready: the drain looks again, with acquire. */
    bool queued =
        ring && atomic_load_explicit(&ring->c.ring->last, memory_order_relaxed) != ring->c.next;
    return mapping_check(((HandleObject *)handle)->mapping) < 0 ? -1 : queued;
}

static int call_complete(PyObject *handle, uint64_t value)
{
    HandleObject *h = (HandleObject *)handle;
    return exit_complete(h->run, h->io_data, &h->load, value);
}

static PyObject *call_event(int event)
{
    return Py_NewRef(event_objects[event]);
}

int handle_add_calls(PyObject *module)
{
    static struct handle_calls calls = {.check = call_check,
                                        .run = call_run,
                                        .queued = call_queued,
                                        .complete = call_complete,
                                        .enter = enter_once,
                                        .told = exit_tuple,
                                        .event = call_event,
                                        .moment = moment_from};
    PyObject *capsule = PyCapsule_New(&calls, CALLS_NAME, NULL);
    int result = capsule ? PyModule_AddObjectRef(module, "calls", capsule) : -1;
    Py_XDECREF(capsule);
    return result;
}

/* A ring behind a mutex that processes share, and that outlives its holder. */
#include <errno.h>
#include <pthread.h>
#include <time.h>

struct ring {
    pthread_mutex_t mutex;
    uint64_t tail, head;
    uint32_t capacity;
    struct user_ring_entry cell[];
};

const char ring_claims[] = "producer-death consumer-death no-lost-wakeup";

static size_t ring_size(uint32_t entries)
{
    return sizeof(struct ring) + entries * sizeof(struct user_ring_entry);
}

static int ring_init(void *memory, uint32_t entries)
{
    struct ring *ring = memory;
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    ring->capacity = entries;
    return pthread_mutex_init(&ring->mutex, &attributes);
}

static void lock(struct ring *ring)
{
    if (pthread_mutex_lock(&ring->mutex) == EOWNERDEAD)
        pthread_mutex_consistent(&ring->mutex); /* an index moves last: nothing is half done */
}

static int ring_push(void *memory, const struct user_ring_entry *entry)
{
    struct ring *ring = memory;
    lock(ring);
    int done = ring->tail - ring->head < ring->capacity;
    if (done) {
        ring->cell[ring->tail % ring->capacity] = *entry;
        RING_POINT("before tail");
        __atomic_store_n(&ring->tail, ring->tail + 1, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&ring->mutex);
    return done;
}

static int ring_pop(void *memory, struct user_ring_entry *entry)
{
    struct ring *ring = memory;
    lock(ring);
    int done = ring->tail != ring->head;
    if (done) {
        *entry = ring->cell[ring->head % ring->capacity];
        RING_POINT("before head");
        ring->head++;
    }
    pthread_mutex_unlock(&ring->mutex);
    return done;
}

static int ring_wait(void *memory, int milliseconds)
{
    struct ring *ring = memory;
    for (int left = milliseconds * 10; left > 0; left--) {
        if (__atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE) != ring->head)
            return 1;
        nanosleep(&(struct timespec){0, 100000}, NULL);
    }
    return 0;
}

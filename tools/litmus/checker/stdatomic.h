/*
 * <stdatomic.h> for a program under the explorer: each atomic access and fence, with its order and
 * its source line, is a step that the explorer schedules. Only integers and pointers.
 */
#ifndef LITMUS_STDATOMIC_H
#define LITMUS_STDATOMIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    memory_order_relaxed,
    memory_order_consume,
    memory_order_acquire,
    memory_order_release,
    memory_order_acq_rel,
    memory_order_seq_cst
} memory_order;

/* The place of an access in the source. */
struct litmus_source {
    const char *file;
    int line;
    const char *text;
};

enum litmus_change { LITMUS_SET, LITMUS_ADD, LITMUS_SUB, LITMUS_OR, LITMUS_AND, LITMUS_XOR };

uint64_t litmus_load(const volatile void *object, size_t size, memory_order order,
                     struct litmus_source source);
void litmus_store(volatile void *object, size_t size, uint64_t value, memory_order order,
                  struct litmus_source source);
uint64_t litmus_change(volatile void *object, size_t size, enum litmus_change how, uint64_t by,
                       memory_order order, struct litmus_source source);
bool litmus_compare_exchange(volatile void *object, size_t size, void *expected, uint64_t value,
                             memory_order order, memory_order failed, struct litmus_source source);
void litmus_fence(memory_order order, struct litmus_source source);

#define LITMUS_AT(text) ((struct litmus_source){__FILE__, __LINE__, text})
#define LITMUS_VALUE(p) __typeof__((void)0, *(p))
#define LITMUS_POINTER 5 /* of __builtin_classify_type */
#define LITMUS_REAL 8
#define LITMUS_SIZED(p)                                                              \
    (sizeof(*(p)) + 0 * sizeof(struct {                                              \
                        _Static_assert(sizeof(*(p)) <= 8, "up to 8 bytes");          \
                        _Static_assert(__builtin_classify_type(*(p)) != LITMUS_REAL, \
                                       "integers and pointers only");                \
                        int x;                                                       \
                    }))
#define LITMUS_CHANGE(p, how, v, o) \
    ((LITMUS_VALUE(p))litmus_change((p), LITMUS_SIZED(p), (how), (uint64_t)(v), (o), LITMUS_AT(#p)))
/* GCC's atomic_fetch_add adds bytes to a pointer, Clang's adds elements. */
#define LITMUS_ARITHMETIC(p, how, v, o)                                                      \
    LITMUS_CHANGE(p, how,                                                                    \
                  ((void)sizeof(struct {                                                     \
                       _Static_assert(__builtin_classify_type(*(p)) != LITMUS_POINTER,       \
                                      "no arithmetic on atomic pointers: compilers differ"); \
                       int x;                                                                \
                   }),                                                                       \
                   (v)),                                                                     \
                  o)

#define atomic_load_explicit(p, o) \
    ((LITMUS_VALUE(p))litmus_load((p), LITMUS_SIZED(p), (o), LITMUS_AT(#p)))
#define atomic_store_explicit(p, v, o) \
    litmus_store((p), LITMUS_SIZED(p), (uint64_t)(LITMUS_VALUE(p))(v), (o), LITMUS_AT(#p))
#define atomic_exchange_explicit(p, v, o) LITMUS_CHANGE(p, LITMUS_SET, v, o)
#define atomic_fetch_add_explicit(p, v, o) LITMUS_ARITHMETIC(p, LITMUS_ADD, v, o)
#define atomic_fetch_sub_explicit(p, v, o) LITMUS_ARITHMETIC(p, LITMUS_SUB, v, o)
#define atomic_fetch_or_explicit(p, v, o) LITMUS_ARITHMETIC(p, LITMUS_OR, v, o)
#define atomic_fetch_and_explicit(p, v, o) LITMUS_ARITHMETIC(p, LITMUS_AND, v, o)
#define atomic_fetch_xor_explicit(p, v, o) LITMUS_ARITHMETIC(p, LITMUS_XOR, v, o)
#define atomic_compare_exchange_strong_explicit(p, e, v, o, f)                                   \
    litmus_compare_exchange((p), LITMUS_SIZED(p), (e), (uint64_t)(LITMUS_VALUE(p))(v), (o), (f), \
                            LITMUS_AT(#p))
#define atomic_compare_exchange_weak_explicit atomic_compare_exchange_strong_explicit
#define atomic_thread_fence(o) litmus_fence((o), LITMUS_AT("fence"))
#define atomic_signal_fence(o) ((void)(o))
#define atomic_load(p) atomic_load_explicit(p, memory_order_seq_cst)
#define atomic_store(p, v) atomic_store_explicit(p, v, memory_order_seq_cst)
#define atomic_exchange(p, v) atomic_exchange_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_add(p, v) atomic_fetch_add_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_sub(p, v) atomic_fetch_sub_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_or(p, v) atomic_fetch_or_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_and(p, v) atomic_fetch_and_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_xor(p, v) atomic_fetch_xor_explicit(p, v, memory_order_seq_cst)
#define atomic_compare_exchange_strong(p, e, v) \
    atomic_compare_exchange_strong_explicit(p, e, v, memory_order_seq_cst, memory_order_seq_cst)
#define atomic_compare_exchange_weak atomic_compare_exchange_strong
#define atomic_init(p, v) (*(p) = (v))

#define ATOMIC_BOOL_LOCK_FREE 2
#define ATOMIC_CHAR_LOCK_FREE 2
#define ATOMIC_SHORT_LOCK_FREE 2
#define ATOMIC_INT_LOCK_FREE 2
#define ATOMIC_LONG_LOCK_FREE 2
#define ATOMIC_LLONG_LOCK_FREE 2
#define ATOMIC_POINTER_LOCK_FREE 2

typedef _Atomic bool atomic_bool;
typedef _Atomic int atomic_int;
typedef _Atomic unsigned atomic_uint;
typedef _Atomic long atomic_long;
typedef _Atomic unsigned long atomic_ulong;
typedef _Atomic size_t atomic_size_t;

#endif

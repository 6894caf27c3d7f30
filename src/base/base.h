/* base/base.h -- the few macros that every file uses. Nothing here does I/O or allocates. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NODISCARD __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))
#define NORETURN __attribute__((noreturn))
#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define COLD __attribute__((cold, noinline))

/* Makes x_freep() for CLEANUP out of `struct x *x_free(struct x *)`. */
#define DEFINE_FREEP(name)                            \
    static inline void name##_freep(struct name **at) \
    {                                                 \
        *at = name##_free(*at);                       \
    }

#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* The object that contains `member`; `ptr` must point to a member of exactly that type. */
#define container_of(ptr, type, member)                                      \
    (__extension__({                                                         \
        __typeof__(((type *)0)->member) *container_of_ptr = (ptr);           \
        (type *)(void *)((char *)container_of_ptr - offsetof(type, member)); \
    }))

/* For our own bugs only; stays on in release builds. Bad input is an error, never a CHECK. */
#define CHECK(condition)                                                                   \
    (__builtin_expect(!(condition), 0) ? base_check_failed(#condition, __FILE__, __LINE__) \
                                       : (void)0)

/* Prints the condition and where it stands to standard error, then aborts. */
NORETURN COLD void base_check_failed(const char *condition, const char *file, int line);

static inline uint64_t base_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t base_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* `unit` is a power of two. CHECKs nothing: callers bound `v` first. */
static inline uint64_t base_align_up(uint64_t v, uint64_t unit)
{
    return (v + unit - 1) & ~(unit - 1);
}

static inline uint64_t base_align_down(uint64_t v, uint64_t unit)
{
    return v & ~(unit - 1);
}

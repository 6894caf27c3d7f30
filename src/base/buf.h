/*
 * base/buf.h -- counted data buffers and slices of them: how file data travels without being
 * copied.
 *
 * A pool hands out aligned buffers (4 KiB) in a few size classes under a byte budget; a buffer goes
 * back when the last reference goes. The only way to copy one is buf_copy(), which counts, so a
 * test can assert that a path copies nothing. A pool and its buffers belong to one loop; counts are
 * not atomic.
 */
#pragma once

#include "base/base.h"
#include "base/mem.h"

#define BUF_ALIGN 4096u

struct buf_pool;

struct buf {
    struct buf_pool *pool; /* NULL: memory of the caller, see buf_wrap */
    uint8_t *at;
    size_t size;
    uint32_t refs;
    uint32_t size_class;
    void (*released)(struct buf *b); /* wrapped buffers: called when the last reference goes */
    struct buf *next_free;
};

/* `len` bytes of `buf` from `at`; buf may be NULL for constant or caller-guarded memory. */
struct slice {
    struct buf *buf;
    const uint8_t *at;
    size_t len;
};

struct buf_pool_options {
    uint64_t limit_bytes;      /* all buffers that are out or kept */
    size_t max_size;           /* largest buffer, a power of two times BUF_ALIGN */
    struct mem_budget *budget; /* may be NULL */
};

NODISCARD struct buf_pool *buf_pool_new(const struct buf_pool_options *opt);
struct buf_pool *buf_pool_free(struct buf_pool *p);
DEFINE_FREEP(buf_pool)
size_t buf_pool_used_bytes(const struct buf_pool *p); /* out now */

/* One waiter of the pool; called in FIFO order when a buffer came back. Never from inside buf_get.
 */
struct buf_waiter {
    void (*ready)(struct buf_waiter *w);
    struct buf_waiter *next, *prev;
    bool queued;
};
void buf_wait(struct buf_pool *p, struct buf_waiter *w);
void buf_unwait(struct buf_pool *p, struct buf_waiter *w);

/* A buffer of at least `size` bytes with one reference, or NULL when the pool is at its limit. */
NODISCARD struct buf *buf_get(struct buf_pool *p, size_t size);
/* Makes `b` (caller's memory) a counted buffer over at[0..size) with one reference. */
void buf_wrap(struct buf *b, void *at, size_t size, void (*released)(struct buf *b));
struct buf *buf_ref(struct buf *b);
struct buf *buf_unref(struct buf *b); /* NULL is fine; returns NULL */

struct slice buf_slice(struct buf *b, size_t offset, size_t len); /* takes a reference */
void buf_slice_drop(struct slice *s);                             /* gives it back, clears s */

/* Copies and counts. `to` has room for s->len bytes. */
void buf_copy(struct buf_pool *p, void *to, const struct slice *s);
uint64_t buf_pool_copied_bytes(const struct buf_pool *p);

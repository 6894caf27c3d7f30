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
    uint64_t limit_bytes;      /* all buffers that are out or kept for reuse */
    size_t max_size;           /* largest buffer, a power of two times BUF_ALIGN */
    struct mem_budget *budget; /* may be NULL */
    bool whole; /* one piece of memory, taken now, all buffers in it and of max_size: for a disk
                   that keeps it at hand (disk_lend()) */
};

NODISCARD struct buf_pool *buf_pool_new(const struct buf_pool_options *opt);
struct buf_pool *buf_pool_free(struct buf_pool *p); /* CHECKs: no buffer out, no waiter queued */
DEFINE_FREEP(buf_pool)
size_t buf_pool_used_bytes(const struct buf_pool *p); /* out now */
/* Of one that is whole: where its buffers lie; else NULL. */
void *buf_pool_memory(const struct buf_pool *p, size_t *ret_len);

/*
 * One waiter of the pool. `ready` is called from inside buf_unref (so on the loop of the pool)
 * after a buffer came back: one waiter per returned buffer, in FIFO order, and never from inside
 * buf_get or buf_wait. It may call everything here but buf_pool_free; an unref inside it calls
 * further waiters only after it has returned, so the stack does not grow. A waiter is out of the
 * queue when it is called; one that still gets NULL waits again, at the end. Whoever waits while
 * nothing of the pool is out (its budget is full elsewhere, or the system is out of memory) needs a
 * timer as well: no buffer will come back. A waiter leaves with buf_unwait before its memory goes.
 */
struct buf_waiter {
    void (*ready)(struct buf_waiter *w);
    struct buf_waiter *next, *prev;
    bool queued;
};
void buf_wait(struct buf_pool *p, struct buf_waiter *w);   /* CHECKs that it is not queued */
void buf_unwait(struct buf_pool *p, struct buf_waiter *w); /* fine when it is not queued */

/* A buffer of at least `size` bytes (b->size says how many) with one reference, its bytes
 * undefined. NULL when the pool or its budget is at the limit, without memory, and for more than
 * max_size. */
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

/*
 * base/buf.c -- the pool keeps what comes back on one free list per size class (powers of two from
 * 4 KiB).
 *
 * Invariant: used_bytes (out) + kept_bytes (free lists) <= limit_bytes, and exactly that sum is
 * charged to the budget. A class that finds its list empty takes new memory; when that would break
 * the limit, kept buffers of other classes are given back first, the largest ones first, as they
 * make room with the fewest calls.
 */
#include "base/buf.h"

#include <string.h>

#define BUF_CLASSES 32u

struct buf_pool {
    struct buf *kept[BUF_CLASSES];
    uint64_t limit_bytes, used_bytes, kept_bytes, copied_bytes;
    uint32_t class_count;
    bool is_whole; /* one piece of memory; else each buffer by itself */
    uint8_t *whole;
    struct buf *whole_buf;
    struct mem_budget *budget;                /* may be NULL */
    struct buf_waiter *waiting, *waiting_end; /* FIFO */
    uint64_t owed; /* buffers that came back and for which no waiter was called yet */
    bool calling;  /* inside a waiter: the outer buf_unref calls the next */
};

static uint64_t buf_class_size(uint32_t size_class)
{
    return (uint64_t)BUF_ALIGN << size_class;
}

/* The smallest class that holds `size` bytes; may be beyond the last one. */
static uint32_t buf_class_of(size_t size)
{
    size_t pages = (size + (size == 0) - 1) / BUF_ALIGN; /* 0 for 1..4096 */
    return pages == 0 ? 0 : 64u - (uint32_t)__builtin_clzll(pages);
}

/* All buffers at once, kept. False: no memory, or no room in the budget. */
static bool buf_make_whole(struct buf_pool *p)
{
    uint32_t last = p->class_count - 1;
    size_t size = (size_t)buf_class_size(last), count = (size_t)(p->limit_bytes / size);
    p->limit_bytes = (uint64_t)count * size;
    if (p->budget != NULL && !mem_budget_take(p->budget, p->limit_bytes)) {
        return false;
    }
    p->kept_bytes = p->limit_bytes; /* and is given back with them */
    p->whole = mem_pages(base_max(p->limit_bytes, BUF_ALIGN));
    p->whole_buf = mem_calloc(base_max(count, 1), sizeof *p->whole_buf);
    if (p->whole == NULL || p->whole_buf == NULL) {
        return false;
    }
    for (size_t i = count; i > 0; i--) {
        struct buf *b = &p->whole_buf[i - 1];
        *b = (struct buf){.pool = p,
                          .at = p->whole + (i - 1) * size,
                          .size = size,
                          .size_class = last,
                          .next_free = p->kept[last]};
        p->kept[last] = b;
    }
    return true;
}

struct buf_pool *buf_pool_new(const struct buf_pool_options *opt)
{
    uint32_t last = buf_class_of(opt->max_size);
    CHECK(last < BUF_CLASSES && buf_class_size(last) == opt->max_size);
    struct buf_pool *p = mem_zalloc(sizeof *p);
    if (p == NULL) {
        return NULL;
    }
    p->class_count = last + 1;
    p->limit_bytes = opt->limit_bytes;
    p->budget = opt->budget;
    p->is_whole = opt->whole;
    return opt->whole && !buf_make_whole(p) ? buf_pool_free(p) : p;
}

static void buf_free_whole(struct buf_pool *p)
{
    if (p->budget != NULL) {
        mem_budget_give(p->budget, p->kept_bytes);
    }
    p->kept[p->class_count - 1] = NULL;
    p->kept_bytes = 0;
    mem_free(p->whole);
    mem_free(p->whole_buf);
}

/* Gives one kept buffer of the class back to the system. */
static void buf_trim_one(struct buf_pool *p, uint32_t size_class)
{
    struct buf *b = p->kept[size_class];
    p->kept[size_class] = b->next_free;
    p->kept_bytes -= b->size;
    if (p->budget != NULL) {
        mem_budget_give(p->budget, b->size);
    }
    mem_free(b->at);
    mem_free(b);
}

/* False when nothing was kept. */
static bool buf_trim_largest(struct buf_pool *p)
{
    for (uint32_t c = p->class_count; c > 0; c--) {
        if (p->kept[c - 1] != NULL) {
            buf_trim_one(p, c - 1);
            return true;
        }
    }
    return false;
}

struct buf_pool *buf_pool_free(struct buf_pool *p)
{
    if (p != NULL) {
        CHECK(p->used_bytes == 0);
        CHECK(p->waiting == NULL && !p->calling);
        if (p->is_whole) {
            buf_free_whole(p);
        }
        while (buf_trim_largest(p)) {
        }
        CHECK(p->kept_bytes == 0);
        mem_free(p);
    }
    return NULL;
}

void *buf_pool_memory(const struct buf_pool *p, size_t *ret_len)
{
    *ret_len = p->is_whole ? (size_t)p->limit_bytes : 0;
    return p->whole;
}

size_t buf_pool_used_bytes(const struct buf_pool *p)
{
    return (size_t)p->used_bytes;
}

uint64_t buf_pool_copied_bytes(const struct buf_pool *p)
{
    return p->copied_bytes;
}

/* Room for `bytes` under the limit and in the budget, which is charged. Ends: each turn trims a
 * buffer. */
static bool buf_reserve(struct buf_pool *p, uint64_t bytes)
{
    if (bytes > p->limit_bytes || p->used_bytes > p->limit_bytes - bytes) {
        return false; /* trimming all that is kept would not be enough: keep it */
    }
    for (;;) {
        bool inside = p->used_bytes + p->kept_bytes <= p->limit_bytes - bytes;
        if (inside && (p->budget == NULL || mem_budget_take(p->budget, bytes))) {
            return true;
        }
        if (!buf_trim_largest(p)) {
            return false;
        }
    }
}

static COLD struct buf *buf_get_new(struct buf_pool *p, uint32_t size_class)
{
    uint64_t bytes = buf_class_size(size_class);
    if (!buf_reserve(p, bytes)) {
        return NULL;
    }
    struct buf *b = mem_zalloc(sizeof *b);
    uint8_t *at = b != NULL ? mem_pages((size_t)bytes) : NULL;
    if (at == NULL) {
        mem_free(b);
        if (p->budget != NULL) {
            mem_budget_give(p->budget, bytes);
        }
        return NULL;
    }
    b->pool = p;
    b->at = at;
    b->size = (size_t)bytes;
    b->size_class = size_class;
    b->refs = 1;
    p->used_bytes += bytes;
    return b;
}

struct buf *buf_get(struct buf_pool *p, size_t size)
{
    uint32_t size_class = buf_class_of(size);
    if (size_class >= p->class_count) {
        return NULL;
    }
    size_class = p->is_whole ? p->class_count - 1 : size_class;
    struct buf *b = p->kept[size_class];
    if (b == NULL) {
        return p->is_whole ? NULL : buf_get_new(p, size_class);
    }
    p->kept[size_class] = b->next_free;
    p->kept_bytes -= b->size;
    p->used_bytes += b->size;
    b->next_free = NULL;
    b->refs = 1;
    return b;
}

void buf_wrap(struct buf *b, void *at, size_t size, void (*released)(struct buf *b))
{
    *b = (struct buf){.at = at, .size = size, .refs = 1, .released = released};
}

struct buf *buf_ref(struct buf *b)
{
    CHECK(b->refs > 0 && b->refs < UINT32_MAX);
    b->refs++;
    return b;
}

void buf_wait(struct buf_pool *p, struct buf_waiter *w)
{
    CHECK(!w->queued);
    w->queued = true;
    w->next = NULL;
    w->prev = p->waiting_end;
    if (w->prev != NULL) {
        w->prev->next = w;
    } else {
        p->waiting = w;
    }
    p->waiting_end = w;
}

void buf_unwait(struct buf_pool *p, struct buf_waiter *w)
{
    if (!w->queued) {
        return;
    }
    if (w->prev != NULL) {
        w->prev->next = w->next;
    } else {
        p->waiting = w->next;
    }
    if (w->next != NULL) {
        w->next->prev = w->prev;
    } else {
        p->waiting_end = w->prev;
    }
    w->next = NULL;
    w->prev = NULL;
    w->queued = false;
}

/* One waiter per buffer that came back, also for those that come back while a waiter runs. */
static COLD void buf_call_waiters(struct buf_pool *p)
{
    p->calling = true;
    for (; p->owed > 0 && p->waiting != NULL; p->owed--) {
        struct buf_waiter *w = p->waiting;
        buf_unwait(p, w);
        w->ready(w);
    }
    p->owed = 0; /* nobody is left who could use them */
    p->calling = false;
}

static void buf_keep(struct buf *b)
{
    struct buf_pool *p = b->pool;
    CHECK(p->used_bytes >= b->size);
    p->used_bytes -= b->size;
    p->kept_bytes += b->size;
    b->next_free = p->kept[b->size_class];
    p->kept[b->size_class] = b;
    if (p->waiting != NULL) {
        p->owed++;
        if (!p->calling) {
            buf_call_waiters(p);
        }
    }
}

struct buf *buf_unref(struct buf *b)
{
    if (b == NULL) {
        return NULL;
    }
    CHECK(b->refs > 0);
    if (--b->refs > 0) {
        return NULL;
    }
    if (b->pool != NULL) {
        buf_keep(b);
    } else if (b->released != NULL) {
        b->released(b);
    }
    return NULL;
}

struct slice buf_slice(struct buf *b, size_t offset, size_t len)
{
    CHECK(offset <= b->size && len <= b->size - offset);
    return (struct slice){.buf = buf_ref(b), .at = b->at + offset, .len = len};
}

void buf_slice_drop(struct slice *s)
{
    struct buf *b = s->buf;
    *s = (struct slice){0}; /* first: a waiter or `released` may look at it */
    buf_unref(b);
}

void buf_copy(struct buf_pool *p, void *to, const struct slice *s)
{
    if (s->len > 0) {
        memcpy(to, s->at, s->len);
        p->copied_bytes += s->len;
    }
}

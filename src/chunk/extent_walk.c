/*
 * chunk/extent_walk.c -- the `extent` engine: chunks in key order, for listings, digests and the
 * check of all chunks: what the index has, merged with what is in memory, which is newer. Nothing
 * of it stays in memory but a page of what was read last.
 */
#include "chunk/extent_index_priv.h"

#include "base/env.h"
#include "base/fault.h"

#include <string.h>

#define PAGE_CHUNKS 32u
#define PAGE_STEPS 4096u /* records of the index looked at for one page */
#define READ_AHEAD 2048u /* records, when it has to be read from the disk anyway */

/* Chunks of the index, in order, from `from` on: all there are up to the last of them, or, with
 * `whole`, up to the end. */
struct chunk_page {
    bool valid, whole;
    struct chunk_key from;
    size_t count;
    struct chunk_info info[PAGE_CHUNKS];
};

struct chunk_reading {
    struct list node; /* of x->readings */
    struct chunk_extent *x;
    struct chunk_ahead *user; /* NULL: it has ended it */
    struct chunk_key from;
    struct loop_task task;
    bool fetching;
    int rc;
    struct kv_need need;
    struct kv_fetch fetch;
};

/* ---- A page ---- */

static uint32_t content_units(const struct chunk_content *c, const struct chunk_content *base)
{
    uint32_t cells = chunk_cells(c->meta.length), units = 0;
    if (!c->has_cells) {
        return cells; /* at most: only heads of version 1 do not say */
    }
    uint32_t others = base == NULL || !base->has_cells ? 0 : chunk_cells(base->meta.length);
    for (uint32_t i = 0; i < cells; i++) {
        units += c->unit[i] != 0 && (i >= others || base->unit[i] != c->unit[i]) ? 1 : 0;
    }
    return units;
}

static uint32_t head_units(const struct chunk_head *h)
{
    uint32_t units = h->has_committed ? content_units(&h->committed, NULL) : 0;
    if (h->units != CHUNK_UNITS_UNKNOWN) {
        return h->units;
    }
    return units + (h->has_pending
                        ? content_units(&h->pending, h->has_committed ? &h->committed : NULL)
                        : 0);
}

/* As an entry made of it would say: chunk_entry_info(). */
static void info_of_head(struct chunk_key key, const struct chunk_head *h, struct chunk_info *ret)
{
    struct chunk_version committed = {.meta = h->committed.meta},
                         pending = {.meta = h->pending.meta};
    struct chunk_recent recent[2][CHUNK_RECENT_MAX];
    struct chunk_entry e = {.item.key = key,
                            .chain = h->chain,
                            .last_ver = h->last_ver,
                            .damaged = h->damaged,
                            .accounted_bytes = (uint64_t)head_units(h) * CHUNK_UNIT,
                            .committed = h->has_committed ? &committed : NULL,
                            .pending = h->has_pending ? &pending : NULL};
    memcpy(recent[0], h->committed.recent, sizeof recent[0]);
    memcpy(recent[1], h->pending.recent, sizeof recent[1]);
    committed.recent = recent[0];
    pending.recent = recent[1];
    chunk_entry_info(&e, ret);
}

static int page_add(struct chunk_page *p, struct chunk_head *h, const struct kv_iter *it)
{
    struct chunk_key key;
    unsigned part = 0;
    int rc = chunk_key_part_decode(it->key, &key, &part);
    if (rc < 0 || part != CHUNK_PART_HEAD) {
        return rc;
    }
    memset(h, 0, sizeof *h);
    rc = chunk_head_decode(it->value, h);
    if (rc == 0) {
        info_of_head(key, h, &p->info[p->count++]);
    }
    return rc;
}

/* Up to a full page, or to what is missing, if that is not at once. */
static int page_walk(struct chunk_page *p, struct chunk_head *h, struct kv_iter *it)
{
    struct chunk_index_key first = chunk_key_part(p->from, CHUNK_PART_HEAD);
    int rc = kv_iter_seek(it, chunk_index_slice(&first));
    for (unsigned i = 0; rc == 1 && (i < PAGE_STEPS || p->count == 0) && p->count < PAGE_CHUNKS;
         i++) {
        rc = page_add(p, h, it);
        rc = rc < 0 ? rc : kv_iter_next(it);
    }
    p->whole = rc == 0;
    return rc < 0 && (rc != -ERR_need || p->count == 0) ? rc : 0;
}

static int page_read(struct chunk_extent *x, struct chunk_key from, struct kv_need *need,
                     uint32_t ahead)
{
    struct chunk_index_key first = chunk_key_part(from, CHUNK_PART_HEAD);
    struct chunk_index_key end = chunk_key_slab(0);
    const struct kv_iter_options opt = {.lower = chunk_index_slice(&first),
                                        .upper = chunk_index_slice(&end),
                                        .need = need,
                                        .ahead = ahead};
    struct chunk_head *h = mem_alloc(sizeof *h);
    struct kv_snapshot *snapshot = NULL;
    struct kv_iter *it = NULL;
    if (x->page == NULL) {
        x->page = mem_zalloc(sizeof *x->page);
    }
    if (h == NULL || x->page == NULL) {
        mem_free(h);
        return -ENOMEM;
    }
    struct chunk_page *p = x->page;
    p->valid = false;
    p->from = from;
    p->count = 0;
    int rc = kv_snapshot_new(x->index, &snapshot);
    rc = rc < 0 ? rc : kv_iter_new(snapshot, &opt, &it);
    rc = rc < 0 ? rc : page_walk(p, h, it);
    p->valid = rc == 0;
    it = kv_iter_free(it);
    snapshot = kv_snapshot_free(snapshot);
    mem_free(h);
    return rc;
}

static bool page_covers(const struct chunk_page *p, struct chunk_key from)
{
    return p != NULL && p->valid && chunk_key_compare(p->from, from) <= 0 &&
           (p->whole || chunk_key_compare(from, p->info[p->count - 1].key) <= 0);
}

/* 1: the index's first chunk from `from` on; 0: it has none. */
static int page_find(struct chunk_extent *x, struct chunk_key from, const struct chunk_info **ret)
{
    if (FAULT(x->s->opt.env->fault, "chunk.need")) {
        return -ERR_need;
    }
    if (!page_covers(x->page, from)) {
        struct kv_need need = {0};
        int rc = page_read(x, from, &need, 0);
        kv_need_release(&need);
        if (rc < 0) {
            return chunk_index_failed(x, rc);
        }
    }
    const struct chunk_page *p = x->page;
    size_t low = 0, high = p->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (chunk_key_compare(p->info[middle].key, from) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == p->count) {
        CHECK(p->whole);
        return 0;
    }
    *ret = &p->info[low];
    return 1;
}

void chunk_walk_changed(struct chunk_extent *x)
{
    if (x->page != NULL) {
        x->page->valid = false;
    }
}

/* ---- The next chunk ---- */

int chunk_extent_next(struct chunk_store *s, struct chunk_key from, struct chunk_info *ret)
{
    struct chunk_extent *x = s->extent;
    do {
        const struct chunk_entry *e = chunk_entry_of(chunk_index_next(&s->index, from));
        const struct chunk_info *found = NULL;
        bool here = e != NULL && chunk_key_compare(e->item.key, from) == 0 && e->loaded;
        int rc = here ? 0 : page_find(x, from, &found);
        if (rc < 0) {
            return rc;
        }
        int order = e == NULL ? 1 : found == NULL ? -1 : chunk_key_compare(e->item.key, found->key);
        if (order <= 0 && e->loaded && e->exists) {
            chunk_entry_info(e, ret);
            return 0;
        }
        if (found != NULL && (order > 0 || (order == 0 && !e->loaded))) {
            *ret = *found;
            return 0;
        }
        if (e == NULL) {
            return -ENOENT;
        }
        from = e->item.key; /* it has gone, or is in the making */
    } while (chunk_key_step(&from));
    return -ENOENT;
}

/* ---- The next chunk of one data id ---- */

static int walk_head_of(struct kv_iter *it, const struct chunk_index_key *first,
                        struct chunk_key *ret)
{
    int rc = kv_iter_seek(it, chunk_index_slice(first));
    for (; rc == 1; rc = kv_iter_next(it)) {
        unsigned part = 0;
        rc = chunk_key_part_decode(it->key, ret, &part);
        if (rc < 0 || part == CHUNK_PART_HEAD) {
            return rc;
        }
    }
    return rc < 0 ? rc : -ENOENT;
}

/* A removal asks for each of its data ids: a page of others behind it would be most of the work. */
int chunk_extent_next_of(struct chunk_store *s, struct chunk_key from, struct chunk_key *ret)
{
    struct chunk_extent *x = s->extent;
    struct chunk_index_key first = chunk_key_part(from, CHUNK_PART_HEAD);
    struct chunk_index_key end =
        from.data_id == UINT64_MAX
            ? chunk_key_slab(0)
            : chunk_key_part((struct chunk_key){from.data_id + 1, 0}, CHUNK_PART_HEAD);
    struct kv_need need = {0};
    const struct kv_iter_options opt = {
        .lower = chunk_index_slice(&first), .upper = chunk_index_slice(&end), .need = &need};
    struct kv_snapshot *snapshot = NULL;
    struct kv_iter *it = NULL;
    if (FAULT(s->opt.env->fault, "chunk.need")) {
        return -ERR_need;
    }
    int rc = kv_snapshot_new(x->index, &snapshot);
    rc = rc < 0 ? rc : kv_iter_new(snapshot, &opt, &it);
    rc = rc < 0 ? rc : walk_head_of(it, &first, ret);
    it = kv_iter_free(it);
    snapshot = kv_snapshot_free(snapshot);
    kv_need_release(&need);
    return rc < 0 && rc != -ENOENT ? chunk_index_failed(x, rc) : rc;
}

/* ---- What is on the disk ---- */

static void reading_free(struct chunk_reading *r)
{
    loop_undefer(r->x->s->loop, &r->task);
    list_remove(&r->node);
    kv_need_release(&r->need);
    mem_free(r);
}

static void reading_go(struct chunk_reading *r);

static void reading_tell(struct loop_task *t)
{
    struct chunk_reading *r = container_of(t, struct chunk_reading, task);
    struct chunk_ahead *a = r->user;
    a->rc = r->rc;
    a->done(a, r->rc);
}

static void reading_over(struct chunk_reading *r, int rc)
{
    r->rc = chunk_index_failed(r->x, rc);
    r->task.run = reading_tell;
    loop_defer(r->x->s->loop, &r->task);
}

static void reading_fetched(struct kv_fetch *f, int rc)
{
    struct chunk_reading *r = container_of(f, struct chunk_reading, fetch);
    struct chunk_store *s = r->x->s;
    s->in_flight--;
    r->fetching = false;
    if (s->freed || r->user == NULL) {
        reading_free(r);
        if (s->freed && s->in_flight == 0) {
            chunk_store_destroy(s);
            return;
        }
    } else if (rc < 0) {
        reading_over(r, rc);
    } else {
        reading_go(r);
    }
    chunk_stop_check(s);
}

static void reading_go(struct chunk_reading *r)
{
    int rc = page_read(r->x, r->from, &r->need, READ_AHEAD);
    if (rc != -ERR_need) {
        reading_over(r, rc);
        return;
    }
    r->fetching = true;
    r->fetch = (struct kv_fetch){.need = &r->need, .done = reading_fetched};
    r->x->s->in_flight++;
    kv_fetch(r->x->index, &r->fetch);
}

int chunk_extent_ahead(struct chunk_store *s, struct chunk_ahead *a)
{
    struct chunk_extent *x = s->extent;
    chunk_store_ahead_end(s, a);
    struct chunk_reading *r = mem_zalloc(sizeof *r);
    if (r == NULL) {
        return -ENOMEM;
    }
    r->x = x;
    r->user = a;
    r->from = a->from;
    list_push_back(&x->readings, &r->node);
    a->reading = r;
    a->rc = -EINPROGRESS;
    reading_go(r);
    return 0;
}

void chunk_extent_ahead_end(struct chunk_store *s, struct chunk_ahead *a)
{
    struct chunk_reading *r = a->reading;
    (void)s;
    a->reading = NULL;
    r->user = NULL;
    if (!r->fetching) {
        reading_free(r);
    }
}

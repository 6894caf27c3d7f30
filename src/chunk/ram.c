/* chunk/ram.c -- the `ram` engine: blocks are numbers of pages, shared by all chunks. */
#include "chunk/engine_priv.h"

#include <string.h>

/* ---- Pages ---- */

/* Block n is page n - 1: 0 means a hole everywhere. */
static int ram_take(struct chunk_store *s, uint32_t *ret)
{
    if (s->free_count > 0) {
        *ret = s->free_page[--s->free_count];
        return 0;
    }
    uint64_t limit = base_min(s->opt.ram_bytes / CHUNK_BLOCK, CHUNK_BLOCK_LIMIT);
    if (s->page_count >= limit) {
        return -ENOSPC;
    }
    /* Room to give it back is made now, so that giving cannot fail. */
    int rc = mem_grow(&s->page, &s->page_capacity, s->page_count + 1, sizeof(uint8_t *));
    if (rc == 0) {
        rc = mem_grow(&s->free_page, &s->free_capacity, s->page_count + 1, sizeof(uint32_t));
    }
    uint8_t *page = rc < 0 ? NULL : mem_alloc(CHUNK_BLOCK);
    if (page == NULL) {
        return -ENOMEM;
    }
    s->page[s->page_count++] = page;
    *ret = (uint32_t)s->page_count;
    return 0;
}

static void ram_give(struct chunk_store *s, uint32_t block)
{
    CHECK(block > 0);
    CHECK(s->free_count < s->page_count);
    s->free_page[s->free_count++] = block;
}

/* ---- Beginning and end ---- */

static int ram_open(struct chunk_store *s, struct err *e)
{
    (void)e;
    s->super.cluster = s->opt.cluster;
    loop_random_bytes(s->loop, s->super.target.bytes, sizeof s->super.target.bytes);
    s->super.incarnation = loop_random(s->loop) | 1;
    s->super.lossy = true;
    s->super.fan_out = 1;
    return 0;
}

static void ram_close(struct chunk_store *s)
{
    for (size_t i = 0; i < s->page_count; i++) {
        mem_free(s->page[i]);
    }
    mem_free(s->page);
    mem_free(s->free_page);
}

/* ---- Updates ---- */

static void ram_hot(struct chunk_work *w, bool create, chunk_next *next)
{
    (void)create;
    next(w, 0);
}

static struct chunk_place ram_place(const struct chunk_store *s, const struct chunk_file *f,
                                    uint64_t block)
{
    (void)f;
    return (struct chunk_place){.bytes = s->page[block - 1]};
}

static uint64_t ram_free(const struct chunk_store *s)
{
    uint64_t used = (uint64_t)(s->page_count - s->free_count) * CHUNK_BLOCK;
    return s->opt.ram_bytes - base_min(used, s->opt.ram_bytes);
}

static void ram_reserve(struct chunk_work *w, chunk_next *next)
{
    struct chunk_store *s = w->s;
    uint64_t bytes = (uint64_t)w->plan->new_blocks * CHUNK_BLOCK;
    bool fits = s->reserved_bytes + bytes <= ram_free(s);
    w->plan->reserved_bytes = fits ? bytes : 0;
    s->reserved_bytes += w->plan->reserved_bytes;
    next(w, fits ? 0 : -ENOSPC);
}

static void ram_unreserve(struct chunk_work *w)
{
    w->s->reserved_bytes -= w->plan->reserved_bytes;
    w->plan->reserved_bytes = 0;
}

static void write_copy(struct chunk_store *s, struct chunk_plan *p, struct chunk_version *v)
{
    if (p->tail_append) {
        uint8_t *to = s->page[p->tail_block - 1] + p->tail_offset;
        for (unsigned i = 0; i < p->tail_count; i++) {
            memcpy(to, p->tail[i].iov_base, p->tail[i].iov_len);
            to += p->tail[i].iov_len;
        }
    }
    size_t used = 0;
    unsigned piece = 0;
    uint32_t cells = chunk_cells(v->meta.length);
    for (uint32_t cell = 0; cell < cells; cell++) {
        if (v->block[cell] < CHUNK_NEW_BLOCK) {
            continue;
        }
        uint32_t bytes = chunk_cell_bytes(v->meta.length, cell), at = 0;
        v->block[cell] = p->iov_capacity == 0 ? 0 : v->block[cell] & ~CHUNK_NEW_BLOCK;
        while (at < bytes) {
            size_t n = base_min(bytes - at, p->iov[piece].iov_len - used);
            memcpy(s->page[v->block[cell] - 1] + at, (const uint8_t *)p->iov[piece].iov_base + used,
                   n);
            at += (uint32_t)n;
            used += n;
            if (used == p->iov[piece].iov_len) {
                piece++;
                used = 0;
            }
        }
    }
}

/* Pages for all new cells, or none. They are marked as new until they are filled. */
static int write_pages(struct chunk_store *s, struct chunk_plan *p, struct chunk_version *v)
{
    uint32_t cells = chunk_cells(v->meta.length);
    int rc = 0;
    uint32_t cell = 0;
    for (; cell < cells && rc == 0; cell++) {
        uint32_t page = 0;
        if (v->block[cell] >= CHUNK_NEW_BLOCK) {
            rc = ram_take(s, &page);
            v->block[cell] = rc == 0 ? CHUNK_NEW_BLOCK | page : CHUNK_NEW_BLOCK;
        }
    }
    if (rc < 0) {
        for (uint32_t i = 0; i < cell; i++) {
            uint32_t page = (uint32_t)(v->block[i] & ~CHUNK_NEW_BLOCK);
            if (v->block[i] > CHUNK_NEW_BLOCK && page != 0) {
                ram_give(s, page);
            }
        }
        return rc;
    }
    v->own_blocks = p->cell_blocks;
    chunk_version_count(v);
    return 0;
}

static void ram_write(struct chunk_work *w, chunk_next *next)
{
    int rc = write_pages(w->s, w->plan, w->version);
    if (rc == 0) {
        if (w->plan->tail_append) {
            w->e->tail_block = 0;
        }
        write_copy(w->s, w->plan, w->version);
    }
    next(w, rc);
}

static void ram_waste(struct chunk_work *w, int rc)
{
    (void)rc;
    (void)w; /* there is no record that could fail */
}

static void ram_unmake(struct chunk_work *w, chunk_next *next)
{
    next(w, 0);
}

/* ---- Records: there are none, and nothing is ever dirty ---- */

static void ram_record(struct chunk_work *w, const struct chunk_state *st, chunk_next *next)
{
    (void)st;
    chunk_entry_change(w);
    chunk_entry_clean(w->s, w->e);
    w->e->written = w->e->stable = w->captured;
    next(w, 0);
}

static void ram_committed(struct chunk_store *s, struct chunk_entry *e)
{
    chunk_entry_clean(s, e);
    e->written = e->stable = e->change;
    chunk_entry_rested(s, e);
}

/* At once when no pin is older. */
static void ram_rested(struct chunk_store *s, struct chunk_entry *e)
{
    uint64_t oldest = list_empty(&e->pins)
                          ? UINT64_MAX
                          : LIST_ENTRY(e->pins.next, struct chunk_pin, node)->number;
    LIST_FOR_EACH_SAFE(node, &e->resting)
    {
        struct chunk_rest *r = LIST_ENTRY(node, struct chunk_rest, node);
        if (oldest <= r->number) {
            break; /* a pin from before it was superseded; later ones rest longer */
        }
        for (uint32_t i = 0; i < r->count; i++) {
            ram_give(s, (uint32_t)r->block + i);
        }
        list_remove(&r->node);
        s->resting_bytes -= (uint64_t)r->count * CHUNK_BLOCK;
        mem_free(r);
    }
}

static void ram_remove(struct chunk_work *w, chunk_next *next)
{
    struct chunk_entry *e = w->e;
    if (e->pending != NULL) {
        chunk_rest_version(w->s, e, e->pending, e->committed);
    }
    if (e->committed != NULL) {
        chunk_rest_version(w->s, e, e->committed, NULL);
    }
    chunk_entry_gone(w->s, e);
    chunk_entry_rested(w->s, e);
    next(w, 0);
}

static void ram_sync_done(struct chunk_work *w)
{
    w->finish(w, 0);
}

static void ram_sync(struct chunk_store *s, struct chunk_work *w)
{
    (void)s;
    w->begin = ram_sync_done;
    chunk_work_ready(w);
}

static void ram_tick(struct chunk_store *s)
{
    (void)s;
}

static bool ram_settled(const struct chunk_store *s)
{
    (void)s;
    return true;
}

static void ram_figures(const struct chunk_store *s, struct chunk_store_info *ret)
{
    ret->total_bytes = s->opt.ram_bytes;
    ret->free_bytes = ram_free(s);
    ret->low = ret->free_bytes < (s->opt.low_bytes == 0 ? ret->total_bytes / 50 : s->opt.low_bytes);
}

const struct chunk_engine_ops chunk_engine_ram = {
    .open = ram_open,
    .close = ram_close,
    .hot = ram_hot,
    .place = ram_place,
    .reserve = ram_reserve,
    .unreserve = ram_unreserve,
    .write = ram_write,
    .waste = ram_waste,
    .unmake = ram_unmake,
    .record = ram_record,
    .remove = ram_remove,
    .committed = ram_committed,
    .rested = ram_rested,
    .sync = ram_sync,
    .tick = ram_tick,
    .round = ram_tick,
    .settled = ram_settled,
    .figures = ram_figures,
};

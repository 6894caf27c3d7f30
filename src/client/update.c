#include "client/update_priv.h"

#include "base/crc32c.h"
#include "wire/frame.h"

#include <string.h>

/*
 * Updates of chunks (chain.md section 6). What is written gathers in a buffer per chunk, and is
 * sent when the chunk is full, when too many gather, or when somebody wants it stored. Of one chunk
 * only one update is unanswered; later ones wait behind it in the list of the file. Checksums are
 * made when the bytes are taken, per cell; cells that were only partly covered get theirs when they
 * are complete: edges are read from the chunk, when there may be something, just before sending, so
 * that all earlier updates of the chunk are in what is read.
 */

#define CUT_TRIES 8u
#define CAP_TRIES 10u
#define FIRST_BYTES (64u << 10)
#define LARGE_BYTES (1u << 20)

static void update_pump(struct client_inode *i);
static void update_send(struct client_update *u);

static uint32_t chunk_limit(const struct client_inode *i)
{
    return (uint32_t)base_min(i->layout.chunk_size, FRAME_DATA_MAX);
}

static uint64_t file_offset(const struct client_update *u, uint32_t at)
{
    return (uint64_t)u->index * u->inode->layout.chunk_size + at;
}

static const uint8_t *update_bytes(const struct client_update *u)
{
    return u->buf != NULL ? u->buf->at : u->lent;
}

static void update_free(struct client_update *u)
{
    struct client_inode *i = u->inode;
    list_remove(&u->node);
    list_remove(&u->held.node);
    loop_timer_cancel(i->fs->loop, &u->again);
    i->update_count--;
    i->writes++; /* what was read ahead meanwhile may lack it */
    buf_unref(u->buf);
    mem_free(u->crcs);
    mem_free(u->crc_known);
    mem_free(u);
    client_inode_wake(i);
    client_inode_put(i);
}

static struct client_update *update_new(struct client_inode *i, uint32_t index, uint8_t kind)
{
    if (i->update_count >= CLIENT_UPDATES_MAX) {
        return NULL;
    }
    struct client_update *u = mem_zalloc(sizeof *u);
    if (u == NULL) {
        return NULL;
    }
    u->inode = i;
    u->index = index;
    u->kind = kind;
    u->number = i->next_number++;
    u->oldest_tgen = UINT32_MAX;
    list_init(&u->held.node);
    list_push_back(&i->updates, &u->node);
    i->update_count++;
    i->refs++;
    i->writes++;
    return u;
}

uint64_t client_update_left(const struct client_inode *i)
{
    uint64_t left = 0;
    LIST_FOR_EACH(at, &i->updates)
    {
        const struct client_update *u = LIST_ENTRY(at, struct client_update, node);
        left += u->to - u->from;
    }
    return left;
}

bool client_update_beyond(const struct client_inode *i, uint64_t size)
{
    LIST_FOR_EACH(at, &i->updates)
    {
        const struct client_update *u = LIST_ENTRY(at, struct client_update, node);
        if (u->kind == PROTO_WRITE_AT && file_offset(u, u->to) > size) {
            return true;
        }
    }
    return false;
}

static int update_make_cells(struct client_update *u, uint32_t bytes)
{
    uint32_t cells = (bytes + PROTO_CELL_BYTES - 1) / PROTO_CELL_BYTES;
    if (cells <= u->cell_room) {
        return 0;
    }
    uint32_t *crcs = mem_realloc(u->crcs, cells * sizeof *crcs);
    if (crcs == NULL) {
        return -ENOMEM;
    }
    u->crcs = crcs;
    uint8_t *known = mem_realloc(u->crc_known, cells);
    if (known == NULL) {
        return -ENOMEM;
    }
    memset(known + u->cell_room, 0, cells - u->cell_room);
    u->crc_known = known;
    u->cell_room = cells;
    return 0;
}

/* --- gathering ----------------------------------------------------------------------------------
 */

static struct client_update *newest_of_chunk(struct client_inode *i, uint32_t index)
{
    for (struct list *at = i->updates.prev; at != &i->updates; at = at->prev) {
        struct client_update *u = LIST_ENTRY(at, struct client_update, node);
        if (u->index == index) {
            return u;
        }
    }
    return NULL;
}

/* The bytes are taken and summed in one pass while they are in the cache. */
static void update_take(struct client_update *u, uint32_t at, const uint8_t *bytes, uint32_t len)
{
    uint8_t *to = u->buf->at + (at - u->start);
    uint32_t pos = at - u->start, end = pos + len;
    while (pos < end) {
        uint32_t cell = pos / PROTO_CELL_BYTES;
        uint32_t n = (uint32_t)base_min((cell + UINT64_C(1)) * PROTO_CELL_BYTES, end) - pos;
        const struct slice piece = {.at = bytes, .len = n};
        buf_copy(u->buf->pool, to, &piece);
        u->crc_known[cell] = n == PROTO_CELL_BYTES ? 1 : 0;
        if (n == PROTO_CELL_BYTES) {
            u->crcs[cell] = crc32c(0, to, n);
        }
        bytes += n;
        to += n;
        pos += n;
    }
    u->from = (uint32_t)base_min(u->from, at);
    u->to = (uint32_t)base_max(u->to, at + len);
    stats_count(&u->inode->fs->counters.write_bytes, len);
}

/* A buffer for the rest of the chunk instead of the small one that it began with. */
static int update_grow(struct client_update *u)
{
    uint32_t whole = chunk_limit(u->inode) - u->start;
    if (u->room >= whole) {
        return 0;
    }
    struct buf *b = buf_get(u->inode->fs->write_pool, whole);
    if (b == NULL) {
        return -EAGAIN;
    }
    if (update_make_cells(u, whole) < 0) {
        buf_unref(b);
        return -EAGAIN;
    }
    const struct slice old = {.at = u->buf->at + (u->from - u->start), .len = u->to - u->from};
    buf_copy(b->pool, b->at + (u->from - u->start), &old);
    buf_unref(u->buf);
    u->buf = b;
    u->room = whole;
    return 1;
}

static struct client_update *update_begin(struct client_inode *i, uint32_t index, uint32_t at,
                                          size_t len)
{
    uint32_t start = (uint32_t)base_align_down(at, PROTO_CELL_BYTES);
    uint32_t whole = chunk_limit(i) - start;
    uint32_t want = (uint32_t)base_min(base_max(at - start + len, FIRST_BYTES), whole);
    if (want > LARGE_BYTES || (index > 0 && at == 0)) { /* in order: no need to begin small */
        want = whole;
    }
    struct buf *b = buf_get(i->fs->write_pool, want);
    if (b == NULL) {
        return NULL;
    }
    struct client_update *u = update_new(i, index, PROTO_WRITE_AT);
    if (u == NULL) {
        buf_unref(b);
        return NULL;
    }
    u->buf = b;
    u->room = (uint32_t)base_min(b->size, whole);
    u->start = start;
    u->from = at;
    u->to = at;
    if (update_make_cells(u, u->room) < 0) {
        update_free(u);
        return NULL;
    }
    return u;
}

static void update_close(struct client_update *u)
{
    if (u->state == UPDATE_OPEN) {
        u->state = UPDATE_CLOSED;
    }
}

/* Not too many gather: then all but the newest go, side by side in few messages. */
static void update_limit_open(struct client_inode *i, const struct client_update *newest)
{
    unsigned open = 0;
    LIST_FOR_EACH(at, &i->updates)
    {
        open += LIST_ENTRY(at, struct client_update, node)->state == UPDATE_OPEN ? 1 : 0;
    }
    if (open <= CLIENT_OPEN_UPDATES) {
        return;
    }
    LIST_FOR_EACH(at, &i->updates)
    {
        struct client_update *u = LIST_ENTRY(at, struct client_update, node);
        if (u != newest) {
            update_close(u);
        }
    }
}

static bool update_joins(const struct client_update *u, uint32_t at, size_t len)
{
    return u != NULL && u->state == UPDATE_OPEN && u->kind == PROTO_WRITE_AT && u->buf != NULL &&
           at >= u->start && at <= u->to && at + len >= u->from;
}

int64_t client_update_write(struct client_inode *i, uint64_t offset, const uint8_t *bytes,
                            size_t len)
{
    uint64_t chunk = i->layout.chunk_size;
    uint32_t index = (uint32_t)(offset / chunk), at = (uint32_t)(offset % chunk);
    if (offset / chunk > UINT32_MAX) {
        return -EFBIG;
    }
    len = (size_t)base_min(len, chunk_limit(i) - at % chunk_limit(i));
    struct client_update *u = newest_of_chunk(i, index);
    if (!update_joins(u, at, len)) {
        if (u != NULL) {
            update_close(u);
        }
        u = update_begin(i, index, at, len);
    }
    if (u == NULL) {
        update_pump(i);
        return 0;
    }
    if (at + len > u->start + u->room && update_grow(u) < 0) {
        update_close(u); /* goes as it is; the rest follows when there is memory */
        update_pump(i);
        return 0;
    }
    update_take(u, at, bytes, (uint32_t)len);
    if (u->to == chunk || u->to - u->start == chunk_limit(i)) {
        update_close(u);
    }
    update_limit_open(i, u);
    client_inode_flush_later(i);
    update_pump(i);
    return (int64_t)len;
}

int64_t client_update_lend(struct client_inode *i, uint64_t offset, const uint8_t *bytes,
                           size_t len)
{
    uint64_t chunk = i->layout.chunk_size;
    if (offset / chunk > UINT32_MAX) {
        return -EFBIG;
    }
    struct client_update *before = newest_of_chunk(i, (uint32_t)(offset / chunk));
    if (before != NULL) {
        update_close(before);
    }
    struct client_update *u = update_new(i, (uint32_t)(offset / chunk), PROTO_WRITE_AT);
    if (u == NULL || update_make_cells(u, (uint32_t)len) < 0) {
        if (u != NULL) {
            update_free(u);
        }
        return 0;
    }
    u->lent = bytes;
    u->start = (uint32_t)(offset % chunk);
    u->from = u->start;
    u->to = u->start + (uint32_t)len;
    u->state = UPDATE_CLOSED;
    stats_count(&i->fs->counters.write_bytes, len);
    int64_t number = (int64_t)u->number;
    update_pump(i);
    return number;
}

int64_t client_update_cut(struct client_inode *i, uint32_t index, uint32_t length, uint32_t tgen)
{
    struct client_update *u = update_new(i, index, PROTO_WRITE_SET_LENGTH);
    if (u == NULL) {
        return 0;
    }
    u->to = length;
    u->tgen = tgen;
    u->state = UPDATE_CLOSED;
    int64_t number = (int64_t)u->number;
    update_pump(i);
    return number;
}

int64_t client_update_clear(struct client_inode *i, uint32_t index, uint32_t length)
{
    struct client_update *before = newest_of_chunk(i, index);
    struct client_update *u = update_new(i, index, PROTO_WRITE_CLEAR);
    if (u == NULL) {
        return 0;
    }
    if (before != NULL) {
        update_close(before);
    }
    u->to = length;
    u->state = UPDATE_CLOSED;
    int64_t number = (int64_t)u->number;
    update_pump(i);
    return number;
}

static bool update_overlaps(const struct client_update *u, uint64_t from, uint64_t to)
{
    bool cut = u->kind != PROTO_WRITE_AT;
    uint64_t first = file_offset(u, cut ? 0 : u->start);
    uint64_t end = cut ? first + u->inode->layout.chunk_size
                       : base_align_up(file_offset(u, u->to), PROTO_CELL_BYTES);
    return first < to && end > from;
}

bool client_update_flush(struct client_inode *i, uint64_t from, uint64_t to)
{
    bool any = false;
    LIST_FOR_EACH(at, &i->updates)
    {
        struct client_update *u = LIST_ENTRY(at, struct client_update, node);
        if (update_overlaps(u, from, to)) {
            update_close(u);
            any = true;
        }
    }
    if (any) {
        update_pump(i);
    }
    return !any;
}

bool client_update_range_done(const struct client_inode *i, uint64_t number, uint64_t from,
                              uint64_t to)
{
    LIST_FOR_EACH(at, &i->updates)
    {
        const struct client_update *u = LIST_ENTRY(at, struct client_update, node);
        if (u->number < number && update_overlaps(u, from, to)) {
            return false;
        }
    }
    return true;
}

bool client_update_all_done(const struct client_inode *i, uint64_t number)
{
    if (list_empty(&i->updates)) {
        return true;
    }
    return LIST_ENTRY(i->updates.next, struct client_update, node)->number >= number;
}

/* --- edges --------------------------------------------------------------------------------------
 */

static bool needs_head(const struct client_update *u)
{
    return u->from > u->start;
}

static bool needs_tail(const struct client_update *u)
{
    const struct client_inode *i = u->inode;
    bool more = file_offset(u, u->to) < i->stored_end || i->mode == PROTO_OPEN_S;
    bool at_chunk_end = u->to == i->layout.chunk_size;
    return !u->tail_filled && u->to % PROTO_CELL_BYTES != 0 && !at_chunk_end && more;
}

static void update_failed(struct client_update *u, int rc)
{
    struct client_inode *i = u->inode;
    i->uncut_tgen = u->kind == PROTO_WRITE_SET_LENGTH ? u->tgen : i->uncut_tgen;
    if (rc != -ECANCELED) {
        client_inode_fail(i, rc);
        bool over_spilled = i->spilled && file_offset(u, u->from) < i->attr.size;
        i->torn = over_spilled && i->torn == 0 ? rc : i->torn;
    }
    i->refs++;
    update_free(u);
    if (!i->fs->freeing) {
        update_pump(i);
    }
    client_inode_put(i);
}

static void fill_done(struct client_fetch *f, int rc)
{
    struct client_update *u = container_of(f, struct client_update, fill);
    if (rc < 0) {
        buf_slice_drop(&f->data);
        update_failed(u, rc == -ERR_cancelled ? -ECANCELED : rc);
        return;
    }
    uint8_t *cell = u->buf->at + (f->offset - u->start);
    if (needs_head(u)) {
        uint32_t gap = u->from - u->start;
        size_t have = base_min(gap, f->data.len);
        const struct slice head = {.at = f->data.at, .len = have};
        buf_copy(u->buf->pool, cell, &head);
        memset(cell + have, 0, gap - have);
        u->from = u->start;
    } else {
        uint32_t at = u->to - f->offset; /* within the cell */
        u->tail_filled = true;
        if (f->data.len > at) {
            const struct slice tail = {.at = f->data.at + at, .len = f->data.len - at};
            buf_copy(u->buf->pool, cell + at, &tail);
            u->to = f->offset + (uint32_t)f->data.len;
        }
    }
    buf_slice_drop(&f->data);
    update_send(u);
}

static void fill_start(struct client_update *u, uint32_t at)
{
    u->state = UPDATE_FILLING;
    if (!u->filled) {
        u->filled = true;
        u->tgen = u->inode->attr.tgen;
        u->own_from = u->from;
        u->own_to = u->to;
    }
    stats_count(&u->inode->fs->counters.edge_reads, 1);
    u->fill.inode = u->inode;
    u->fill.index = u->index;
    u->fill.offset = (uint32_t)base_align_down(at, PROTO_CELL_BYTES);
    u->fill.len = PROTO_CELL_BYTES;
    u->fill.done = fill_done;
    client_fetch_start(&u->fill);
}

/* Only what the user wrote, again. */
static void unfill(struct client_update *u)
{
    u->filled = u->tail_filled = false;
    u->from = u->own_from;
    u->to = u->own_to;
    u->crc_known[0] = 0;
    u->crc_known[(u->to - 1 - u->start) / PROTO_CELL_BYTES] = 0;
}

/* --- edges, and truncations by others -----------------------------------------------------------
 *
 * An edge that was read before a cut and is written after it brings back what was cut. So edges are
 * read when all is cut, and written with the generation of that moment: a chunk that was cut since
 * refuses it, and they are read anew.
 */

#define CUT_REST_MS 20u

static void update_await_cut(struct client_update *u);

static bool update_is_cut(const struct client_update *u)
{
    return u->inode->attr.tgen <= u->inode->cut_tgen;
}

static void cut_again(struct loop_timer *t)
{
    struct client_update *u = container_of(t, struct client_update, again);
    u->awaits_cut = false;
    update_await_cut(u);
}

static void cut_asked(struct client_held *h)
{
    struct client_update *u = container_of(h, struct client_update, held);
    struct client_inode *i = u->inode;
    if (i->fs->freeing || u->chain.cancelled) {
        u->awaits_cut = false;
        if (u->chain.active) {
            client_chain_resume(&u->chain, CHAIN_LATER); /* which ends it */
        }
    } else if (update_is_cut(u)) {
        u->awaits_cut = false;
        if (u->chain.active) {
            update_send(u);
        } else {
            update_pump(i);
        }
    } else {
        u->again.fire = cut_again;
        loop_timer_in(i->fs->loop, &u->again, CUT_REST_MS * CLIENT_NS_PER_MS);
    }
}

static void update_await_cut(struct client_update *u)
{
    if (!u->awaits_cut) {
        u->awaits_cut = true;
        u->held.renewed = cut_asked;
        client_inode_refresh(u->inode, &u->held);
    }
}

/* It is on its way: whoever was asked for it need not come back for it. */
static void update_awaits_no_cut(struct client_update *u)
{
    if (u->awaits_cut) {
        u->awaits_cut = false;
        list_remove(&u->held.node);
        loop_timer_cancel(u->inode->fs->loop, &u->again);
    }
}

/* --- sending ------------------------------------------------------------------------------------
 */

static void update_fill_request(struct client_update *u);

static size_t update_pick(struct client_chain_call *c, const struct cluster_row *row)
{
    (void)c;
    return cluster_row_head(row);
}

static void update_prepare(struct client_chain_call *c)
{
    struct client_update *u = container_of(c, struct client_update, chain);
    struct client_inode *i = u->inode;
    u->request.capability = i->write_cap.cap;
    /* A cut with the generation of a later one would pass for that. What is written after a
     * truncation by somebody else waits where it is not cut yet: it would pass for cut, too. */
    bool cut = u->kind == PROTO_WRITE_SET_LENGTH;
    u->request.tgen = cut || u->filled ? u->tgen : i->attr.tgen;
    u->request.uncut = u->kind == PROTO_WRITE_AT && u->request.tgen > i->cut_tgen;
    u->request.retry = c->doubtful || c->refused_late;
    u->oldest_tgen = (uint32_t)base_min(u->oldest_tgen, u->request.tgen);
    client_inode_check_cap(i, &i->write_cap);
}

static void update_renewed(struct client_held *h)
{
    struct client_update *u = container_of(h, struct client_update, held);
    client_chain_resume(&u->chain, CHAIN_LATER);
}

/* It was refused as older than a truncation. */
static void update_outdated(struct client_held *h)
{
    struct client_update *u = container_of(h, struct client_update, held);
    if (!u->filled || u->inode->fs->freeing || u->chain.cancelled) {
        client_chain_resume(&u->chain, CHAIN_LATER);
        return;
    }
    unfill(u);
    update_send(u); /* under its number: an attempt before may have been executed */
}

/* Nothing of it was executed, unless an attempt before has no answer. */
static void update_refused(struct client_update *u)
{
    u->oldest_tgen = u->request.retry ? u->oldest_tgen : UINT32_MAX;
}

static enum client_verdict update_judge(struct client_chain_call *c, const struct peer_reply *r,
                                        enum client_verdict common)
{
    struct client_update *u = container_of(c, struct client_update, chain);
    if (r->answered && err_is(r->rc, ERR_bad_capability) && u->cap_tries++ < CAP_TRIES &&
        !c->fs->freeing) {
        u->held.renewed = update_renewed;
        client_inode_renew(u->inode, &u->held);
        return CHAIN_HELD;
    }
    if (r->answered && err_is(r->rc, ERR_stale_trunc) && u->cut_tries++ < CUT_TRIES &&
        !c->fs->freeing) {
        u->held.renewed = update_outdated;
        update_refused(u);
        client_inode_refresh(u->inode, &u->held);
        return CHAIN_HELD;
    }
    if (r->answered && r->rc == -ERR_bad_value && u->kind == PROTO_WRITE_CLEAR && !c->fs->freeing &&
        update_make_cells(u, u->to) == 0) { /* an older version */
        static const uint8_t zeros[FRAME_DATA_MAX];
        u->kind = PROTO_WRITE_AT;
        u->lent = zeros;
        u->tail_filled = true;
        update_fill_request(u);
        return CHAIN_NOW;
    }
    if (r->answered && r->rc == -ERR_busy && u->request.uncut && !c->fs->freeing) {
        u->held.renewed = update_renewed;
        update_refused(u);
        client_inode_refresh(u->inode, &u->held); /* perhaps all of it is cut by now */
        return CHAIN_HELD;
    }
    return common;
}

/* Remembers what a SYNC has to cover. Without memory for it the file is not synced: an error. */
static int unsynced_note(struct client_inode *i, uint32_t chain, uint32_t loss_gen)
{
    for (size_t k = 0; k < i->unsynced_count; k++) {
        struct client_unsynced *s = &i->unsynced[k];
        if (s->chain == chain) {
            s->loss_gen = (uint32_t)base_min(s->loss_gen, loss_gen);
            s->acks++;
            return 0;
        }
    }
    int rc =
        mem_grow(&i->unsynced, &i->unsynced_capacity, i->unsynced_count + 1, sizeof *i->unsynced);
    if (rc == 0) {
        i->unsynced[i->unsynced_count++] =
            (struct client_unsynced){.chain = chain, .loss_gen = loss_gen, .acks = 1};
    }
    return rc;
}

static void update_done(struct client_chain_call *c, const struct peer_reply *r)
{
    struct client_update *u = container_of(c, struct client_update, chain);
    struct client_inode *i = u->inode;
    if (r->rc < 0) {
        update_failed(u, r->rc == -ERR_cancelled ? -ECANCELED : r->rc);
        return;
    }
    const struct proto_write_reply *m = r->body;
    int rc = unsynced_note(i, c->chain, m->loss_gen);
    if (u->kind == PROTO_WRITE_AT) {
        i->stored_end = base_max(i->stored_end, file_offset(u, u->to));
        i->taken += (int64_t)base_align_up(u->to - u->start, PROTO_CELL_BYTES);
        i->chunked = true;
        i->dirty = true;
        client_io_stored(i, file_offset(u, u->start), file_offset(u, u->to), u->oldest_tgen);
    }
    if (rc < 0) {
        client_inode_fail(i, rc);
    }
    i->refs++;
    update_free(u);
    if (!i->fs->freeing) {
        update_pump(i);
    }
    client_inode_put(i);
}

static const struct client_chain_ops update_ops = {
    .pick = update_pick, .prepare = update_prepare, .judge = update_judge, .done = update_done};

static void update_sum(struct client_update *u)
{
    uint32_t len = u->to - u->start;
    const uint8_t *bytes = update_bytes(u);
    for (uint32_t at = 0, cell = 0; at < len; at += PROTO_CELL_BYTES, cell++) {
        uint32_t n = (uint32_t)base_min(PROTO_CELL_BYTES, len - at);
        if (u->crc_known[cell] == 0) {
            u->crcs[cell] = crc32c(0, bytes + at, n);
            u->crc_known[cell] = 1;
        }
    }
}

static void update_fill_request(struct client_update *u)
{
    struct client_inode *i = u->inode;
    bool cut = u->kind != PROTO_WRITE_AT;
    uint32_t len = u->kind == PROTO_WRITE_CLEAR ? 0 : u->to - u->start;
    u->request =
        (struct proto_write_request){.chunk = {.data_id = i->layout.data_id, .index = u->index},
                                     .client = i->fs->session.id,
                                     .seq = u->chain.active ? u->request.seq : ++i->fs->write_seq,
                                     .kind = u->kind,
                                     .offset = u->start,
                                     .length = len};
    u->chain.peer = (struct peer_call){.request = &u->request, .opcode = PROTO_OP_write};
    if (!cut) {
        update_sum(u);
        u->request.crcs.at = u->crcs;
        u->request.crcs.count = (len + PROTO_CELL_BYTES - 1) / PROTO_CELL_BYTES;
        u->chain.peer.wire.data[0] =
            (struct slice){.buf = u->buf, .at = update_bytes(u), .len = len};
        u->chain.peer.wire.data_count = 1;
    }
}

/* Edges first; then out. */
static void update_send(struct client_update *u)
{
    struct client_inode *i = u->inode;
    bool cut = u->kind != PROTO_WRITE_AT;
    if (!cut && (needs_head(u) || needs_tail(u)) && !update_is_cut(u)) {
        update_await_cut(u);
        return;
    }
    update_awaits_no_cut(u);
    if (!cut && needs_head(u)) {
        if (file_offset(u, u->start) < i->stored_end || i->mode == PROTO_OPEN_S) {
            fill_start(u, u->start);
            return;
        }
        memset(u->buf->at, 0, u->from - u->start);
        u->from = u->start;
    }
    if (!cut && needs_tail(u)) {
        fill_start(u, u->to);
        return;
    }
    u->state = UPDATE_SENT;
    update_fill_request(u);
    if (u->chain.active) { /* once more, with edges that were read anew */
        client_chain_resume(&u->chain, CHAIN_LATER);
        return;
    }
    u->chain.ops = &update_ops;
    u->chain.route = &u->request.route;
    u->chain.layout = &i->layout;
    u->chain.index = u->index;
    u->chain.spread = u->index;
    u->chain.settles = true;
    client_chain_start(i->fs, &u->chain);
}

static bool is_first_of_chunk(const struct client_update *u)
{
    LIST_FOR_EACH(at, &u->inode->updates)
    {
        const struct client_update *before = LIST_ENTRY(at, struct client_update, node);
        if (before == u) {
            return true;
        }
        if (before->index == u->index) {
            return false;
        }
    }
    return true;
}

static void update_pump(struct client_inode *i)
{
    if (i->dead < 0 || i->wait_shared) {
        return;
    }
    LIST_FOR_EACH(at, &i->updates)
    {
        struct client_update *u = LIST_ENTRY(at, struct client_update, node);
        if (u->state == UPDATE_CLOSED && is_first_of_chunk(u)) {
            update_send(u); /* never ends inside */
        }
    }
}

void client_update_cancel_all(struct client_inode *i, int rc)
{
    struct list all, *at;
    list_init(&all);
    i->refs++;
    list_splice_back(&all, &i->updates);
    while ((at = list_pop_front(&all)) != NULL) {
        struct client_update *u = LIST_ENTRY(at, struct client_update, node);
        bool flying = u->state == UPDATE_SENT || u->state == UPDATE_FILLING;
        list_push_back(&i->updates, &u->node);
        if (!flying) {
            update_free(u);
        } else if (u->state == UPDATE_FILLING) {
            client_fetch_cancel(&u->fill);
        } else {
            client_chain_cancel(&u->chain);
        }
    }
    (void)rc;
    client_inode_put(i);
}

/* --- sync ---------------------------------------------------------------------------------------
 */

struct sync_call {
    struct client_inode *inode;
    struct client_chain_call chain;
    struct proto_sync_request request;
    uint64_t acks;
    unsigned cap_tries;
    struct client_held held;
    struct list node;
};

static void sync_prepare(struct client_chain_call *c)
{
    struct sync_call *s = container_of(c, struct sync_call, chain);
    struct client_inode *i = s->inode;
    const struct client_cap *cap = i->write_cap.known ? &i->write_cap : &i->read_cap;
    s->request.capability = cap->cap;
    client_inode_check_cap(i, cap);
}

static void sync_renewed(struct client_held *h)
{
    struct sync_call *s = container_of(h, struct sync_call, held);
    client_chain_resume(&s->chain, CHAIN_LATER);
}

static enum client_verdict sync_judge(struct client_chain_call *c, const struct peer_reply *r,
                                      enum client_verdict common)
{
    struct sync_call *s = container_of(c, struct sync_call, chain);
    if (r->answered && err_is(r->rc, ERR_bad_capability) && s->cap_tries++ < CAP_TRIES &&
        !c->fs->freeing) {
        s->held.renewed = sync_renewed;
        client_inode_renew(s->inode, &s->held);
        return CHAIN_HELD;
    }
    return common;
}

/* What was acknowledged while the SYNC was under way is not covered by it. */
static void unsynced_covered(struct client_inode *i, uint32_t chain, uint64_t acks)
{
    for (size_t k = 0; k < i->unsynced_count; k++) {
        if (i->unsynced[k].chain == chain && i->unsynced[k].acks == acks) {
            i->unsynced[k] = i->unsynced[--i->unsynced_count];
            return;
        }
    }
}

static void sync_done(struct client_chain_call *c, const struct peer_reply *r)
{
    struct sync_call *s = container_of(c, struct sync_call, chain);
    struct client_inode *i = s->inode;
    if ((r->rc == 0 || r->rc == -ERR_lost) && s->acks > 0) {
        unsynced_covered(i, c->chain, s->acks);
    }
    if (r->rc == -ERR_lost) { /* acknowledged updates are gone, and nothing of them is held here */
        stats_count(&i->fs->counters.lost, 1);
        client_inode_fail(i, -ERR_lost);
    } else if (r->rc < 0) {
        i->sync_rc = i->sync_rc == 0 ? r->rc : i->sync_rc;
    }
    list_remove(&s->node);
    list_remove(&s->held.node);
    mem_free(s);
    i->syncs--;
    client_inode_wake(i);
    client_inode_put(i);
}

static const struct client_chain_ops sync_ops = {
    .pick = update_pick, .prepare = sync_prepare, .judge = sync_judge, .done = sync_done};

/* NULL: no memory, and the sync has failed. */
static struct sync_call *sync_new(struct client_inode *i, uint32_t loss_gen)
{
    struct sync_call *s = mem_zalloc(sizeof *s);
    if (s == NULL) {
        i->sync_rc = -ENOMEM;
        return NULL;
    }
    s->inode = i;
    s->request = (struct proto_sync_request){.data_id = i->layout.data_id, .loss_gen = loss_gen};
    s->chain.ops = &sync_ops;
    s->chain.route = &s->request.route;
    s->chain.peer = (struct peer_call){.request = &s->request, .opcode = PROTO_OP_sync};
    list_init(&s->held.node);
    list_push_back(&i->syncing, &s->node);
    i->syncs++;
    i->refs++;
    return s;
}

/*
 * What was written before this client knew the file, or by handles that are closed: all chains that
 * can hold a chunk of it. Whether some of that was lost meanwhile nobody here can tell.
 */
static void sync_past(struct client_inode *i)
{
    uint64_t chunks = (i->size + i->layout.chunk_size - 1) / i->layout.chunk_size;
    uint64_t count = base_min(chunks, base_max(i->layout.stripe_width, 1));
    i->unknown_past = false;
    for (uint32_t index = 0; index < count; index++) {
        struct sync_call *s = sync_new(i, UINT32_MAX);
        if (s == NULL) {
            break;
        }
        s->chain.layout = &i->layout;
        s->chain.index = index;
        s->chain.spread = index;
        client_chain_start(i->fs, &s->chain);
    }
}

void client_sync_start(struct client_inode *i)
{
    CHECK(i->syncs == 0);
    i->sync_rc = 0;
    if (i->unknown_past && i->layout.chunk_size > 0) {
        sync_past(i);
    }
    for (size_t k = 0; k < i->unsynced_count; k++) {
        const struct client_unsynced *dirty = &i->unsynced[k];
        struct sync_call *s = sync_new(i, dirty->loss_gen);
        if (s == NULL) {
            break;
        }
        s->acks = dirty->acks;
        s->chain.chain = dirty->chain;
        s->chain.spread = dirty->chain;
        client_chain_start(i->fs, &s->chain);
    }
}

void client_sync_cancel(struct client_inode *i)
{
    i->refs++;
    while (!list_empty(&i->syncing)) {
        client_chain_cancel(&LIST_ENTRY(i->syncing.next, struct sync_call, node)->chain);
    }
    client_inode_put(i);
}

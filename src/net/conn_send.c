/*
 * net/conn_send.c -- the send queue and its flush.
 *
 * The queue is a ring of pieces: runs of bytes (headers and bodies of many frames side by side in
 * blocks of ours), slices of buffers, ranges of files, and ends, whose owners are told when all
 * before has left. A flush gathers pieces into one call until it meets a range that has to go from
 * the file: with sendfile when the page cache has it, else by the disk's own threads, so that the
 * loop never waits for a medium. MSG_MORE is said only when a sendfile follows at once.
 */
#include "net/conn_priv.h"

#include "base/crc32c.h"
#include "base/mem.h"

#include <string.h>

#define FIRST_PIECES 64u
#define RETRY_NS 2000000u
#define ZEROS 65536u /* of a hole, at a time */

static void queue_grows(struct net_conn *c, size_t len)
{
    c->queued_bytes += len;
    c->share->queued_bytes += len;
}

static void queue_shrinks(struct net_conn *c, size_t len)
{
    c->queued_bytes -= len;
    c->share->queued_bytes -= len;
}

static struct conn_piece *piece_at(struct net_conn *c, size_t index)
{
    return &c->piece[index & c->piece_mask];
}

static int ring_grow(struct net_conn *c)
{
    size_t old = c->piece == NULL ? 0 : c->piece_mask + 1;
    size_t count = old == 0 ? FIRST_PIECES : old * 2;
    struct conn_piece *piece = mem_calloc(count, sizeof *piece);
    if (piece == NULL) {
        return -ENOMEM;
    }
    for (size_t i = c->piece_head; i != c->piece_tail; i++) {
        piece[i & (count - 1)] = *piece_at(c, i);
    }
    mem_free(c->piece);
    c->piece = piece;
    c->piece_mask = count - 1;
    return 0;
}

static struct conn_piece *piece_add(struct net_conn *c)
{
    size_t count = c->piece_tail - c->piece_head;
    if ((c->piece == NULL || count > c->piece_mask) && ring_grow(c) < 0) {
        return NULL;
    }
    return piece_at(c, c->piece_tail++);
}

/* --- Blocks ------------------------------------------------------------------------------------
 */

static void block_release(struct net_conn *c, struct conn_block *b)
{
    c->share->memory_bytes -= sizeof *b + b->size;
    if (c->share->spare_block == NULL && b->size == CONN_BLOCK_BYTES) {
        c->share->spare_block = b;
    } else {
        mem_free(b);
    }
}

static int block_add(struct net_conn *c, size_t need)
{
    struct conn_block *b = c->share->spare_block;
    if (b != NULL && need <= CONN_BLOCK_BYTES) {
        c->share->spare_block = NULL;
    } else {
        size_t size = base_max(need, CONN_BLOCK_BYTES);
        b = mem_alloc(sizeof *b + size);
        if (b == NULL) {
            return -ENOMEM;
        }
        b->size = size;
    }
    b->next = NULL;
    b->len = 0;
    b->sent = 0;
    c->share->memory_bytes += sizeof *b + b->size;
    if (c->block_last != NULL) {
        c->block_last->next = b;
    } else {
        c->block_first = b;
    }
    c->block_last = b;
    return 0;
}

/* Bytes of blocks leave in the order in which they came. */
static void block_sent(struct net_conn *c, size_t len)
{
    while (len > 0) {
        struct conn_block *b = c->block_first;
        CHECK(b != NULL);
        size_t n = base_min(len, b->len - b->sent);
        b->sent += n;
        len -= n;
        if (b->sent < b->len) {
            break;
        }
        if (b->next != NULL) {
            c->block_first = b->next;
            block_release(c, b);
        } else if (b->size > CONN_BLOCK_BYTES) {
            c->block_first = c->block_last = NULL;
            block_release(c, b);
        } else {
            b->len = 0;
            b->sent = 0;
        }
    }
}

/* --- Putting in --------------------------------------------------------------------------------
 */

int net_conn_put_frame(struct net_conn *c, struct wire_frame *f, const void *body)
{
    size_t len = FRAME_BYTES + f->body_len;
    struct conn_block *b = c->block_last;
    if (b == NULL || b->size - b->len < len) {
        int rc = block_add(c, len);
        if (rc < 0) {
            return rc;
        }
        b = c->block_last;
    }
    uint8_t *at = b->bytes + b->len;
    struct conn_piece *last = net_conn_queue_empty(c) ? NULL : piece_at(c, c->piece_tail - 1);
    if (last != NULL && last->kind == CONN_BYTES && last->u.bytes.at + last->len == at) {
        last->len += len;
    } else {
        struct conn_piece *p = piece_add(c);
        if (p == NULL) {
            return -ENOMEM;
        }
        *p = (struct conn_piece){.kind = CONN_BYTES, .len = len, .u.bytes.at = at};
    }
    f->body_crc = f->body_len > 0 ? crc32c(0, body, f->body_len) : 0;
    wire_frame_encode(f, at);
    if (f->body_len > 0) {
        memcpy(at + FRAME_BYTES, body, f->body_len);
    }
    b->len += len;
    queue_grows(c, len);
    return 0;
}

int net_conn_put_slice(struct net_conn *c, const struct slice *s, uint32_t call_id)
{
    if (s->len == 0) {
        return 0;
    }
    struct conn_piece *p = piece_add(c);
    if (p == NULL) {
        return -ENOMEM;
    }
    *p = (struct conn_piece){
        .kind = CONN_SLICE, .call_id = call_id, .len = s->len, .u.bytes.at = s->at};
    p->u.bytes.buf = s->buf == NULL ? NULL : buf_ref(s->buf);
    queue_grows(c, s->len);
    return 0;
}

static int put_zeros(struct net_conn *c, uint64_t len)
{
    static const uint8_t zeros[ZEROS];
    int rc = 0;
    for (uint64_t done = 0; done < len && rc == 0; done += ZEROS) {
        const struct slice part = {.at = zeros, .len = (size_t)base_min(ZEROS, len - done)};
        rc = net_conn_put_slice(c, &part, 0);
    }
    return rc;
}

int net_conn_put_range(struct net_conn *c, const struct net_conn_range *r)
{
    if (r->file == NULL || r->len == 0) {
        return put_zeros(c, r->len);
    }
    CHECK(c->env->disk != NULL);
    struct conn_piece *p = piece_add(c);
    if (p == NULL) {
        return -ENOMEM;
    }
    *p = (struct conn_piece){
        .kind = CONN_FILE,
        .len = (size_t)r->len,
        .u.range = {.file = r->file, .offset = r->offset, .seen_ns = r->seen_ns}};
    queue_grows(c, p->len);
    return 0;
}

int net_conn_put_end(struct net_conn *c, const struct conn_piece *end)
{
    struct conn_piece *p = piece_add(c);
    if (p == NULL) {
        return -ENOMEM;
    }
    *p = *end;
    return 0;
}

/* Lent memory of the call goes back to its owner now: what is still queued of it is copied. */
void net_conn_detach_call_data(struct net_conn *c, uint32_t call_id)
{
    for (size_t i = c->piece_head; i != c->piece_tail; i++) {
        struct conn_piece *p = piece_at(c, i);
        bool lent = p->kind == CONN_SLICE && p->call_id == call_id && p->u.bytes.buf == NULL &&
                    p->u.bytes.owned == NULL;
        if (!lent) {
            continue;
        }
        p->u.bytes.owned = mem_dup(p->u.bytes.at, p->len);
        if (p->u.bytes.owned == NULL) {
            p->u.bytes.at = NULL;
            net_conn_fail(c, -ENOMEM, "no memory to finish sending an abandoned request");
            return;
        }
        p->u.bytes.at = p->u.bytes.owned;
    }
}

/* --- Taking out --------------------------------------------------------------------------------
 */

static void piece_drop(struct net_conn *c, int rc)
{
    struct conn_piece p = *piece_at(c, c->piece_head);
    c->piece_head++;
    if (p.kind == CONN_SLICE) {
        buf_unref(p.u.bytes.buf);
        mem_free(p.u.bytes.owned);
    } else if (p.kind == CONN_END && p.u.end.of_call) {
        net_conn_call_sent(c, p.call_id);
    } else if (p.kind == CONN_END && p.u.end.sent != NULL) {
        p.u.end.sent(p.u.end.pin, rc);
    }
}

/* `len` bytes from the front have left. */
static void consume(struct net_conn *c, size_t len)
{
    stats_count(&c->counters.sent_bytes, len);
    c->moved = true;
    queue_shrinks(c, len);
    while (!net_conn_queue_empty(c)) {
        struct conn_piece *p = piece_at(c, c->piece_head);
        size_t n = base_min(len, p->len);
        len -= n;
        if (p->kind == CONN_BYTES) {
            block_sent(c, n);
        }
        p->len -= n;
        if (p->len > 0) {
            bool memory = p->kind == CONN_BYTES || p->kind == CONN_SLICE;
            p->u.bytes.at += memory ? n : 0;
            p->u.range.offset += memory ? 0 : n;
            return;
        }
        piece_drop(c, 0);
    }
}

void net_conn_drop_queue(struct net_conn *c)
{
    while (!net_conn_queue_empty(c)) {
        struct conn_piece *p = piece_at(c, c->piece_head);
        queue_shrinks(c, p->len);
        piece_drop(c, -ERR_closed);
    }
}

void net_conn_wake_rooms(struct net_conn *c)
{
    size_t due = 0; /* who waits again has its turn later */
    LIST_FOR_EACH(at, &c->rooms)
    {
        due++;
    }
    for (; due > 0 && !c->freed && !list_empty(&c->rooms); due--) {
        if (c->state != CONN_CLOSED && net_conn_full(c)) {
            return;
        }
        struct net_conn_room *w = LIST_ENTRY(list_pop_front(&c->rooms), struct net_conn_room, node);
        w->queued = false;
        w->room(w);
    }
    if (!c->freed && !list_empty(&c->rooms)) {
        loop_defer(c->loop, c->state == CONN_CLOSED ? &c->finish_task : &c->flush_task);
    }
}

void net_conn_wait_room(struct net_conn *c, struct net_conn_room *w)
{
    LOOP_OWNED(c->loop);
    if (w->queued) {
        return;
    }
    w->queued = true;
    list_push_back(&c->rooms, &w->node);
    if (c->state == CONN_CLOSED) {
        net_conn_finish_later(c);
    } else if (!net_conn_full(c)) {
        net_conn_flush_soon(c);
    }
}

void net_conn_unwait_room(struct net_conn *c, struct net_conn_room *w)
{
    (void)c;
    if (w->queued) {
        w->queued = false;
        list_remove(&w->node);
    }
}

/* --- Files --------------------------------------------------------------------------------------
 */

/* Small and in the page cache: read, to be gathered with its header. */
static bool range_read_small(struct net_conn *c, struct conn_piece *p)
{
    struct buf *b = p->len <= CONN_RANGE_SMALL && c->pool != NULL ? buf_get(c->pool, p->len) : NULL;
    if (b == NULL) {
        return false;
    }
    struct disk_req req = {.op = DISK_READ,
                           .file = p->u.range.file,
                           .offset = p->u.range.offset,
                           .len = p->len,
                           .buf = b->at};
    int64_t n = disk_try_read(c->env->disk, &req);
    if (n != (int64_t)p->len) {
        buf_unref(b); /* not in memory, or an error that the other way will find again */
        return false;
    }
    p->kind = CONN_SLICE;
    p->u.bytes.at = b->at;
    p->u.bytes.buf = b;
    p->u.bytes.owned = NULL;
    stats_count(&c->counters.files_cached, 1);
    return true;
}

static bool range_resident(const struct net_conn *c, const struct conn_piece *p)
{
    bool seen = p->u.range.seen_ns != 0 && p->u.range.seen_ns == loop_tick_ns(c->loop);
    return seen || disk_resident(c->env->disk, p->u.range.file, p->u.range.offset, p->len);
}

static void range_prepare(struct net_conn *c, struct conn_piece *p)
{
    if (p->kind != CONN_FILE || range_read_small(c, p)) {
        return;
    }
    bool cached = disk_file_fd(p->u.range.file) >= 0 && range_resident(c, p);
    p->kind = cached ? CONN_FILE_CACHED : CONN_FILE_COLD;
    stats_count(cached ? &c->counters.files_cached : &c->counters.files_cold, 1);
}

/* The answer has promised more bytes than the file has: nothing true can follow. */
static void file_is_short(struct net_conn *c)
{
    net_conn_fail(c, -EIO, "file is shorter than announced");
}

static size_t send_cached(struct net_conn *c, struct conn_piece *p)
{
    int64_t n = stream_send_file(c->stream, p->u.range.file, p->u.range.offset, p->len, false);
    if (n > 0) {
        consume(c, (size_t)n);
        return (size_t)n;
    }
    if (n == -EOPNOTSUPP) {
        p->kind = CONN_FILE_COLD; /* not this kind of file or stream */
    } else if (n == -EAGAIN) {
        c->writable = false;
    } else if (n == 0) {
        file_is_short(c);
    } else {
        net_conn_fail(c, (int)n, "send file");
    }
    return 0;
}

static void disk_retry_fired(struct loop_timer *t)
{
    net_conn_flush_soon(container_of(t, struct net_conn, disk_retry));
}

static void disk_send_result(struct net_conn *c, int64_t n)
{
    if (n > 0) {
        consume(c, (size_t)n);
        net_conn_receive_soon(c); /* there may be room again */
    } else if (n == 0) {
        file_is_short(c);
    } else if (n == -ERR_busy) {
        c->writable = true; /* the stream was not asked */
        c->disk_retry.fire = disk_retry_fired;
        loop_timer_in(c->loop, &c->disk_retry, RETRY_NS);
    } else if (n != -EAGAIN) {
        net_conn_fail(c, (int)n, "send file");
    }
    /* -EAGAIN: `writable` was cleared before; if it is set again, an edge came meanwhile. */
}

static void disk_send_done(struct disk_req *req, int64_t n)
{
    struct net_conn *c = container_of(req, struct net_conn, disk_send);
    net_conn_enter(c);
    c->sending_file = false;
    if (c->state == CONN_CLOSED) {
        net_conn_close_stream(c);
        net_conn_drop_queue(c);
        net_conn_finish_later(c);
    } else {
        c->writable = c->writable || n > 0;
        disk_send_result(c, n);
    }
    net_conn_leave(c);
}

static void send_cold(struct net_conn *c, struct conn_piece *p)
{
    c->disk_send = (struct disk_req){.op = DISK_SEND,
                                     .file = p->u.range.file,
                                     .offset = p->u.range.offset,
                                     .len = p->len,
                                     .sink = stream_sink(c->stream),
                                     .done = disk_send_done};
    c->sending_file = true;
    c->writable = false;
    disk_submit(c->env->disk, &c->disk_send);
}

/* --- Flush ---------------------------------------------------------------------------------------
 */

struct gathered {
    struct iovec iov[CONN_IOV];
    unsigned count;
    size_t len;
    bool more;
};

static void gather(struct net_conn *c, struct gathered *g)
{
    g->count = 0;
    g->len = 0;
    g->more = false;
    for (size_t i = c->piece_head; i != c->piece_tail; i++) {
        struct conn_piece *p = piece_at(c, i);
        if (p->kind == CONN_END) {
            continue;
        }
        range_prepare(c, p);
        if (g->count == CONN_IOV || g->len >= CONN_WRITE_ROUND) {
            g->more = p->kind != CONN_FILE_COLD;
            return;
        }
        if (p->kind != CONN_BYTES && p->kind != CONN_SLICE) {
            g->more = p->kind == CONN_FILE_CACHED;
            return;
        }
        g->iov[g->count++] = (struct iovec){.iov_base = (void *)p->u.bytes.at, .iov_len = p->len};
        g->len += p->len;
    }
}

static size_t write_gathered(struct net_conn *c)
{
    struct gathered g;
    gather(c, &g);
    if (g.count == 0) {
        return 0; /* ends, or a range, come first */
    }
    stats_count(&c->counters.writes, 1);
    int64_t n = stream_write(c->stream, g.iov, g.count, g.more);
    if (n < 0 && n != -EAGAIN) {
        net_conn_fail(c, (int)n, "write");
        return 0;
    }
    c->writable = n == (int64_t)g.len;
    if (n > 0) {
        consume(c, (size_t)n);
    }
    return n < 0 ? 0 : (size_t)n;
}

/* Sends what is in front; returns the bytes that left. */
static size_t flush_front(struct net_conn *c)
{
    struct conn_piece *p = piece_at(c, c->piece_head);
    if (p->kind == CONN_END) {
        piece_drop(c, 0);
        return 0;
    }
    range_prepare(c, p);
    switch (p->kind) {
    case CONN_FILE_CACHED:
        return send_cached(c, p);
    case CONN_FILE_COLD:
        send_cold(c, p);
        return 0;
    case CONN_BYTES:
    case CONN_SLICE:
    case CONN_FILE:
    case CONN_END:
        break;
    }
    return write_gathered(c);
}

void net_conn_flush(struct net_conn *c)
{
    size_t sent = 0;
    while (c->state != CONN_CLOSED && !net_conn_queue_empty(c) && c->writable && !c->sending_file &&
           !loop_timer_active(&c->disk_retry)) {
        if (sent >= CONN_WRITE_ROUND) {
            loop_defer(c->loop, &c->flush_task); /* others first */
            break;
        }
        sent += flush_front(c);
    }
    if (c->state != CONN_CLOSED && sent > 0 && c->paused) {
        net_conn_receive_soon(c);
    }
    if (net_conn_queue_empty(c)) {
        net_conn_send_idle(c);
    }
    if (!list_empty(&c->rooms)) {
        net_conn_wake_rooms(c);
    }
}

void net_conn_flush_soon(struct net_conn *c)
{
    if (c->depth == 0 && c->state != CONN_CLOSED) { /* else at the outermost leave */
        loop_defer(c->loop, &c->flush_task);
    }
}

void net_conn_send_idle(struct net_conn *c)
{
    while (net_conn_queue_empty(c) && c->block_first != NULL) {
        struct conn_block *next = c->block_first->next;
        block_release(c, c->block_first);
        c->block_first = next;
        c->block_last = next == NULL ? NULL : c->block_last;
    }
}

void net_conn_send_fini(struct net_conn *c)
{
    net_conn_send_idle(c);
    mem_free(c->piece);
}

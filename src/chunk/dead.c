/*
 * chunk/dead.c -- the list of removed data: appended to, checked by position, and written anew when
 * most of it is history.
 *
 * That is done while the store lives, a piece at a time, and changes go on meanwhile: the new list
 * gets what is dead, in order of data ids, then what was appended to the old one since that began.
 * Of each data id the last record counts, so that it does not matter which of both the first part
 * has seen. Only for the end of it (what came last, a sync, the new name) changes wait.
 */
#include "chunk/parts_priv.h"

#include "base/env.h"
#include "base/log.h"

#define DEAD_BATCH 1024u
#define DEAD_READ 2048u                /* records at a time */
#define DEAD_AHEAD (UINT64_C(1) << 20) /* bytes that it has on the disk before it needs them */
#define DEAD_COPY "dead.new"

struct chunk_dead_copy {
    struct chunk_store *s;
    struct disk_req req;
    struct disk_file *file;
    char *path, *path_to;
    uint8_t *bytes;         /* DEAD_READ records: all that it takes of memory */
    size_t piece;           /* records in there */
    uint64_t count;         /* of the new list */
    uint64_t at;            /* the first record of the old one that is not in there */
    struct chunk_key after; /* where it is in what is dead */
    bool walked, synced;
    bool waits, alone; /* the old list gets no more: soon, now */
};

/* ---- What is dead ---- */

static struct chunk_dead_item *dead_find(const struct chunk_store *s, uint64_t data_id)
{
    struct chunk_item *item = chunk_index_find(&s->dead, (struct chunk_key){data_id, 0});
    return item == NULL ? NULL : container_of(item, struct chunk_dead_item, item);
}

bool chunk_dead_stable(const struct chunk_store *s, uint64_t data_id)
{
    const struct chunk_dead_item *d = dead_find(s, data_id);
    return d != NULL && d->stable;
}

static void dead_remove(struct chunk_store *s, struct chunk_dead_item *d)
{
    chunk_index_remove(&s->dead, d->item.key);
    mem_free(d);
}

static int dead_apply(struct chunk_store *s, const struct chunk_dead_record *x)
{
    struct chunk_dead_item *d = dead_find(s, x->data_id);
    if (x->forget && d != NULL) {
        dead_remove(s, d);
    }
    if (x->forget || d != NULL) {
        return 0;
    }
    d = mem_zalloc(sizeof *d);
    if (d == NULL) {
        return -ENOMEM;
    }
    d->item.key.data_id = x->data_id;
    d->time_ms = x->time_ms;
    int rc = chunk_index_insert(&s->dead, &d->item);
    if (rc < 0) {
        mem_free(d);
    }
    return rc;
}

/* What leaves the list: a removal of which no record became stable, a forgetting that did, unless
 * the same is being removed once more. */
static void dead_written(struct chunk_store *s, const struct chunk_change *c, int rc)
{
    struct chunk_dead_item *d = dead_find(s, c->key.data_id);
    bool removal = c->op == CHUNK_REMOVE_DATA;
    if (d == NULL) {
        CHECK(!removal);
        return;
    }
    if (removal) {
        d->writing--;
    }
    if (rc == 0) {
        d->stable = removal;
    }
    if (!d->stable && d->writing == 0) {
        dead_remove(s, d);
    }
}

static void dead_next(struct chunk_store *s);

static void dead_over(struct chunk_store *s, int rc)
{
    s->dead_busy = false;
    mem_freep(&s->dead_bytes);
    if (rc < 0 && rc != -ENOSPC && rc != -ENOMEM) {
        chunk_store_fail(s, rc, "the list of removed data could not be written");
    }
    struct list now;
    list_init(&now);
    list_splice_back(&now, &s->dead_batch);
    uint64_t count = 0;
    LIST_FOR_EACH(node, &now)
    {
        count++;
    }
    s->dead_records += rc == 0 ? count : 0;
    dead_next(s);
    for (struct list *node = list_pop_front(&now); node != NULL; node = list_pop_front(&now)) {
        struct chunk_work *w = LIST_ENTRY(node, struct chunk_work, ready);
        dead_written(s, w->of.change, rc);
        w->next(w, rc);
    }
}

static void dead_synced(struct disk_req *req, int64_t rc)
{
    struct chunk_store *s = container_of(req, struct chunk_store, dead_req);
    if (!chunk_came_back(s)) {
        return;
    }
    if (rc < 0) { /* also for lack of space: nobody knows what of it is there */
        chunk_store_fail(s, (int)rc, "a sync failed");
    }
    dead_over(s, (int)rc);
}

static void dead_put(struct disk_req *req, int64_t rc)
{
    struct chunk_store *s = container_of(req, struct chunk_store, dead_req);
    if (!chunk_came_back(s)) {
        return;
    }
    if (rc < 0) {
        dead_over(s, (int)rc);
        return;
    }
    s->dead_req = (struct disk_req){.op = DISK_SYNC, .file = s->dead_file, .done = dead_synced};
    s->in_flight++;
    disk_submit(s->disk, &s->dead_req);
}

static void dead_submit(struct chunk_store *s)
{
    size_t count = 0;
    LIST_FOR_EACH(node, &s->dead_batch)
    {
        count++;
    }
    s->dead_req = (struct disk_req){.op = DISK_WRITE,
                                    .flags = DISK_APPENDING,
                                    .file = s->dead_file,
                                    .offset = s->dead_records * CHUNK_DEAD_BYTES,
                                    .buf = s->dead_bytes,
                                    .len = count * CHUNK_DEAD_BYTES,
                                    .done = dead_put};
    s->in_flight++;
    disk_submit(s->disk, &s->dead_req);
}

/* Where there is no room for it the write itself says so, if it needs any. */
static void dead_has_room(struct chunk_store *s, const struct disk_req *req, int64_t rc)
{
    if (rc >= 0) {
        s->dead_ahead = req->offset + req->len;
    } else if (rc == -EOPNOTSUPP) {
        s->dead_ahead = UINT64_MAX; /* it cannot be had */
    }
}

static void dead_made_room(struct disk_req *req, int64_t rc)
{
    struct chunk_store *s = container_of(req, struct chunk_store, dead_req);
    if (chunk_came_back(s)) {
        dead_has_room(s, req, rc);
        dead_submit(s);
    }
}

static struct disk_req dead_room(const struct chunk_store *s)
{
    return (struct disk_req){.op = DISK_ALLOCATE,
                             .flags = DISK_KEEP_SIZE,
                             .file = s->dead_file,
                             .offset = s->dead_records * CHUNK_DEAD_BYTES,
                             .len = DEAD_AHEAD,
                             .done = dead_made_room};
}

static void dead_without_memory(struct disk_req *req, int64_t rc)
{
    (void)rc;
    struct chunk_store *s = container_of(req, struct chunk_store, dead_req);
    if (chunk_came_back(s)) {
        dead_over(s, -ENOMEM);
    }
}

static uint64_t dead_now_ms(const struct chunk_store *s)
{
    return loop_wall_ns(s->loop) / 1000000;
}

static void dead_write(struct chunk_store *s)
{
    size_t count = 0;
    s->dead_busy = true;
    s->dead_bytes = mem_alloc((size_t)DEAD_BATCH * CHUNK_DEAD_BYTES);
    while (count < DEAD_BATCH && s->dead_bytes != NULL && !list_empty(&s->dead_waiters)) {
        struct list *node = list_pop_front(&s->dead_waiters);
        struct chunk_work *w = LIST_ENTRY(node, struct chunk_work, ready);
        list_push_back(&s->dead_batch, node);
        struct chunk_dead_record x = {.data_id = w->of.change->key.data_id,
                                      .time_ms = dead_now_ms(s),
                                      .position = s->dead_records + count,
                                      .forget = w->of.change->op == CHUNK_FORGET_DEAD};
        chunk_dead_encode(&x, s->dead_bytes + count * CHUNK_DEAD_BYTES);
        count++;
    }
    if (count == 0) { /* no memory: answered like all, later */
        list_splice_back(&s->dead_batch, &s->dead_waiters);
        s->dead_req =
            (struct disk_req){.op = DISK_STAT, .file = s->dead_file, .done = dead_without_memory};
        s->in_flight++;
        disk_submit(s->disk, &s->dead_req);
        return;
    }
    if (s->dead_records * CHUNK_DEAD_BYTES + DEAD_AHEAD / 2 <= s->dead_ahead) {
        dead_submit(s);
        return;
    }
    s->dead_req = dead_room(s);
    s->in_flight++;
    disk_submit(s->disk, &s->dead_req);
}

/* In memory at once, so that no new chunk comes to be meanwhile; stable before w->next. */
void chunk_dead_append(struct chunk_store *s, struct chunk_work *w)
{
    bool forget = w->of.change->op == CHUNK_FORGET_DEAD;
    struct chunk_dead_record x = {
        .data_id = w->of.change->key.data_id, .time_ms = dead_now_ms(s), .forget = forget};
    int rc = forget && s->dead_file != NULL ? 0 : dead_apply(s, &x);
    struct chunk_dead_item *d = forget || rc < 0 ? NULL : dead_find(s, x.data_id);
    if (rc < 0 || s->dead_file == NULL) {
        if (d != NULL) {
            d->stable = true; /* as much as all else is */
        }
        w->next(w, rc);
        return;
    }
    if (d != NULL) {
        d->writing++;
    }
    list_remove(&w->ready);
    list_push_back(&s->dead_waiters, &w->ready);
    if (!s->dead_busy) {
        dead_write(s);
    }
}

/* ---- Shorter again ---- */

static void copy_go(struct chunk_dead_copy *x);

struct disk_file *chunk_dead_copy_free(struct chunk_dead_copy *x)
{
    struct disk_file *file = x == NULL ? NULL : x->file;
    if (x != NULL) {
        mem_free(x->path);
        mem_free(x->path_to);
        mem_free(x->bytes);
        mem_free(x);
    }
    return file;
}

static void copy_submit(struct chunk_dead_copy *x, struct disk_req req)
{
    x->req = req;
    x->req.lane = x->alone ? DISK_FOREGROUND : DISK_COPYING;
    x->s->in_flight++;
    disk_submit(x->s->disk, &x->req);
}

static void copy_over(struct chunk_dead_copy *x)
{
    struct chunk_store *s = x->s;
    s->dead_copy = NULL;
    (void)chunk_dead_copy_free(x);
    if (s->stopping) {
        loop_defer(s->loop, &s->task); /* which asks whether all is done */
    }
}

static void copy_let_go(struct chunk_dead_copy *x)
{
    struct chunk_store *s = x->s;
    if (x->alone) {
        x->alone = false;
        s->dead_busy = false;
        dead_next(s);
    }
}

static void copy_removed(struct disk_req *req, int64_t rc)
{
    (void)rc; /* the next one removes it first */
    struct chunk_dead_copy *x = container_of(req, struct chunk_dead_copy, req);
    if (chunk_came_back(x->s)) {
        copy_over(x);
    }
}

static void copy_remove(struct disk_req *req, int64_t rc)
{
    (void)rc;
    struct chunk_dead_copy *x = container_of(req, struct chunk_dead_copy, req);
    if (chunk_came_back(x->s)) {
        copy_submit(x, (struct disk_req){.op = DISK_REMOVE, .path = x->path, .done = copy_removed});
    }
}

/* The old list is whole, and goes on. */
static void copy_give_up(struct chunk_dead_copy *x, int rc)
{
    struct chunk_store *s = x->s;
    s->dead_again = s->dead_records + DEAD_READ;
    if (rc < 0) {
        log_warn(s->opt.env->log, "the list of removed data could not be made shorter",
                 LOG_TEXT("path", x->path_to), LOG_RC(rc));
    }
    if (x->alone && s->dead_ahead != UINT64_MAX) {
        s->dead_ahead = 0; /* it may be of the new one */
    }
    copy_let_go(x);
    if (x->file == NULL) {
        copy_over(x);
        return;
    }
    struct disk_req close = {.op = DISK_CLOSE, .file = x->file, .done = copy_remove};
    x->file = NULL;
    copy_submit(x, close);
}

/* Whether the new name is there after the next power cut nobody knows. */
static void copy_fail(struct chunk_dead_copy *x, int rc)
{
    struct chunk_store *s = x->s;
    chunk_store_fail(s, rc, "the list of removed data could not be written anew");
    x->alone = false;
    list_splice_back(&s->dead_batch, &s->dead_waiters);
    dead_over(s, rc);
    copy_give_up(x, rc);
}

static void copy_closed(struct disk_req *req, int64_t rc)
{
    (void)rc;
    struct chunk_dead_copy *x = container_of(req, struct chunk_dead_copy, req);
    if (chunk_came_back(x->s)) {
        copy_over(x);
    }
}

static void copy_named(struct disk_req *req, int64_t rc)
{
    struct chunk_dead_copy *x = container_of(req, struct chunk_dead_copy, req);
    struct chunk_store *s = x->s;
    if (!chunk_came_back(s)) {
        return;
    }
    if (rc < 0) {
        copy_fail(x, (int)rc);
        return;
    }
    log_info(s->opt.env->log, "the list of removed data is shorter",
             LOG_U64("was", s->dead_records), LOG_U64("records", x->count));
    struct disk_req close = {.op = DISK_CLOSE, .file = s->dead_file, .done = copy_closed};
    s->dead_file = x->file;
    s->dead_records = x->count;
    s->dead_again = 0;
    x->file = NULL;
    copy_submit(x, close);
    copy_let_go(x);
}

static void copy_renamed(struct disk_req *req, int64_t rc)
{
    struct chunk_dead_copy *x = container_of(req, struct chunk_dead_copy, req);
    if (!chunk_came_back(x->s)) {
        return;
    }
    if (rc == -ENOSPC || rc == -EDQUOT || rc == -ENOMEM) {
        copy_give_up(x, (int)rc);
    } else if (rc < 0) {
        copy_fail(x, (int)rc);
    } else {
        copy_submit(
            x, (struct disk_req){.op = DISK_SYNC_DIR, .path = x->s->directory, .done = copy_named});
    }
}

/* A full disk must not keep the list from going on: what it has ahead it has before its name. */
static void copy_has_room(struct disk_req *req, int64_t rc)
{
    struct chunk_dead_copy *x = container_of(req, struct chunk_dead_copy, req);
    struct chunk_store *s = x->s;
    if (!chunk_came_back(s)) {
        return;
    }
    if (rc < 0 && rc != -EOPNOTSUPP) {
        copy_give_up(x, (int)rc);
        return;
    }
    dead_has_room(s, req, rc);
    copy_submit(
        x, (struct disk_req){
               .op = DISK_RENAME, .path = x->path, .path_to = x->path_to, .done = copy_renamed});
}

static void copy_synced(struct disk_req *req, int64_t rc)
{
    struct chunk_dead_copy *x = container_of(req, struct chunk_dead_copy, req);
    if (!chunk_came_back(x->s)) {
        return;
    }
    if (rc < 0) {
        copy_give_up(x, (int)rc);
    } else if (!x->alone) {
        x->synced = true; /* so that little is left for the next one, for which changes wait */
        copy_go(x);
    } else {
        copy_submit(x, (struct disk_req){.op = DISK_ALLOCATE,
                                         .flags = DISK_KEEP_SIZE,
                                         .file = x->file,
                                         .offset = x->count * CHUNK_DEAD_BYTES,
                                         .len = DEAD_AHEAD,
                                         .done = copy_has_room});
    }
}

static void copy_written(struct disk_req *req, int64_t rc)
{
    struct chunk_dead_copy *x = container_of(req, struct chunk_dead_copy, req);
    if (!chunk_came_back(x->s)) {
        return;
    }
    if (rc < 0) {
        copy_give_up(x, (int)rc);
        return;
    }
    x->count += x->piece;
    x->at += x->walked ? x->piece : 0;
    copy_go(x);
}

static void copy_write(struct chunk_dead_copy *x)
{
    copy_submit(x, (struct disk_req){.op = DISK_WRITE,
                                     .flags = DISK_APPENDING,
                                     .file = x->file,
                                     .offset = x->count * CHUNK_DEAD_BYTES,
                                     .buf = x->bytes,
                                     .len = x->piece * CHUNK_DEAD_BYTES,
                                     .done = copy_written});
}

static void copy_read(struct disk_req *req, int64_t rc)
{
    struct chunk_dead_copy *x = container_of(req, struct chunk_dead_copy, req);
    if (!chunk_came_back(x->s)) {
        return;
    }
    x->piece = rc < 0 ? 0 : (size_t)rc / CHUNK_DEAD_BYTES; /* it may end early */
    if (x->piece == 0) {
        copy_give_up(x, rc < 0 ? (int)rc : -EIO);
        return;
    }
    for (size_t i = 0; i < x->piece; i++) {
        struct chunk_dead_record one;
        uint8_t *at = x->bytes + i * CHUNK_DEAD_BYTES;
        int bad = chunk_dead_decode(at, &one);
        if (bad < 0 || one.position != x->at + i) {
            copy_give_up(x, bad < 0 ? bad : -ERR_bad_value);
            return;
        }
        one.position = x->count + i;
        chunk_dead_encode(&one, at);
    }
    copy_write(x);
}

/* What is not stable has its record behind `at`, or none. */
static void copy_fill(struct chunk_dead_copy *x)
{
    struct chunk_item *item = chunk_index_next(&x->s->dead, x->after);
    for (x->piece = 0; item != NULL && x->piece < DEAD_READ;
         item = chunk_index_next(&x->s->dead, x->after)) {
        const struct chunk_dead_item *d = container_of(item, struct chunk_dead_item, item);
        const struct chunk_dead_record one = {
            .data_id = item->key.data_id, .time_ms = d->time_ms, .position = x->count + x->piece};
        if (d->stable) {
            chunk_dead_encode(&one, x->bytes + x->piece * CHUNK_DEAD_BYTES);
            x->piece++;
        }
        x->after = (struct chunk_key){item->key.data_id, 1};
    }
}

static void copy_go(struct chunk_dead_copy *x)
{
    struct chunk_store *s = x->s;
    if (s->stopping || s->failed != 0) {
        copy_give_up(x, 0);
        return;
    }
    if (!x->walked) {
        copy_fill(x);
        x->walked = x->piece == 0;
    }
    uint64_t left = s->dead_records - x->at;
    if (!x->walked) {
        copy_write(x);
    } else if (left > DEAD_READ || (left > 0 && x->alone)) {
        x->piece = (size_t)base_min(left, DEAD_READ);
        copy_submit(x, (struct disk_req){.op = DISK_READ,
                                         .file = s->dead_file,
                                         .offset = x->at * CHUNK_DEAD_BYTES,
                                         .buf = x->bytes,
                                         .len = x->piece * CHUNK_DEAD_BYTES,
                                         .done = copy_read});
    } else if (x->alone || !x->synced) {
        copy_submit(x,
                    (struct disk_req){.op = DISK_SYNC_ALL, .file = x->file, .done = copy_synced});
    } else if (s->dead_busy) {
        x->waits = true;
    } else {
        x->alone = s->dead_busy = true;
        copy_go(x);
    }
}

/* Whose turn it is when nothing is being written. */
static void dead_next(struct chunk_store *s)
{
    struct chunk_dead_copy *x = s->dead_copy;
    if (x != NULL && x->waits) {
        x->waits = false;
        copy_go(x);
    }
    if (!s->dead_busy && !list_empty(&s->dead_waiters)) {
        dead_write(s);
    }
}

static void copy_opened(struct disk_req *req, int64_t rc)
{
    struct chunk_dead_copy *x = container_of(req, struct chunk_dead_copy, req);
    x->file = rc < 0 ? NULL : req->file;
    if (!chunk_came_back(x->s)) {
        return;
    }
    if (rc < 0) {
        copy_give_up(x, (int)rc);
    } else {
        copy_go(x);
    }
}

static void copy_open(struct disk_req *req, int64_t rc)
{
    (void)rc; /* of an earlier one, or nothing */
    struct chunk_dead_copy *x = container_of(req, struct chunk_dead_copy, req);
    if (chunk_came_back(x->s)) {
        copy_submit(x, (struct disk_req){.op = DISK_OPEN,
                                         .path = x->path,
                                         .flags = DISK_READ_WRITE | DISK_CREATE | DISK_EXCLUSIVE,
                                         .done = copy_opened});
    }
}

void chunk_dead_shorten(struct chunk_store *s)
{
    if (s->dead_copy != NULL || !s->started || s->failed != 0 || s->dead_file == NULL ||
        s->dead_records <= s->dead.count * 2 + DEAD_READ || s->dead_records < s->dead_again) {
        return;
    }
    struct chunk_dead_copy *x = mem_zalloc(sizeof *x);
    if (x == NULL) {
        return;
    }
    *x = (struct chunk_dead_copy){.s = s, .at = s->dead_records};
    x->path = mem_printf("%s/" DEAD_COPY, s->directory);
    x->path_to = mem_printf("%s/dead", s->directory);
    x->bytes = mem_alloc((size_t)DEAD_READ * CHUNK_DEAD_BYTES);
    if (x->path == NULL || x->path_to == NULL || x->bytes == NULL) {
        (void)chunk_dead_copy_free(x);
        return;
    }
    s->dead_copy = x;
    copy_submit(x, (struct disk_req){.op = DISK_REMOVE, .path = x->path, .done = copy_open});
}

/* ---- The start ---- */

/* A record counts when it is good and stands where it says. Others are passed over: what an append
 * that power loss tore left out was not answered, and what it left behind was asked for. */
static int dead_replay(struct chunk_store *s, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++, s->dead_records++) {
        struct chunk_dead_record x;
        bool good = chunk_dead_decode(bytes + i * CHUNK_DEAD_BYTES, &x) == 0 &&
                    x.position == s->dead_records;
        int rc = good ? dead_apply(s, &x) : 0;
        if (rc < 0) {
            return rc;
        }
        if (good && !x.forget) {
            dead_find(s, x.data_id)->stable = true;
        }
    }
    return 0;
}

static int dead_load(struct chunk_store *s)
{
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc((size_t)DEAD_READ * CHUNK_DEAD_BYTES);
    if (bytes == NULL) {
        return -ENOMEM;
    }
    bool end = false;
    while (!end) {
        struct disk_req req = {.op = DISK_READ,
                               .file = s->dead_file,
                               .offset = s->dead_records * CHUNK_DEAD_BYTES,
                               .buf = bytes,
                               .len = (size_t)DEAD_READ * CHUNK_DEAD_BYTES};
        int64_t got = disk_now(s->disk, &req);
        if (got < 0) {
            return (int)got;
        }
        size_t count = (size_t)got / CHUNK_DEAD_BYTES;
        end = count < DEAD_READ;
        int rc = dead_replay(s, bytes, count);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static int64_t dead_file_open(struct chunk_store *s, const char *path)
{
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE};
    int64_t rc = disk_now(s->disk, &req);
    s->dead_file = rc < 0 ? NULL : req.file;
    rc = rc < 0 ? rc : chunk_file_fresh(s, req.file);
    if (rc == 0 && !s->super.clean && !s->rebooted) { /* it may have its name only until then */
        struct disk_req dir = {.op = DISK_SYNC_DIR, .path = s->directory};
        rc = disk_now(s->disk, &dir);
    }
    return rc;
}

int chunk_dead_open(struct chunk_store *s, struct err *e)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/dead", s->directory);
    CLEANUP(mem_freep) char *copy = mem_printf("%s/" DEAD_COPY, s->directory);
    if (path == NULL || copy == NULL) {
        return -ENOMEM;
    }
    struct disk_req left = {.op = DISK_REMOVE, .path = copy}; /* by a crash */
    (void)disk_now(s->disk, &left);
    int64_t rc = dead_file_open(s, path);
    if (rc == 0) {
        rc = dead_load(s);
    }
    if (rc == 0) {
        struct disk_req room = dead_room(s);
        dead_has_room(s, &room, disk_now(s->disk, &room));
    }
    rc = rc == -ENOENT ? -ERR_bad_magic : rc;
    return rc < 0 ? err_set(e, (int)rc, "list of removed data '%s'", path) : 0;
}

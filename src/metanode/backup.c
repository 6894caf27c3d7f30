/*
 * metanode/backup.c -- a consistent image of the metadata for an administrator, while the server
 * goes on: a snapshot is kept, and each request gets the next piece of the image (kv/image.h). A
 * piece is one block and small, so that packing it holds nothing up.
 *
 * The last piece can be asked for again, so a reader whose connection breaks goes on where it was.
 * A snapshot keeps what has been replaced since in memory: there are few, they end when nobody asks
 * for a while, after an hour in any case, and when memory gets short.
 */
#include "metanode/metanode_priv.h"

#include "base/log.h"
#include "kv/image.h"

#define BACKUP_BLOCK_BYTES (128u << 10)
#define BACKUP_IDLE_NS (UINT64_C(30) * 1000 * METANODE_NS_PER_MS)
#define BACKUP_LIMIT_NS (UINT64_C(3600) * 1000 * METANODE_NS_PER_MS)
#define BACKUP_TICK_NS (UINT64_C(1000) * METANODE_NS_PER_MS)

#define BACKUP_AHEAD 1000u /* records of a piece, about */
#define BACKUP_GONE "this backup is not kept any more: begin again"

struct metanode_backup {
    struct metanode *m;
    uint64_t id, begun_ns, asked_ns;
    struct kv_snapshot *snapshot;
    struct kv_need need;
    struct kv_fetch fetch;
    struct kv_iter *it; /* while a piece is being made */
    struct kv_image_writer writer;
    uint8_t last_key[KV_KEY_MAX]; /* that went into a piece */
    size_t last_len;
    uint8_t edge[KV_IMAGE_HEADER_BYTES];
    struct kv_slice piece;
    uint64_t offset, next; /* of the piece, and of what follows it */
    bool last;
    struct peer_request *request; /* waits for a piece */
};

_Static_assert(BACKUP_BLOCK_BYTES + KV_IMAGE_RECORD_BYTES + KV_KEY_MAX + KV_VALUE_MAX +
                       KV_IMAGE_BLOCK_HEADER_BYTES <=
                   524288,
               "a piece fits its message");

static void backup_free(struct metanode_backup *b)
{
    struct metanode_backups *all = &b->m->backups;
    for (size_t i = 0; i < METANODE_BACKUPS_MAX; i++) {
        all->at[i] = all->at[i] == b ? NULL : all->at[i];
    }
    kv_iter_free(b->it);
    kv_need_release(&b->need);
    kv_snapshot_free(b->snapshot);
    kv_image_writer_fini(&b->writer);
    mem_free(b);
}

static void backup_timer(struct loop_timer *t)
{
    struct metanode *m = container_of(t, struct metanode, backups.timer);
    uint64_t now = metanode_now(m);
    (void)metanode_memory_look(m);
    bool tight = metanode_memory_is_short(m);
    bool any = false;
    for (size_t i = 0; i < METANODE_BACKUPS_MAX; i++) {
        struct metanode_backup *b = m->backups.at[i];
        bool over =
            b != NULL && b->request == NULL &&
            (tight || now - b->asked_ns > BACKUP_IDLE_NS || now - b->begun_ns > BACKUP_LIMIT_NS);
        if (over) {
            log_info(m->env->log, "a backup was not read to its end",
                     LOG_TEXT("cause", tight ? "memory gets short" : "nobody asks for it"));
            backup_free(b);
            b = NULL;
        }
        any = any || b != NULL;
    }
    if (any) {
        loop_timer_in(m->env->loop, t, BACKUP_TICK_NS);
    }
}

static struct metanode_backup *backup_find(struct metanode *m, uint64_t id)
{
    struct metanode_backup *found = NULL;
    for (size_t i = 0; i < METANODE_BACKUPS_MAX; i++) {
        struct metanode_backup *b = m->backups.at[i];
        found = b != NULL && b->id == id ? b : found;
    }
    return found;
}

/* ---- a piece ---- */

/* Stands on the first record that is in no piece. 1, 0: there is none. */
static int backup_seek(struct metanode_backup *b)
{
    struct kv_iter_options opt = {.need = &b->need, .ahead = BACKUP_AHEAD};
    struct kv_slice last = kv_slice_of(b->last_key, b->last_len);
    int rc = b->it != NULL ? 0 : kv_iter_new(b->snapshot, &opt, &b->it);
    if (rc < 0) {
        return rc;
    }
    rc = b->it->key.at != NULL ? 1 : kv_iter_seek(b->it, last);
    bool again = rc == 1 && b->last_len > 0 && kv_slice_compare(b->it->key, last) == 0;
    return again ? kv_iter_next(b->it) : rc;
}

/* 1: the block is full; 0: that was the last record. */
static int backup_fill(struct metanode_backup *b)
{
    int rc = backup_seek(b);
    while (rc == 1) {
        if (!kv_image_add(&b->writer, b->it->key, b->it->value)) {
            return 1;
        }
        memcpy(b->last_key, b->it->key.at, b->it->key.len);
        b->last_len = b->it->key.len;
        rc = kv_iter_next(b->it);
    }
    return rc;
}

static void backup_piece(struct metanode_backup *b)
{
    b->offset = b->next;
    if (b->next == 0) {
        kv_image_header(&b->writer, b->edge);
        b->piece = kv_slice_of(b->edge, KV_IMAGE_HEADER_BYTES);
    } else if (kv_image_has_block(&b->writer)) {
        b->piece = kv_image_block(&b->writer);
    } else {
        kv_image_footer(&b->writer, b->edge);
        b->piece = kv_slice_of(b->edge, KV_IMAGE_FOOTER_BYTES);
        b->last = true;
    }
    b->next = b->offset + b->piece.len;
}

static void backup_answer(struct metanode_backup *b)
{
    struct peer_request *r = b->request;
    struct proto_backup_read_reply answer = {
        .offset = b->offset, .last = b->last, .piece = proto_bytes_of(b->piece.at, b->piece.len)};
    b->request = NULL;
    peer_request_answer(r, &answer, NULL);
}

static void backup_fail(struct metanode_backup *b, int rc)
{
    struct peer_request *r = b->request;
    b->request = NULL;
    metanode_refuse(b->m, NULL, r, rc, rc == -ESTALE ? BACKUP_GONE : NULL);
    if (rc != -ENOMEM && rc != -ERR_busy) {
        backup_free(b);
    }
}

static void backup_make(struct metanode_backup *b);

static void backup_fetched(struct kv_fetch *f, int rc)
{
    struct metanode_backup *b = container_of(f, struct metanode_backup, fetch);
    b->m->reads--;
    if (b->m->phase == METANODE_ENDED) {
        rc = -ERR_shutting_down;
    }
    if (rc < 0) {
        backup_fail(b, rc == -ECANCELED ? -ERR_shutting_down : rc);
        return;
    }
    backup_make(b);
}

/* The next piece for b->request. */
static void backup_make(struct metanode_backup *b)
{
    int rc = b->next == 0 ? 0 : backup_fill(b);
    if (rc == -ERR_need) {
        b->m->reads++;
        b->fetch = (struct kv_fetch){.need = &b->need, .done = backup_fetched};
        kv_fetch(b->m->kv, &b->fetch);
        return;
    }
    b->it = kv_iter_free(b->it);
    kv_need_release(&b->need);
    if (rc < 0) {
        backup_fail(b, rc == -ENOBUFS ? -ENOMEM : rc == -ECANCELED ? -ESTALE : rc);
        return;
    }
    backup_piece(b);
    backup_answer(b);
}

/* ---- requests ---- */

static int backup_new(struct metanode *m, struct metanode_backup **ret)
{
    size_t i = 0;
    while (i < METANODE_BACKUPS_MAX && m->backups.at[i] != NULL) {
        i++;
    }
    (void)metanode_memory_look(m);
    if (i == METANODE_BACKUPS_MAX || metanode_memory_is_short(m)) {
        return -ERR_busy;
    }
    struct metanode_backup *b = mem_zalloc(sizeof *b);
    if (b == NULL) {
        return -ERR_busy;
    }
    b->m = m;
    m->backups.at[i] = b;
    int rc = kv_snapshot_new(m->kv, &b->snapshot);
    if (rc == 0) {
        struct kv_image_info info = {.index = b->snapshot->index, .term = m->term};
        memcpy(info.owner, m->opt.cluster_id.bytes, sizeof info.owner);
        loop_random_bytes(m->env->loop, info.id, sizeof info.id);
        rc = kv_image_writer_init(&b->writer, &info, KV_IMAGE_ZSTD, BACKUP_BLOCK_BYTES);
    }
    if (rc < 0) {
        backup_free(b);
        return -ERR_busy;
    }
    *ret = b;
    return 0;
}

void metanode_backup_open(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    struct metanode_backup *b = NULL;
    if (!metanode_admit(m, r)) {
        return;
    }
    int rc = backup_new(m, &b);
    if (rc < 0) {
        metanode_refuse(m, NULL, r, rc, "other backups are being read, or memory is short");
        return;
    }
    b->id = loop_random(m->env->loop) | 1;
    b->begun_ns = b->asked_ns = metanode_now(m);
    m->backups.timer.fire = backup_timer;
    loop_timer_in(m->env->loop, &m->backups.timer, BACKUP_TICK_NS);
    struct kv_estimate all = kv_estimate(b->snapshot, kv_slice_of("", 1), kv_slice_of(NULL, 0));
    struct proto_backup_open_reply answer = {
        .id = b->id, .index = b->snapshot->index, .bytes = all.bytes};
    log_info(m->env->log, "an administrator reads a backup", LOG_U64("index", answer.index));
    peer_request_answer(r, &answer, NULL);
}

void metanode_backup_read(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_backup_read_request *q = r->body;
    if (!metanode_admit(m, r)) {
        return;
    }
    struct metanode_backup *b = backup_find(m, q->id);
    if (b == NULL) {
        metanode_refuse(m, NULL, r, -ESTALE, BACKUP_GONE);
        return;
    }
    bool again = b->next > 0 && q->offset == b->offset;
    if (b->request != NULL) {
        metanode_refuse(m, NULL, r, -ERR_busy, NULL);
        return;
    }
    if (!again && (q->offset != b->next || b->last)) {
        metanode_refuse(m, NULL, r, -EINVAL, "no piece of the backup begins there");
        return;
    }
    b->asked_ns = metanode_now(m);
    b->request = r;
    if (again) {
        backup_answer(b);
    } else {
        backup_make(b);
    }
}

/* What is not there any more was closed before. */
void metanode_backup_close(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_backup_close_request *q = r->body;
    struct proto_backup_close_reply answer = {};
    struct metanode_backup *b = backup_find(m, q->id);
    if (b != NULL && b->request != NULL) {
        metanode_refuse(m, NULL, r, -ERR_busy, NULL);
        return;
    }
    if (b != NULL) {
        backup_free(b);
    }
    peer_request_answer(r, &answer, NULL);
}

void metanode_backups_fini(struct metanode *m)
{
    for (size_t i = 0; i < METANODE_BACKUPS_MAX; i++) {
        if (m->backups.at[i] != NULL) {
            CHECK(m->backups.at[i]->request == NULL);
            backup_free(m->backups.at[i]);
        }
    }
    loop_timer_cancel(m->env->loop, &m->backups.timer);
}

/*
 * tree/file_commit.c -- how a frozen checkpoint becomes durable: changed pages of its table, the
 * index of all pages, the lists, a sync, its superblock, a sync. Only then it is the newest, and
 * what the one before the one before had for itself may be used again.
 *
 * Until the superblock is written nothing on disk refers to any of it: a failure gives it all back.
 * If the superblock could not be written for want of space, nobody knows which of the two
 * checkpoints the place names: both are kept until the next one is there. Any other failure from
 * there on, and every failed sync, is the end of writing.
 */
#include "tree/file_priv.h"

#include "base/mem.h"

#include <string.h>

uint64_t tree_file_commit_memory(const struct tree_file *f)
{
    const struct file_committer *m = &f->commit;
    uint64_t bytes = m->place_count * sizeof *m->place + m->taken_capacity * sizeof *m->taken;
    bytes += m->pages == NULL ? 0 : (uint64_t)FILE_BATCH_PAGES * TREE_BTT_PAGE_BYTES;
    return bytes + (m->blob == NULL ? 0 : tree_file_blob_units(m->blob_len) * FILE_UNIT);
}

bool tree_file_commit_busy(const struct tree_file *f)
{
    return f->commit.step != COMMIT_IDLE;
}

uint64_t tree_file_blob_units(uint64_t len)
{
    return (len + FILE_UNIT - 1) / FILE_UNIT;
}

struct tree_space_extent tree_file_blob_extent(const struct tree_super_blob *b)
{
    return (struct tree_space_extent){.unit = b->offset / FILE_UNIT,
                                      .count = (uint32_t)tree_file_blob_units(b->len)};
}

/* ---- the end ---- */

static void commit_answer(struct tree_file *f, int rc)
{
    struct file_committer *m = &f->commit;
    struct tree_file_commit *c = m->c;
    tree_space_unreserve(f->space, m->reserved);
    mem_free(m->pages);
    mem_free(m->blob);
    mem_free(m->place);
    mem_free(m->taken);
    *m = (struct file_committer){.step = COMMIT_IDLE};
    c->rc = rc;
    list_push_back(&f->late_commits, &c->late);
    loop_defer(f->env.loop, &f->task);
}

static void commit_defer(struct tree_file *f, struct tree_space_extent x, uint64_t birth,
                         uint64_t death)
{
    struct tree_space_life life = {.birth = birth, .death = death};
    CHECK(f->commit.reserved > 0);
    f->commit.reserved--;
    tree_space_defer(f->space, x, &life);
}

static void commit_fail(struct tree_file *f, int rc, bool doubtful)
{
    struct file_committer *m = &f->commit;
    uint64_t k = f->frozen_number;
    for (size_t i = 0; i < m->taken_count; i++) {
        if (doubtful) {
            commit_defer(f, m->taken[i], k, k + 1);
        } else if (f->failure.code == 0) {
            tree_space_give(f->space, m->taken[i]);
        }
    }
    if (doubtful) {
        f->doubt[f->doubt_count++] = k;
    }
    tree_file_unfreeze(f);
    commit_answer(f, rc);
}

static void commit_blob_dies(struct tree_file *f, const struct tree_super_blob *b, uint64_t death)
{
    if (b->len > 0) {
        commit_defer(f, tree_file_blob_extent(b), f->super.checkpoint, death);
    }
}

/* It is on stable storage. */
static void commit_success(struct tree_file *f)
{
    struct file_committer *m = &f->commit;
    uint64_t k = f->frozen_number;
    uint64_t page = tree_btt_dirty(f->frozen, 0);
    for (; page != TREE_BTT_NO_PAGE; page = tree_btt_dirty(f->frozen, page + 1)) {
        const struct tree_btt_place *was = page < f->place_count ? &f->place[page] : NULL;
        if (was != NULL && was->offset != 0) {
            struct tree_space_extent x = {.unit = was->offset / FILE_UNIT, .count = 1};
            commit_defer(f, x, was->birth, k);
        }
    }
    commit_blob_dies(f, &f->super.table, k);
    commit_blob_dies(f, &f->super.segments, k);
    commit_blob_dies(f, &f->super.drops, k);
    mem_free(f->place);
    f->place = m->place;
    f->place_count = m->place_count;
    m->place = NULL;
    f->older = f->super.checkpoint;
    f->super = m->c->super;
    f->doubt_count = 0; /* its superblock took the place of theirs */
    tree_btt_free(f->frozen);
    f->frozen = NULL;
    f->failed = 0;
    tree_space_retain_from(f->space, 0);
    tree_file_retain(f);
    commit_answer(f, 0);
    f->shape.settling = true;
    tree_file_room_run(f);
    tree_file_room_settle(f);
}

/* ---- steps: 1: under way; 0: nothing to do; else an error ---- */

static void commit_done(struct disk_req *req, int64_t result);
static void commit_run(struct tree_file *f);

/* All memory but that of blobs, for what is known now that nothing changes any more. */
static int commit_prepare(struct tree_file *f)
{
    struct file_committer *m = &f->commit;
    size_t dirty = 0;
    uint64_t page = tree_btt_dirty(f->frozen, 0);
    for (; page != TREE_BTT_NO_PAGE; page = tree_btt_dirty(f->frozen, page + 1)) {
        dirty++;
    }
    m->place_count = (size_t)tree_btt_page_count(f->frozen);
    m->place = mem_calloc(m->place_count, sizeof *m->place);
    m->pages = mem_aligned(FILE_UNIT, (size_t)FILE_BATCH_PAGES * TREE_BTT_PAGE_BYTES);
    size_t taken = dirty + 3, old = dirty + 3; /* and index, pieces, drops */
    int rc = m->place == NULL || m->pages == NULL ? -ENOMEM : 0;
    rc = rc < 0 ? rc : mem_grow(&m->taken, &m->taken_capacity, taken, sizeof *m->taken);
    rc = rc < 0 ? rc : tree_space_reserve(f->space, taken + old);
    if (rc == 0) {
        m->reserved = taken + old;
        CHECK(f->place_count <= m->place_count);
        memcpy(m->place, f->place, f->place_count * sizeof *m->place);
    }
    return rc;
}

static int commit_submit(struct tree_file *f, enum disk_op op, void *buf, uint64_t offset,
                         size_t len)
{
    struct file_committer *m = &f->commit;
    m->req = (struct disk_req){
        .op = op, .file = f->file, .buf = buf, .offset = offset, .len = len, .done = commit_done};
    if (op == DISK_WRITE) {
        m->req.flags = DISK_SOON;
        m->c->written_bytes += len;
    }
    disk_submit(f->env.disk, &m->req);
    return 1;
}

static void commit_has_room(struct tree_file_room *r, int rc)
{
    struct file_committer *m = container_of(r, struct file_committer, room);
    struct tree_file *f = container_of(m, struct tree_file, commit);
    if (rc < 0) {
        commit_fail(f, rc, false);
        return;
    }
    m->have_room = true;
    commit_run(f);
}

/* True: m->room.extent, of `count` units, or of fewer if `some` is enough. */
static bool commit_room(struct tree_file *f, uint32_t count, bool some)
{
    struct file_committer *m = &f->commit;
    if (!m->have_room) {
        m->room = (struct tree_file_room){.count = count, .ready = commit_has_room};
        bool first = list_empty(&f->shape.waiting);
        m->have_room =
            (some && first && tree_space_take_some(f->space, count, &m->room.extent) == 0) ||
            tree_file_room_take(f, &m->room);
    }
    if (m->have_room) {
        CHECK(m->taken_count < m->taken_capacity);
        m->taken[m->taken_count++] = m->room.extent;
    }
    return m->have_room;
}

static int commit_pages(struct tree_file *f)
{
    struct file_committer *m = &f->commit;
    uint64_t page = tree_btt_dirty(f->frozen, m->next_page);
    for (m->batch_count = 0; page != TREE_BTT_NO_PAGE && m->batch_count < FILE_BATCH_PAGES;) {
        m->batch[m->batch_count++] = page;
        page = tree_btt_dirty(f->frozen, page + 1);
    }
    if (m->batch_count == 0) {
        return 0;
    }
    if (!commit_room(f, m->batch_count, true)) {
        return 1;
    }
    struct tree_space_extent x = m->room.extent;
    for (uint32_t i = 0; i < x.count; i++) {
        struct tree_btt_place *p = &m->place[m->batch[i]];
        p->offset = (x.unit + i) * FILE_UNIT;
        p->birth = f->frozen_number;
        p->checksum = tree_btt_page(f->frozen, m->batch[i], f->super.file_id,
                                    m->pages + (size_t)i * TREE_BTT_PAGE_BYTES);
    }
    m->next_page = m->batch[x.count - 1] + 1;
    return commit_submit(f, DISK_WRITE, m->pages, tree_space_offset(x), tree_space_bytes(x));
}

/* Zeros that hold `len` bytes, for the blob of a step. */
static int commit_blob_new(struct file_committer *m, size_t len)
{
    size_t size = (size_t)tree_file_blob_units(len) * FILE_UNIT;
    if (size > FILE_BLOB_MAX) {
        return -EFBIG;
    }
    mem_free(m->blob);
    m->blob = mem_aligned(FILE_UNIT, size);
    if (m->blob == NULL) {
        return -ENOMEM;
    }
    memset(m->blob, 0, size);
    m->blob_len = len;
    return 0;
}

/* Writes it and says in the superblock where. */
static int commit_blob_write(struct tree_file *f, struct tree_super_blob *b)
{
    struct file_committer *m = &f->commit;
    struct tree_space_extent x = m->room.extent;
    b->offset = tree_space_offset(x);
    b->len = (uint32_t)m->blob_len;
    return commit_submit(f, DISK_WRITE, m->blob, b->offset, tree_space_bytes(x));
}

static int commit_blob_room(struct tree_file *f, size_t len)
{
    struct file_committer *m = &f->commit;
    int rc = m->have_room ? 0 : commit_blob_new(m, len);
    if (rc < 0) {
        return rc;
    }
    return commit_room(f, (uint32_t)tree_file_blob_units(len), false) ? 0 : 1;
}

static int commit_index(struct tree_file *f)
{
    struct file_committer *m = &f->commit;
    struct tree_btt_index x;
    tree_btt_describe(f->frozen, &x);
    int rc = commit_blob_room(f, tree_btt_index_bytes(x.page_count));
    if (rc != 0) {
        return rc;
    }
    x.checkpoint = f->frozen_number;
    x.place = m->place;
    m->c->super.table.checksum = tree_btt_index_encode(&x, f->super.file_id, m->blob);
    return commit_blob_write(f, &m->c->super.table);
}

static int commit_pieces(struct tree_file *f)
{
    struct file_committer *m = &f->commit;
    struct tree_file_commit *c = m->c;
    int rc = c->piece_count == 0 ? 0 : commit_blob_room(f, tree_btt_pieces_bytes(c->piece_count));
    if (c->piece_count == 0 || rc != 0) {
        return rc;
    }
    c->super.segments.checksum = tree_btt_pieces_encode(c->piece, c->piece_count, f->frozen_number,
                                                        f->super.file_id, m->blob);
    return commit_blob_write(f, &c->super.segments);
}

static int commit_drops(struct tree_file *f)
{
    struct file_committer *m = &f->commit;
    struct tree_file_commit *c = m->c;
    int rc = c->drops_len == 0 ? 0 : commit_blob_room(f, c->drops_len);
    if (c->drops_len == 0 || rc != 0) {
        return rc;
    }
    memcpy(m->blob, c->drops, c->drops_len);
    c->super.drops.checksum =
        tree_btt_blob_sum(f->super.file_id, f->frozen_number, m->blob, c->drops_len);
    return commit_blob_write(f, &c->super.drops);
}

static int commit_super(struct tree_file *f)
{
    struct file_committer *m = &f->commit;
    struct tree_super *s = &m->c->super;
    memcpy(s->file_id, f->super.file_id, sizeof s->file_id);
    s->checkpoint = f->frozen_number;
    s->next_block = tree_btt_next_block(f->frozen);
    s->segment_count = (uint32_t)m->c->piece_count;
    s->size_used = tree_space_size(f->space) * FILE_UNIT;
    s->previous = f->super.checksum;
    tree_super_encode(s, m->pages);
    return commit_submit(f, DISK_WRITE, m->pages, tree_super_offset(s->checkpoint),
                         TREE_SUPER_BYTES);
}

static int commit_step(struct tree_file *f)
{
    switch (f->commit.step) {
    case COMMIT_WAIT:
        return tree_file_frozen_writes(f) ? 1 : 0;
    case COMMIT_PREPARE:
        return commit_prepare(f);
    case COMMIT_PAGES:
        return commit_pages(f);
    case COMMIT_INDEX:
        return commit_index(f);
    case COMMIT_PIECES:
        return commit_pieces(f);
    case COMMIT_DROPS:
        return commit_drops(f);
    case COMMIT_SYNC:
    case COMMIT_SYNC_SUPER:
        return commit_submit(f, DISK_SYNC, NULL, 0, 0);
    case COMMIT_SUPER:
        return commit_super(f);
    case COMMIT_IDLE:
        break;
    }
    CHECK(false && "a step");
    return -EINVAL;
}

static void commit_run(struct tree_file *f)
{
    int rc = commit_step(f);
    while (rc == 0) {
        f->commit.step++;
        rc = commit_step(f);
    }
    if (rc < 0) {
        commit_fail(f, rc, false);
    }
}

static void commit_failed_step(struct tree_file *f, int rc)
{
    enum file_commit_step step = f->commit.step;
    bool doubtful = step == COMMIT_SUPER && rc == -ENOSPC && f->doubt_count < FILE_DOUBTS_MAX;
    if (step == COMMIT_SYNC || step == COMMIT_SYNC_SUPER) {
        tree_file_fail(f, rc, "sync");
    } else if (step == COMMIT_SUPER && !doubtful) {
        tree_file_fail(f, rc, "write of the superblock");
    }
    commit_fail(f, rc, doubtful);
}

static void commit_done(struct disk_req *req, int64_t result)
{
    struct tree_file *f = container_of(req, struct tree_file, commit.req);
    struct file_committer *m = &f->commit;
    bool whole = req->op != DISK_WRITE || (uint64_t)result == req->len;
    int rc = result < 0 ? (int)result : whole ? 0 : -EIO;
    if (rc < 0) {
        commit_failed_step(f, rc);
    } else if (m->step == COMMIT_SYNC_SUPER) {
        commit_success(f);
    } else {
        m->have_room = false;
        m->step += m->step == COMMIT_PAGES ? 0 : 1; /* as long as there are pages */
        commit_run(f);
    }
    tree_file_progress(f);
}

/* ---- the beginning ---- */

void tree_file_commit_go(struct tree_file *f)
{
    if (f->commit.step == COMMIT_WAIT) {
        commit_run(f);
    }
}

static void commit_check(const struct tree_file *f, const struct tree_file_commit *c)
{
    CHECK(f->frozen != NULL && !tree_file_commit_busy(f));
    CHECK(c->piece_count <= TREE_BTT_PIECES_MAX && c->drops_len <= 16u << 20);
    for (size_t i = 0; i < c->piece_count; i++) {
        CHECK(c->piece[i].birth <= f->frozen_number);
    }
}

void tree_file_commit(struct tree_file *f, struct tree_file_commit *c)
{
    LOOP_OWNED(f->env.loop);
    commit_check(f, c);
    c->written_bytes = 0;
    c->super.table = (struct tree_super_blob){0};
    c->super.segments = (struct tree_super_blob){0};
    c->super.drops = (struct tree_super_blob){0};
    f->commit.c = c;
    f->commit.step = COMMIT_WAIT;
    if (f->failure.code < 0) {
        commit_fail(f, f->failure.code, false);
    } else {
        tree_file_commit_go(f);
    }
}

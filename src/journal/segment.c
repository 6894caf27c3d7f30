/*
 * journal/segment.c -- segments: prepared ahead, rolled, trimmed.
 *
 * The next segment is made under a name of its own (.new), allocated, filled with zeros, given its
 * header, synced and only then renamed and its directory synced: a file that is called a segment
 * has a valid header, so a bad one is damage. Rolling is then a change of pointers. Removal makes
 * each name's end durable before the next, so that a crash cannot leave a hole. Some that were
 * trimmed are kept instead (keep.c), and get a new header and name when they are needed.
 */
#include "base/mem.h"
#include "journal/journal_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ZERO_BYTES (64u << 10)
static const uint8_t zero_bytes[ZERO_BYTES];

/* For the small files beside the journal. */
#define ROOM_LEFT_BYTES (UINT64_C(256) << 10)
#define ROOM_UNIT 4096u

struct journal_segment *journal_segment_new(uint64_t number)
{
    struct journal_segment *s = mem_zalloc(sizeof *s);
    if (s != NULL) {
        list_init(&s->node);
        s->number = number;
        s->used_bytes = JOURNAL_DATA_OFFSET;
    }
    return s;
}

struct journal_segment *journal_segment_free(struct journal_segment *s)
{
    if (s != NULL) {
        CHECK(s->file == NULL);
        mem_free(s);
    }
    return NULL;
}

int journal_segment_path(const struct journal *j, uint64_t number, const char *suffix,
                         char out[JOURNAL_PATH_SIZE])
{
    int len = snprintf(out, JOURNAL_PATH_SIZE, "%s/%016" PRIx64 "%s", j->directory, number, suffix);
    return len > 0 && (size_t)len < JOURNAL_PATH_SIZE ? 0 : -ENAMETOOLONG;
}

static void prepare_next(struct journal *j);
static void prepare_again(struct journal *j);

static void prepare_clear(struct journal_prepare *p)
{
    p->step = PREPARE_IDLE;
    p->taken = 0;
    journal_segment_free(p->segment);
    p->segment = NULL;
    mem_free(p->header);
    p->header = NULL;
}

static void prepare_end(struct journal *j, int rc)
{
    struct journal_prepare *p = &j->prepare;
    p->rc = rc;
    if (rc == 0) {
        j->next_number++; /* only now: a number without a segment would look like a lost one */
        j->spare = p->segment;
        p->segment = NULL;
        stats_count(&j->stats.segments, 1);
    }
    prepare_clear(p);
    if (rc < 0 && p->blocked) {
        journal_fail_queue(j, rc);
    }
    p->blocked = false;
    if (j->room != NULL) {
        loop_defer(j->env.loop, j->room);
    }
    if (rc < 0 && j->stop == NULL && j->failed == 0) {
        loop_timer_in(j->env.loop, &p->retry, JOURNAL_RETRY_NS);
    }
    journal_wake(j);
}

/* No room, or a limit that passes: nothing was lost, a later attempt makes a new file. Anything
 * else says that the disk is sick. */
static bool prepare_may_retry(int rc)
{
    return err_is(rc, ENOSPC) || rc == -EDQUOT || err_is(rc, EAGAIN) || rc == -EMFILE ||
           rc == -ENFILE || rc == -ENOMEM;
}

/* What was kept cannot be had: the next try does without it. What is left of it is cleared away by
 * the next open. */
static bool prepare_lost(const struct journal_prepare *p, int rc)
{
    return p->reuses && p->step == PREPARE_OPEN && rc == -ENOENT;
}

/* There is no room, and what was kept needs none. */
static bool prepare_may_reuse(const struct journal *j)
{
    const struct journal_prepare *p = &j->prepare;
    bool full = err_is(p->rc, ENOSPC) || p->rc == -EDQUOT;
    return full && !p->reuses && j->kept_count > 0 && j->failed == 0;
}

static void prepare_failed(struct journal *j, int rc)
{
    struct journal_prepare *p = &j->prepare;
    p->rc = rc;
    if (prepare_lost(p, rc)) {
        prepare_again(j);
        return;
    }
    if (!prepare_may_retry(rc) || p->step == PREPARE_SYNC_DIR) {
        journal_fail(j, rc, "prepare journal segment '%s'", p->path_to);
    }
    if (p->segment->file == NULL && prepare_may_reuse(j)) {
        p->reuses = true;
        prepare_again(j);
        return;
    }
    if (p->segment->file == NULL) {
        prepare_end(j, rc);
        return;
    }
    p->step = PREPARE_UNDO_CLOSE;
    prepare_next(j);
}

static enum journal_prepare_step prepare_after(const struct journal *j,
                                               enum journal_prepare_step step)
{
    enum journal_prepare_step next = (enum journal_prepare_step)(step + 1);
    if (next == PREPARE_TRUNCATE && j->prepare.reuses) {
        return PREPARE_HEADER;
    }
    return next == PREPARE_ROOM && j->sparse ? PREPARE_HEADER : next;
}

static void prepare_header(struct journal *j)
{
    struct journal_segment *s = j->prepare.segment;
    struct journal_header h = {.number = s->number, .size_bytes = s->size_bytes};
    memcpy(h.owner, j->owner, sizeof h.owner);
    loop_random_bytes(j->env.loop, &h.nonce, sizeof h.nonce);
    journal_header_encode(&h, j->prepare.header);
    s->crc = h.crc;
}

/* One that was kept, or less than a whole one rather than none, where the owner has said so. */
static int prepare_fit(struct journal *j, uint64_t free_bytes)
{
    struct journal_segment *s = j->prepare.segment;
    uint64_t room = free_bytes - base_min(free_bytes, ROOM_LEFT_BYTES);
    uint64_t half = room / 2 / ROOM_UNIT * ROOM_UNIT;
    if (room >= s->size_bytes) {
        return 0;
    }
    if (j->least_bytes == 0 || half < j->least_bytes || journal_keep_most(j) >= half) {
        return -ENOSPC;
    }
    s->size_bytes = half;
    prepare_header(j);
    return 0;
}

static void prepare_done(struct disk_req *req, int64_t rc)
{
    struct journal *j = container_of(req, struct journal, prepare.req);
    struct journal_prepare *p = &j->prepare;
    if (p->step == PREPARE_UNDO_CLOSE) {
        p->segment->file = NULL;
        p->step = PREPARE_UNDO_REMOVE;
        prepare_next(j);
        return;
    }
    if (p->step == PREPARE_UNDO_REMOVE && prepare_may_reuse(j)) {
        p->reuses = true;
        prepare_again(j);
        return;
    }
    if (p->step == PREPARE_UNDO_REMOVE) {
        prepare_end(j, p->rc);
        return;
    }
    if (p->step == PREPARE_ROOM && rc >= 0) {
        rc = prepare_fit(j, req->stat.free_bytes);
    }
    bool cannot_allocate = p->step == PREPARE_ALLOCATE && rc == -EOPNOTSUPP;
    if (rc < 0 && !cannot_allocate) {
        prepare_failed(j, (int)rc);
        return;
    }
    if (p->step == PREPARE_OPEN) {
        p->segment->file = req->file;
    } else if (p->step == PREPARE_SYNC_DIR) {
        prepare_end(j, 0);
        return;
    }
    p->zeroed += p->step == PREPARE_ZERO ? (uint64_t)rc : 0;
    if (p->step != PREPARE_ZERO || p->zeroed == p->segment->size_bytes) {
        p->step = prepare_after(j, p->step);
    }
    prepare_next(j);
}

static enum disk_op prepare_op(enum journal_prepare_step step)
{
    static const enum disk_op ops[] = {
        [PREPARE_IDLE] = DISK_STAT,         [PREPARE_OPEN] = DISK_OPEN,
        [PREPARE_TRUNCATE] = DISK_TRUNCATE, [PREPARE_ROOM] = DISK_STATFS,
        [PREPARE_ALLOCATE] = DISK_ALLOCATE, [PREPARE_ZERO] = DISK_WRITE,
        [PREPARE_HEADER] = DISK_WRITE,      [PREPARE_SYNC] = DISK_SYNC_ALL,
        [PREPARE_RENAME] = DISK_RENAME,     [PREPARE_SYNC_DIR] = DISK_SYNC_DIR,
        [PREPARE_UNDO_CLOSE] = DISK_CLOSE,  [PREPARE_UNDO_REMOVE] = DISK_REMOVE,
    };
    CHECK(step != PREPARE_IDLE);
    return ops[step];
}

/* The next piece of zeros. The medium may begin with it at once: the sync at the end is short. */
static void prepare_zeros(struct journal_prepare *p)
{
    uint64_t left = p->segment->size_bytes - p->zeroed;
    size_t count = 0;
    for (; count < JOURNAL_ZERO_PIECES && left > 0; count++) {
        size_t len = (size_t)base_min(left, sizeof zero_bytes);
        p->zeros[count] = (struct iovec){.iov_base = (void *)(uintptr_t)zero_bytes, .iov_len = len};
        p->req.len += len;
        left -= len;
    }
    p->req.iov = p->zeros;
    p->req.iov_count = (unsigned)count;
    p->req.offset = p->zeroed;
    p->req.flags = DISK_SOON;
}

/* Submits the request of the step. */
static void prepare_next(struct journal *j)
{
    struct journal_prepare *p = &j->prepare;
    p->req = (struct disk_req){
        .op = prepare_op(p->step), .file = p->segment->file, .path = p->path, .done = prepare_done};
    if (p->step == PREPARE_OPEN) {
        p->req.file = NULL;
        p->req.flags = DISK_READ_WRITE | (p->reuses ? 0 : DISK_CREATE);
    } else if (p->step == PREPARE_ROOM) {
        p->req.file = NULL;
        p->req.path = j->directory;
    } else if (p->step == PREPARE_ALLOCATE) {
        p->req.len = p->segment->size_bytes;
    } else if (p->step == PREPARE_ZERO) {
        prepare_zeros(p);
    } else if (p->step == PREPARE_HEADER) {
        p->req.buf = p->header;
        p->req.len = JOURNAL_DATA_OFFSET;
    } else if (p->step == PREPARE_RENAME) {
        p->req.path_to = p->path_to;
    } else if (p->step == PREPARE_SYNC_DIR) {
        p->req.path = j->directory;
    }
    disk_submit(j->env.disk, &p->req);
}

static int prepare_begin(struct journal *j)
{
    struct journal_prepare *p = &j->prepare;
    uint64_t number = j->next_number;
    int rc = journal_segment_path(j, number, JOURNAL_SUFFIX_NEW, p->path);
    rc = rc < 0 ? rc : journal_segment_path(j, number, JOURNAL_SUFFIX, p->path_to);
    if (rc < 0) {
        return rc;
    }
    p->segment = journal_segment_new(number);
    p->header = mem_zalloc(JOURNAL_DATA_OFFSET);
    if (p->segment == NULL || p->header == NULL) {
        return -ENOMEM;
    }
    p->segment->size_bytes = j->segment_bytes;
    if (p->reuses) {
        struct journal_kept k = journal_keep_take(j);
        p->taken = k.number;
        p->segment->size_bytes = k.bytes;
        rc = journal_segment_path(j, k.number, JOURNAL_SUFFIX_OLD, p->path);
    }
    p->segment->whole_bytes = j->sparse && !p->reuses ? 0 : p->segment->size_bytes;
    prepare_header(j);
    p->zeroed = 0;
    return rc;
}

static void prepare_submit(struct journal *j)
{
    struct journal_prepare *p = &j->prepare;
    int rc = prepare_begin(j);
    if (rc < 0) {
        prepare_end(j, rc);
        return;
    }
    p->step = PREPARE_OPEN;
    prepare_next(j);
}

/* Another way, at once: with what was kept, or without one that is not there. */
static void prepare_again(struct journal *j)
{
    struct journal_prepare *p = &j->prepare;
    prepare_clear(p);
    p->reuses = p->reuses && j->kept_count > 0;
    prepare_submit(j);
}

void journal_prepare_start(struct journal *j)
{
    struct journal_prepare *p = &j->prepare;
    if (p->step != PREPARE_IDLE || j->spare != NULL || j->failed != 0 || j->stop_sealed) {
        return;
    }
    loop_timer_cancel(j->env.loop, &p->retry);
    p->reuses = journal_keep_most(j) >= j->segment_bytes; /* a smaller one when there is no room */
    prepare_submit(j);
}

uint64_t journal_segment_left(const struct journal *j)
{
    const struct journal_segment *s = j->current;
    uint64_t seal = JOURNAL_BATCH_BYTES; /* always room for one */
    return s == NULL || s->used_bytes + seal > s->size_bytes ? 0
                                                             : s->size_bytes - seal - s->used_bytes;
}

static void close_start(struct journal *j);

static void close_done(struct disk_req *req, int64_t rc)
{
    struct journal *j = container_of(req, struct journal, closer.req);
    (void)rc; /* it was synced before: nothing can be lost any more */
    j->closer.segment = NULL;
    close_start(j);
    journal_trim_start(j);
    journal_wake(j);
}

/* The oldest segment that is open, stable and not current. */
static void close_start(struct journal *j)
{
    struct journal_closer *c = &j->closer;
    LIST_FOR_EACH(node, &j->segments)
    {
        struct journal_segment *s = LIST_ENTRY(node, struct journal_segment, node);
        if (c->segment != NULL || s == j->current || s->last_sequence > j->stable_sequence) {
            return;
        }
        if (s->file != NULL) {
            c->segment = s;
            c->req = (struct disk_req){.op = DISK_CLOSE, .file = s->file, .done = close_done};
            s->file = NULL;
            disk_submit(j->env.disk, &c->req);
        }
    }
}

void journal_segment_synced(struct journal *j)
{
    close_start(j);
    journal_trim_start(j);
}

bool journal_segment_room(struct journal *j, uint64_t bytes)
{
    if (bytes <= journal_segment_left(j)) {
        return true;
    }
    if (j->spare == NULL) {
        j->prepare.blocked = true;
        journal_prepare_start(j);
        return false;
    }
    j->current = j->spare;
    j->spare = NULL;
    j->current->next_index = j->written_index;
    list_push_back(&j->segments, &j->current->node);
    j->segment_count++;
    journal_segment_synced(j);
    journal_prepare_start(j);
    return bytes <= journal_segment_left(j);
}

/* The oldest segment, if it may go: nothing in it is needed, and one behind it begins with a stable
 * batch (it says where the chain goes on). */
static struct journal_segment *trim_candidate(struct journal *j)
{
    if (list_empty(&j->segments)) {
        return NULL;
    }
    struct journal_segment *s = LIST_ENTRY(j->segments.next, struct journal_segment, node);
    bool needed = s == j->current || s->end_index > j->trim.index || s->file != NULL ||
                  s == j->closer.segment;
    if (needed || s->node.next == &j->segments) {
        return NULL;
    }
    struct journal_segment *after = LIST_ENTRY(s->node.next, struct journal_segment, node);
    bool begun = after->last_sequence != 0 && s->last_sequence < j->stable_sequence;
    return begun ? s : NULL;
}

static void trim_done(struct disk_req *req, int64_t rc);

static void trim_submit(struct journal *j, enum journal_trim_step step, struct disk_req req)
{
    struct journal_trimmer *t = &j->trim;
    t->step = step;
    t->req = req;
    t->req.done = trim_done;
    disk_submit(j->env.disk, &t->req);
}

/* The name that it had is gone, and durably so. */
static void trim_gone(struct journal *j)
{
    struct journal_trimmer *t = &j->trim;
    struct journal_segment *s = LIST_ENTRY(j->segments.next, struct journal_segment, node);
    uint64_t surplus = 0;
    bool more = t->keeps && journal_keep_add(j, s->number, s->whole_bytes, &surplus);
    list_remove(&s->node);
    j->segment_count--;
    journal_segment_free(s);
    t->step = TRIM_IDLE;
    if (more && journal_segment_path(j, surplus, JOURNAL_SUFFIX_OLD, t->path) == 0) {
        trim_submit(j, TRIM_SURPLUS, (struct disk_req){.op = DISK_REMOVE, .path = t->path});
    } else {
        journal_trim_start(j);
    }
}

static void trim_done(struct disk_req *req, int64_t rc)
{
    struct journal *j = container_of(req, struct journal, trim.req);
    struct journal_trimmer *t = &j->trim;
    if (t->step == TRIM_NAME && (rc == 0 || rc == -ENOENT)) {
        t->keeps = t->keeps && rc == 0;
        trim_submit(j, TRIM_SYNC_DIR, (struct disk_req){.op = DISK_SYNC_DIR, .path = j->directory});
        return;
    }
    if (t->step == TRIM_SYNC_DIR && rc == 0) {
        trim_gone(j);
    } else if (t->step == TRIM_SURPLUS) { /* one that stays is found by the next open */
        t->step = TRIM_IDLE;
        journal_trim_start(j);
    } else {
        /* A name that is gone but not durably so must not be followed by others. */
        t->given_up = t->step == TRIM_SYNC_DIR;
        t->step = TRIM_IDLE;
    }
    journal_wake(j);
}

void journal_trim_start(struct journal *j)
{
    struct journal_trimmer *t = &j->trim;
    if (t->step != TRIM_IDLE || t->given_up || j->failed != 0 || j->stop_sealed) {
        return;
    }
    const struct journal_segment *s = trim_candidate(j);
    if (s == NULL || journal_segment_path(j, s->number, JOURNAL_SUFFIX, t->path) < 0) {
        return;
    }
    t->keeps = journal_keep_wants(j, s->number, s->whole_bytes) &&
               journal_segment_path(j, s->number, JOURNAL_SUFFIX_OLD, t->path_to) == 0;
    trim_submit(j, TRIM_NAME,
                (struct disk_req){.op = t->keeps ? DISK_RENAME : DISK_REMOVE,
                                  .path = t->path,
                                  .path_to = t->keeps ? t->path_to : NULL});
}

bool journal_segment_busy(const struct journal *j)
{
    return j->prepare.step != PREPARE_IDLE || j->trim.step != TRIM_IDLE ||
           j->closer.segment != NULL;
}

static void close_now(struct journal *j, struct journal_segment *s)
{
    if (s->file != NULL) {
        struct disk_req req = {.op = DISK_CLOSE, .file = s->file};
        (void)disk_now(j->env.disk, &req); /* what mattered was synced before */
        s->file = NULL;
    }
    journal_segment_free(s);
}

void journal_segment_fini(struct journal *j)
{
    struct list *node = list_pop_front(&j->segments);
    for (; node != NULL; node = list_pop_front(&j->segments)) {
        close_now(j, LIST_ENTRY(node, struct journal_segment, node));
    }
    if (j->spare != NULL) {
        close_now(j, j->spare);
    }
    j->current = NULL;
    j->spare = NULL;
}

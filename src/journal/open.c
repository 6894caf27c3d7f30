/*
 * journal/open.c -- replay and cleaning of the end; blocks (start-up only).
 *
 * The good part is the longest chain of batches from the oldest segment on. Where it breaks, batch
 * `sequence + 1` is missing. If any batch behind the break says that this one had been stable, data
 * was lost and the open fails; else it is a torn tail: the last good segment is cut at the end of
 * the good part, everything behind is removed, and all of that is durable before the first new
 * batch. A segment that was opened for replay is never appended to, so a stale batch behind a torn
 * tail cannot continue a new chain.
 */
#include "base/mem.h"
#include "journal/journal_priv.h"
#include "journal/journal_scan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define REWRITE_BYTES (256u << 10)

struct open_source {
    struct journal_source base;
    struct journal *journal;
    struct disk_file *file;
};

struct open_state {
    struct journal *journal;
    struct disk_names *names;
    uint64_t *number;
    size_t count;
    struct journal_chain chain;
    uint64_t claimed_behind; /* by batches behind the break */
    bool broken;
    struct err *err;
};

static int64_t source_read(struct journal_source *base, uint64_t offset, void *to, size_t len)
{
    struct open_source *s = container_of(base, struct open_source, base);
    struct disk_req req = {
        .op = DISK_READ, .file = s->file, .offset = offset, .buf = to, .len = len};
    return disk_now(s->journal->env.disk, &req);
}

static int open_now(struct journal *j, struct disk_req *req)
{
    int64_t rc = disk_now(j->env.disk, req);
    return rc < 0 ? (int)rc : 0;
}

static int file_now(struct journal *j, enum disk_op op, struct disk_file *file, uint64_t len)
{
    struct disk_req req = {.op = op, .file = file, .len = len};
    return open_now(j, &req);
}

static int path_now(struct journal *j, enum disk_op op, const char *path)
{
    struct disk_req req = {.op = op, .path = path};
    return open_now(j, &req);
}

static bool parse_name(const char *name, const char *suffix, uint64_t *ret)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 16; i++) {
        char c = name[i];
        bool digit = c >= '0' && c <= '9';
        if (!digit && !(c >= 'a' && c <= 'f')) {
            return false;
        }
        v = v << 4 | (uint64_t)(digit ? c - '0' : c - 'a' + 10);
    }
    *ret = v;
    return strcmp(name + 16, suffix) == 0 && v > 0;
}

/* One that was kept: its bytes, from the start. What is not wanted goes. */
static int kept_find(struct open_state *o, uint64_t number)
{
    struct journal *j = o->journal;
    char path[JOURNAL_PATH_SIZE];
    uint64_t surplus = number;
    int rc = journal_segment_path(j, number, JOURNAL_SUFFIX_OLD, path);
    struct disk_req req = {.op = DISK_STAT, .path = path};
    rc = rc < 0 ? rc : open_now(j, &req);
    bool goes = rc < 0 || !journal_keep_wants(j, number, req.stat.size_bytes) ||
                journal_keep_add(j, number, req.stat.size_bytes, &surplus);
    if (rc == 0 && goes) {
        rc = journal_segment_path(j, surplus, JOURNAL_SUFFIX_OLD, path);
        rc = rc < 0 ? rc : path_now(j, DISK_REMOVE, path);
    }
    return rc;
}

/* Half-prepared segments go, the others are noted; names come sorted, so numbers are ascending. */
static int open_list(struct open_state *o)
{
    struct journal *j = o->journal;
    struct disk_req req = {.op = DISK_LIST, .path = j->directory};
    int rc = open_now(j, &req);
    if (rc < 0) {
        return err_set(o->err, rc, "list '%s'", j->directory);
    }
    o->names = req.names;
    o->number = mem_calloc(o->names->count + 1, sizeof *o->number);
    if (o->number == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < o->names->count && rc == 0; i++) {
        uint64_t number = 0;
        char path[JOURNAL_PATH_SIZE];
        if (parse_name(o->names->name[i], JOURNAL_SUFFIX, &number)) {
            o->number[o->count++] = number;
        } else if (parse_name(o->names->name[i], JOURNAL_SUFFIX_NEW, &number)) {
            rc = journal_segment_path(j, number, JOURNAL_SUFFIX_NEW, path);
            rc = rc < 0 ? rc : path_now(j, DISK_REMOVE, path);
        } else if (j->keep_segments > 0 &&
                   parse_name(o->names->name[i], JOURNAL_SUFFIX_OLD, &number)) {
            rc = kept_find(o, number);
        }
    }
    return rc;
}

static int segment_check(struct open_state *o, const struct journal_scan *scan, uint64_t number,
                         const char *path)
{
    struct journal *j = o->journal;
    if (scan->header.number != number) {
        return err_set(o->err, -ERR_bad_value, "journal segment '%s' says it is number %" PRIx64,
                       path, scan->header.number);
    }
    if (memcmp(scan->header.owner, j->owner, sizeof j->owner) != 0) {
        return err_set(o->err, -ERR_wrong_cluster, "journal segment '%s' has another owner", path);
    }
    return 0;
}

/* Delivers the batches that continue the chain. */
static int segment_replay(struct open_state *o, struct journal_scan *scan,
                          struct journal_segment *s, const char *path)
{
    struct journal_batch b;
    const uint8_t *body = NULL;
    int rc = journal_scan_next(scan, &o->chain, &b, &body);
    for (; rc > 0; rc = journal_scan_next(scan, &o->chain, &b, &body)) {
        s->last_sequence = b.sequence;
        if (b.count > 0) {
            s->end_index = base_max(s->end_index, b.index + b.count);
        }
        o->journal->sealed = b.kind == JOURNAL_KIND_SEAL;
        int given = journal_scan_deliver(&b, body, o->journal->user);
        if (given < 0) {
            return err_set(o->err, given, "replay of '%s' before offset %" PRIu64, path,
                           scan->offset);
        }
    }
    s->used_bytes = scan->offset;
    return rc < 0 ? err_set(o->err, rc, "journal segment '%s', offset %" PRIu64, path, scan->offset)
                  : 0;
}

/* One segment: its part of the chain, or, behind the break, only what it claims. */
static int segment_visit(struct open_state *o, struct journal_segment *s, const char *path)
{
    struct open_source source = {.base.read = source_read, .journal = o->journal, .file = s->file};
    struct journal_scan scan;
    int rc = journal_scan_begin(&scan, &source.base);
    if (rc < 0) {
        err_set(o->err, rc, "journal segment '%s', header", path);
    } else {
        rc = segment_check(o, &scan, s->number, path);
    }
    s->size_bytes = scan.header.size_bytes;
    if (rc == 0 && !o->broken) {
        rc = segment_replay(o, &scan, s, path);
    }
    if (rc == 0 && s->last_sequence == 0 && !o->broken) {
        o->broken = true;
    }
    uint64_t claimed = 0;
    if (rc == 0) {
        rc = journal_scan_claims(&scan, &claimed);
        o->claimed_behind = base_max(o->claimed_behind, claimed);
    }
    journal_scan_end(&scan);
    return rc;
}

static int segment_open(struct open_state *o, uint64_t number)
{
    struct journal *j = o->journal;
    char path[JOURNAL_PATH_SIZE];
    int rc = journal_segment_path(j, number, JOURNAL_SUFFIX, path);
    struct journal_segment *s = rc < 0 ? NULL : journal_segment_new(number);
    if (s == NULL) {
        return rc < 0 ? rc : -ENOMEM;
    }
    list_push_back(&j->segments, &s->node);
    j->segment_count++;
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE};
    rc = open_now(j, &req);
    if (rc < 0) {
        return err_set(o->err, rc, "open journal segment '%s'", path);
    }
    s->file = req.file;
    rc = segment_visit(o, s, path);
    if (j->salvage && err_is(rc, ERR_corrupt)) { /* its header, or a batch that makes no sense */
        o->broken = j->gave_up = true;
        rc = 0;
    }
    return rc;
}

/* The oldest segment's first batch was stable before the one in front of it was removed: number 1
 * alone may begin with a torn one. */
static int open_judge(struct open_state *o)
{
    struct journal *j = o->journal;
    bool headless = o->count > 0 && !o->chain.begun && o->number[0] != 1;
    if (!headless && o->claimed_behind <= o->chain.sequence) {
        return 0;
    }
    if (j->salvage) {
        j->gave_up = true;
        return 0;
    }
    struct journal_segment *at = NULL;
    LIST_FOR_EACH(node, &j->segments)
    {
        struct journal_segment *s = LIST_ENTRY(node, struct journal_segment, node);
        if (at == NULL || s->last_sequence != 0) {
            at = s;
        }
    }
    CHECK(at != NULL); /* what is missing was claimed by a segment */
    return err_set(o->err, -ERR_corrupt,
                   "journal '%s' lost synced data: damage in segment %016" PRIx64
                   " at offset %" PRIu64 " (batch %" PRIu64 ", known stable up to %" PRIu64 ")",
                   j->directory, at->number, base_max(at->used_bytes, JOURNAL_DATA_OFFSET),
                   o->chain.sequence + 1, o->claimed_behind);
}

/* Without a batch of the chain: most often the one that was ready to be the next. */
static int segment_keep(struct journal *j, const struct journal_segment *s, const char *path)
{
    char path_to[JOURNAL_PATH_SIZE];
    uint64_t surplus = 0;
    struct disk_req req = {.op = DISK_RENAME, .path = path, .path_to = path_to};
    int rc = journal_segment_path(j, s->number, JOURNAL_SUFFIX_OLD, path_to);
    rc = rc < 0 ? rc : open_now(j, &req);
    if (rc == 0 && journal_keep_add(j, s->number, s->whole_bytes, &surplus)) {
        rc = journal_segment_path(j, surplus, JOURNAL_SUFFIX_OLD, path_to);
        rc = rc < 0 ? rc : path_now(j, DISK_REMOVE, path_to);
    }
    return rc;
}

static int segment_remove(struct journal *j, struct journal_segment *s)
{
    char path[JOURNAL_PATH_SIZE];
    int rc = journal_segment_path(j, s->number, JOURNAL_SUFFIX, path);
    struct disk_req req = {.op = DISK_STAT, .file = s->file};
    rc = rc < 0 ? rc : open_now(j, &req);
    s->whole_bytes = rc < 0 ? 0 : req.stat.size_bytes;
    if (rc == 0) {
        rc = journal_keep_wants(j, s->number, s->whole_bytes) ? segment_keep(j, s, path)
                                                              : path_now(j, DISK_REMOVE, path);
    }
    list_remove(&s->node);
    j->segment_count--;
    (void)file_now(j, DISK_CLOSE, s->file, 0);
    s->file = NULL;
    journal_segment_free(s);
    return rc;
}

/* Where the first batch begins that no batch says to be stable. */
static int unproven_find(struct open_state *o, struct journal_segment *s, uint64_t *ret)
{
    struct open_source source = {.base.read = source_read, .journal = o->journal, .file = s->file};
    struct journal_scan scan;
    struct journal_chain chain = {0};
    struct journal_batch b = {0};
    const uint8_t *body = NULL;
    int rc = journal_scan_begin(&scan, &source.base);
    uint64_t offset = scan.offset;
    while (rc >= 0 && offset < s->used_bytes) {
        rc = journal_scan_next(&scan, &chain, &b, &body);
        if (rc == 0) {
            rc = -EIO; /* it was there a moment ago */
        }
        if (rc < 0 || b.sequence > o->chain.claimed) {
            break;
        }
        offset = scan.offset;
    }
    journal_scan_end(&scan);
    *ret = offset;
    return rc < 0 ? rc : 0;
}

/* After a failed sync the page cache may hold bytes as clean that the disk does not have; a later
 * sync would say nothing. Writing them again makes them dirty. */
static int unproven_rewrite(struct open_state *o, struct journal_segment *s)
{
    uint64_t offset = 0;
    int rc = unproven_find(o, s, &offset);
    CLEANUP(mem_freep) uint8_t *bytes = rc < 0 ? NULL : mem_alloc(REWRITE_BYTES);
    if (bytes == NULL) {
        return rc < 0 ? rc : -ENOMEM;
    }
    while (rc == 0 && offset < s->used_bytes) {
        size_t len = (size_t)base_min(REWRITE_BYTES, s->used_bytes - offset);
        struct disk_req req = {
            .op = DISK_READ, .file = s->file, .offset = offset, .buf = bytes, .len = len};
        int64_t got = disk_now(o->journal->env.disk, &req);
        if (got != (int64_t)len) {
            return got < 0 ? (int)got : -EIO;
        }
        req.op = DISK_WRITE;
        rc = open_now(o->journal, &req);
        offset += len;
    }
    return rc;
}

static int segment_secure(struct open_state *o, struct journal_segment *s)
{
    struct journal *j = o->journal;
    int rc = s->last_sequence > o->chain.claimed ? unproven_rewrite(o, s) : 0;
    rc = rc < 0 ? rc : file_now(j, DISK_TRUNCATE, s->file, s->used_bytes);
    return rc < 0 ? rc : file_now(j, DISK_SYNC_ALL, s->file, 0);
}

/* Cuts and syncs what stays (a killed process may have left it to the kernel only), removes the
 * rest, the newest first. */
static int open_clean(struct open_state *o)
{
    struct journal *j = o->journal;
    int rc = 0;
    struct list *node = j->segments.prev;
    while (rc == 0 && node != &j->segments) {
        struct journal_segment *s = LIST_ENTRY(node, struct journal_segment, node);
        node = node->prev;
        if (s->last_sequence == 0) {
            rc = segment_remove(j, s);
            continue;
        }
        rc = segment_secure(o, s);
        s->whole_bytes = s->used_bytes;
        (void)file_now(j, DISK_CLOSE, s->file, 0);
        s->file = NULL;
    }
    rc = rc < 0 ? rc : path_now(j, DISK_SYNC_DIR, j->directory);
    return rc < 0 ? err_set(o->err, rc, "clean the end of journal '%s'", j->directory) : 0;
}

int journal_replay(struct journal *j, uint64_t first_index, struct err *e)
{
    struct open_state o = {.journal = j, .err = e, .chain = {.index = first_index}};
    int rc = open_list(&o);
    /* Only the oldest segment may begin a chain; from the first one without a batch on, all are
     * behind the break. */
    for (size_t i = 0; i < o.count && rc == 0; i++) {
        rc = segment_open(&o, o.number[i]);
        o.broken = o.broken || !o.chain.begun;
    }
    rc = rc < 0 ? rc : open_judge(&o);
    rc = rc < 0 || j->gave_up ? rc
                              : open_clean(&o); /* else nobody would see again that it was broken */
    if (rc == 0) {
        j->sequence = o.chain.sequence;
        j->stable_sequence = o.chain.sequence;
        j->crc = o.chain.crc;
        j->next_index = o.chain.index;
        j->written_index = o.chain.index;
        j->stable_index = o.chain.index;
        j->next_number =
            list_empty(&j->segments)
                ? 1
                : LIST_ENTRY(j->segments.prev, struct journal_segment, node)->number + 1;
    }
    mem_free(o.number);
    mem_free(o.names);
    return rc;
}

/*
 * journal/journal.c -- the queue, batches, group commit, failure; see journal.h and journal_priv.h.
 *
 * Submitting only queues and wakes one task; the task turns what gathered into a batch. Callbacks
 * of requests run from the task as well, so nothing completes inside a call of the owner.
 */
#include "journal/journal.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "journal/journal_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SEGMENT_BYTES_DEFAULT (64u << 20)
#define RECORD_BYTES_DEFAULT ((1u << 20) + 4096u)
#define QUEUE_BYTES_DEFAULT (16u << 20)
#define QUEUE_RECORDS_DEFAULT 4096u
#define INDEX_MAX (UINT64_MAX / 2) /* appends cannot overflow from there */
#define PIECES_PER_RECORD (JOURNAL_IOV_MAX + 2u)
#define STAGED_PER_RECORD (JOURNAL_RECORD_BYTES + JOURNAL_SMALL_BYTES + 8u)

void journal_wake(struct journal *j)
{
    loop_defer(j->env.loop, &j->task);
}

static void finish(struct journal *j, struct journal_append *a, int rc)
{
    a->rc = rc;
    list_push_back(&j->done, &a->node);
}

static void finish_all(struct journal *j, struct list *from, int rc)
{
    struct list *node = list_pop_front(from);
    for (; node != NULL; node = list_pop_front(from)) {
        finish(j, LIST_ENTRY(node, struct journal_append, node), rc);
    }
}

/* Syncs that wait for a ticket above `ticket`. */
static void finish_syncs_above(struct journal *j, uint64_t ticket, int rc)
{
    LIST_FOR_EACH_SAFE(node, &j->syncs)
    {
        struct journal_sync *s = LIST_ENTRY(node, struct journal_sync, node);
        if (s->ticket > ticket) {
            s->rc = rc;
            list_remove(node);
            list_push_back(&j->syncs_done, node);
        }
    }
}

void journal_fail_queue(struct journal *j, int rc)
{
    j->refusing = rc;
    finish_all(j, &j->queue, rc);
    j->queue_size_bytes = 0;
    j->next_index = j->write_active ? j->batch_index : j->written_index;
    j->ticket = j->write_active ? j->batch_ticket : j->written_ticket;
    finish_syncs_above(j, j->ticket, rc);
    journal_wake(j);
}

void journal_fail(struct journal *j, int rc, const char *fmt, ...)
{
    if (j->failed != 0) {
        return;
    }
    j->failed = rc;
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(j->reason, sizeof j->reason, fmt, args);
    va_end(args);
    if (len > 0 && (size_t)len < sizeof j->reason) {
        (void)snprintf(j->reason + len, sizeof j->reason - (size_t)len, ": %s", err_text(rc));
    }
    loop_timer_cancel(j->env.loop, &j->prepare.retry);
    finish_all(j, &j->unstable, -ERR_failed_before);
    finish_syncs_above(j, 0, -ERR_failed_before);
    journal_fail_queue(j, -ERR_failed_before);
}

/* --- batches -------------------------------------------------------------------------------------
 */

static void batch_add(struct journal *j, const void *bytes, size_t len)
{
    j->batch.body_crc = crc32c(j->batch.body_crc, bytes, len);
    j->batch.body_len += (uint32_t)len;
}

/* Appends to the staging buffer; neighbours there share one piece. */
static uint8_t *stage(struct journal *j, size_t len)
{
    CHECK(j->staged + len <= JOURNAL_STAGING_BYTES);
    uint8_t *at = j->staging + j->staged;
    struct iovec *last = j->iov_count == 0 ? NULL : &j->iov[j->iov_count - 1];
    if (last != NULL && (uint8_t *)last->iov_base + last->iov_len == at) {
        last->iov_len += len;
    } else {
        CHECK(j->iov_count < JOURNAL_BATCH_IOV);
        j->iov[j->iov_count++] = (struct iovec){.iov_base = at, .iov_len = len};
    }
    j->staged += len;
    return at;
}

static void stage_copy(struct journal *j, const void *bytes, size_t len)
{
    if (len > 0) {
        memcpy(stage(j, len), bytes, len);
        batch_add(j, bytes, len);
    }
}

static void batch_add_record(struct journal *j, const struct journal_append *a)
{
    uint8_t header[JOURNAL_RECORD_BYTES];
    static const uint8_t zeros[8];
    journal_record_encode(a->len, a->type, header);
    stage_copy(j, header, sizeof header);
    for (unsigned i = 0; i < a->iov_count; i++) {
        if (a->len <= JOURNAL_SMALL_BYTES) {
            stage_copy(j, a->iov[i].iov_base, a->iov[i].iov_len);
        } else if (a->iov[i].iov_len > 0) {
            j->iov[j->iov_count++] = a->iov[i];
            batch_add(j, a->iov[i].iov_base, a->iov[i].iov_len);
        }
    }
    stage_copy(j, zeros, (size_t)base_align_up(a->len, 8) - a->len);
    j->batch.count++;
}

static uint64_t append_size(const struct journal_append *a)
{
    return a->kind == JOURNAL_KIND_RECORDS ? journal_record_size(a->len) : 0;
}

static void batch_take(struct journal *j, struct journal_append *a)
{
    j->queue_size_bytes -= append_size(a);
    list_remove(&a->node);
    list_push_back(&j->writing, &a->node);
    j->batch_ticket = a->ticket;
}

/* Moves what fits from the queue into the batch; the first record is known to fit. */
static void batch_gather(struct journal *j)
{
    uint64_t limit = base_min(JOURNAL_BATCH_TARGET, journal_segment_left(j) - JOURNAL_BATCH_BYTES);
    LIST_FOR_EACH_SAFE(node, &j->queue)
    {
        struct journal_append *a = LIST_ENTRY(node, struct journal_append, node);
        bool first = j->batch.count == 0;
        bool room = j->iov_count + PIECES_PER_RECORD <= JOURNAL_BATCH_IOV &&
                    j->staged + STAGED_PER_RECORD <= JOURNAL_STAGING_BYTES &&
                    j->batch.body_len + append_size(a) <= limit;
        if (!first && (!room || a->kind != JOURNAL_KIND_RECORDS)) {
            return;
        }
        batch_take(j, a);
        if (a->kind != JOURNAL_KIND_RECORDS) {
            j->batch.kind = JOURNAL_KIND_CUT;
            j->batch.index = a->index;
            return;
        }
        batch_add_record(j, a);
    }
}

static void write_done(struct disk_req *req, int64_t rc);
static void written_stable(struct journal *j);
static struct journal_segment *sync_segment(struct journal *j);

/* Somebody waits for it to be stable, and all before it is, or is in the same segment: write and
 * sync are one request, which saves the way to the disk and back. */
static bool batch_syncs(struct journal *j)
{
    bool wanted = j->stop != NULL || !list_empty(&j->syncs);
    LIST_FOR_EACH(node, &j->writing)
    {
        wanted =
            wanted || LIST_ENTRY(node, struct journal_append, node)->durability == JOURNAL_STABLE;
    }
    if (!wanted || j->syncing != NULL) {
        return false;
    }
    const struct journal_segment *unstable = sync_segment(j);
    return unstable == NULL || unstable == j->current;
}

/* Gives the batch its header and writes it. */
static void batch_submit(struct journal *j)
{
    struct journal_segment *s = j->current;
    j->write_syncs = batch_syncs(j);
    journal_batch_encode(&j->batch, s->crc, s->used_bytes, j->staging);
    j->batch_bytes = JOURNAL_BATCH_BYTES + j->batch.body_len;
    j->batch_index = j->batch.index + j->batch.count;
    j->write_active = true;
    j->sync_started_ns = j->write_syncs ? loop_now_ns(j->env.loop) : j->sync_started_ns;
    j->write = (struct disk_req){.op = DISK_WRITE,
                                 .flags = DISK_APPENDING | (j->write_syncs ? DISK_STABLE : 0),
                                 .file = s->file,
                                 .offset = s->used_bytes,
                                 .len = j->batch_bytes,
                                 .iov = j->iov,
                                 .iov_count = j->iov_count,
                                 .done = write_done};
    disk_submit(j->env.disk, &j->write);
}

static void batch_begin(struct journal *j, enum journal_kind kind)
{
    j->staged = 0;
    j->iov_count = 0;
    (void)stage(j, JOURNAL_BATCH_BYTES);
    j->batch = (struct journal_batch){.kind = kind,
                                      .sequence = j->sequence + 1,
                                      .index = j->written_index,
                                      .stable_sequence = j->stable_sequence,
                                      .previous_crc = j->crc};
    j->batch_ticket = j->written_ticket;
}

static void write_start(struct journal *j)
{
    if (j->write_active || list_empty(&j->queue)) {
        return;
    }
    const struct journal_append *first = LIST_ENTRY(j->queue.next, struct journal_append, node);
    if (!journal_segment_room(j, JOURNAL_BATCH_BYTES + append_size(first))) {
        return; /* the next segment's being ready, or failing, wakes us */
    }
    batch_begin(j, JOURNAL_KIND_RECORDS);
    batch_gather(j);
    batch_submit(j);
}

/* Written: done for some, the others wait for a sync. */
static void written_release(struct journal *j)
{
    struct list *node = list_pop_front(&j->writing);
    for (; node != NULL; node = list_pop_front(&j->writing)) {
        struct journal_append *a = LIST_ENTRY(node, struct journal_append, node);
        if (a->durability == JOURNAL_STABLE) {
            list_push_back(&j->unstable, node);
        } else {
            finish(j, a, 0);
        }
    }
}

static void written(struct journal *j)
{
    struct journal_segment *s = j->current;
    const struct journal_batch *b = &j->batch;
    s->used_bytes += j->batch_bytes;
    s->last_sequence = b->sequence;
    s->last_ticket = j->batch_ticket;
    s->next_index = j->batch_index;
    if (b->count > 0) {
        s->end_index = base_max(s->end_index, j->batch_index);
    }
    j->sequence = b->sequence;
    j->crc = b->crc;
    j->sealed = b->kind == JOURNAL_KIND_SEAL;
    j->written_ticket = j->batch_ticket;
    j->written_index = j->batch_index;
    stats_count(&j->stats.batches, 1);
    stats_count(&j->stats.records, b->count);
    stats_count(&j->stats.bytes, j->batch_bytes);
    written_release(j);
}

static void write_done(struct disk_req *req, int64_t rc)
{
    struct journal *j = container_of(req, struct journal, write);
    j->write_active = false;
    if (rc >= 0 && (uint64_t)rc != j->batch_bytes) {
        rc = -EIO;
    }
    if (j->failed == 0 && rc >= 0) {
        written(j);
        if (j->write_syncs) {
            written_stable(j);
        }
    } else {
        finish_all(j, &j->writing, -ERR_failed_before);
        journal_fail(j, (int)rc, "write to journal '%s'", j->directory);
    }
    journal_wake(j);
}

/* --- syncs ---------------------------------------------------------------------------------------
 */

static bool sync_wanted(const struct journal *j)
{
    if (j->sequence == j->stable_sequence) {
        return false;
    }
    if (!list_empty(&j->unstable) || j->stop != NULL) {
        return true;
    }
    return !list_empty(&j->syncs) &&
           LIST_ENTRY(j->syncs.next, struct journal_sync, node)->ticket <= j->written_ticket;
}

/* The oldest segment with a batch that is not stable. */
static struct journal_segment *sync_segment(struct journal *j)
{
    struct journal_segment *found = NULL;
    for (struct list *node = j->segments.prev; node != &j->segments; node = node->prev) {
        struct journal_segment *s = LIST_ENTRY(node, struct journal_segment, node);
        if (s->last_sequence > j->stable_sequence) {
            found = s;
        } else if (s->last_sequence != 0) {
            break;
        }
    }
    return found;
}

/* Waiters whose ticket is stable now. */
static void sync_release(struct journal *j)
{
    uint64_t now = loop_tick_ns(j->env.loop);
    while (!list_empty(&j->unstable)) {
        struct journal_append *a = LIST_ENTRY(j->unstable.next, struct journal_append, node);
        if (a->ticket > j->stable_ticket) {
            break;
        }
        list_remove(&a->node);
        stats_sample(&j->stats.stable_time, now - a->queued_ns);
        finish(j, a, 0);
    }
    while (!list_empty(&j->syncs)) {
        struct journal_sync *s = LIST_ENTRY(j->syncs.next, struct journal_sync, node);
        if (s->ticket > j->stable_ticket) {
            break;
        }
        s->rc = 0;
        list_remove(&s->node);
        list_push_back(&j->syncs_done, &s->node);
    }
}

/* What the sync covers is stable. */
static void stable(struct journal *j)
{
    j->stable_sequence = j->sync_sequence;
    j->stable_ticket = j->sync_ticket;
    j->stable_index = j->sync_index;
    stats_count(&j->stats.syncs, 1);
    stats_sample(&j->stats.sync_time, loop_now_ns(j->env.loop) - j->sync_started_ns);
    sync_release(j);
    journal_segment_synced(j);
}

static void sync_done(struct disk_req *req, int64_t rc)
{
    struct journal *j = container_of(req, struct journal, sync);
    j->syncing = NULL;
    if (j->failed == 0 && rc < 0) {
        journal_fail(j, (int)rc, "sync of journal '%s'", j->directory);
    }
    if (j->failed == 0) {
        stable(j);
    }
    journal_wake(j);
}

/* All batches of this segment that are written by now. */
static void sync_covers(struct journal *j, const struct journal_segment *s)
{
    j->sync_sequence = s->last_sequence;
    j->sync_ticket = s->last_ticket;
    j->sync_index = s->next_index;
}

static void written_stable(struct journal *j)
{
    sync_covers(j, j->current);
    stable(j);
}

static void sync_start(struct journal *j)
{
    bool comes = j->write_active && j->write_syncs; /* with the write, of all there is */
    if (j->syncing != NULL || comes || !sync_wanted(j)) {
        return;
    }
    struct journal_segment *s = sync_segment(j);
    CHECK(s != NULL && s->file != NULL);
    j->syncing = s;
    sync_covers(j, s);
    j->sync_started_ns = loop_now_ns(j->env.loop);
    j->sync = (struct disk_req){.op = DISK_SYNC, .file = s->file, .done = sync_done};
    disk_submit(j->env.disk, &j->sync);
}

/* --- the task ------------------------------------------------------------------------------------
 */

static void complete(struct journal *j)
{
    struct list done, syncs;
    list_init(&done);
    list_init(&syncs);
    list_splice_back(&done, &j->done);
    list_splice_back(&syncs, &j->syncs_done);
    struct list *node = list_pop_front(&done);
    for (; node != NULL; node = list_pop_front(&done)) {
        struct journal_append *a = LIST_ENTRY(node, struct journal_append, node);
        if (a->ticket != 0) {
            j->used_bytes -= a->len;
            j->used_records--;
        }
        a->done(a, a->rc);
    }
    stats_gauge_set(&j->stats.queued, (int64_t)j->used_records);
    for (node = list_pop_front(&syncs); node != NULL; node = list_pop_front(&syncs)) {
        struct journal_sync *s = LIST_ENTRY(node, struct journal_sync, node);
        s->done(s, s->rc);
    }
    j->refusing = list_empty(&j->done) ? 0 : j->refusing;
}

static bool idle(const struct journal *j)
{
    return !j->write_active && j->syncing == NULL && list_empty(&j->queue) &&
           list_empty(&j->unstable) && list_empty(&j->syncs) && list_empty(&j->done) &&
           list_empty(&j->syncs_done);
}

/* Towards the end: all written, all stable, the seal, the background quiet. May free j. */
static void stop_step(struct journal *j)
{
    if (j->stop == NULL || !idle(j)) {
        return;
    }
    if (j->failed == 0 && j->sequence != j->stable_sequence) {
        return; /* sync_start() is at it */
    }
    if (j->failed == 0 && !j->stop_sealed) {
        j->stop_sealed = true;
        if (!j->sealed && j->sequence > 0 && j->current != NULL) {
            batch_begin(j, JOURNAL_KIND_SEAL);
            batch_submit(j);
            return;
        }
    }
    if (!journal_segment_busy(j)) {
        struct journal_stop *stop = j->stop;
        j->stop = NULL;
        stop->done(stop, j->failed);
    }
}

static void task_run(struct loop_task *t)
{
    struct journal *j = container_of(t, struct journal, task);
    complete(j);
    if (j->failed == 0) {
        write_start(j);
        sync_start(j);
        if (!j->begun) {
            j->begun = true;
            journal_prepare_start(j);
        }
    } else if (!j->told) {
        j->told = true;
        j->user->ops->failed(j->user, j->failed, j->reason);
    }
    stop_step(j);
}

static void retry_fire(struct loop_timer *t)
{
    struct journal *j = container_of(t, struct journal, prepare.retry);
    journal_prepare_start(j);
}

/* --- the owner's calls ---------------------------------------------------------------------------
 */

static int append_check(struct journal *j, struct journal_append *a)
{
    if (j->failed != 0) {
        return -ERR_failed_before;
    }
    if (j->stop != NULL || j->stop_sealed) {
        return -ERR_shutting_down;
    }
    if (j->refusing != 0) {
        return j->refusing; /* who it failed for has not heard of it: nothing may overtake that */
    }
    if (a->iov_count > JOURNAL_IOV_MAX) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < a->iov_count; i++) {
        if (a->iov[i].iov_len > j->max_record_bytes - a->len) {
            return -EMSGSIZE;
        }
        a->len += a->iov[i].iov_len;
    }
    bool full = j->used_records >= j->queue_records || j->queue_bytes - j->used_bytes < a->len;
    return full ? -ERR_busy : 0;
}

static void enqueue(struct journal *j, struct journal_append *a, int rc)
{
    LOOP_OWNED(j->env.loop);
    list_init(&a->node);
    if (rc < 0) {
        a->index = 0;
        a->ticket = 0;
        stats_count(&j->stats.refused, 1);
        finish(j, a, rc);
    } else {
        a->ticket = ++j->ticket;
        a->queued_ns = loop_tick_ns(j->env.loop);
        j->used_bytes += a->len;
        j->used_records++;
        j->queue_size_bytes += append_size(a);
        list_push_back(&j->queue, &a->node);
    }
    journal_wake(j);
}

void journal_append(struct journal *j, struct journal_append *a)
{
    a->kind = JOURNAL_KIND_RECORDS;
    a->len = 0;
    int rc = append_check(j, a);
    if (rc == 0) {
        a->index = j->next_index++;
    }
    enqueue(j, a, rc);
}

static void cut_done(struct journal_append *a, int rc)
{
    struct journal_cut *c = container_of(a, struct journal_cut, append);
    c->done(c, rc);
}

void journal_cut(struct journal *j, struct journal_cut *c)
{
    c->append = (struct journal_append){
        .done = cut_done, .durability = JOURNAL_STABLE, .kind = JOURNAL_KIND_CUT};
    int rc = c->index == 0 || c->index > INDEX_MAX ? -EINVAL : append_check(j, &c->append);
    if (rc == 0) {
        c->append.index = c->index;
        j->next_index = c->index;
    }
    enqueue(j, &c->append, rc);
}

void journal_sync(struct journal *j, struct journal_sync *s)
{
    LOOP_OWNED(j->env.loop);
    list_init(&s->node);
    s->ticket = j->ticket;
    s->rc = j->failed != 0 ? -ERR_failed_before : 0;
    bool now = j->failed != 0 || s->ticket <= j->stable_ticket;
    list_push_back(now ? &j->syncs_done : &j->syncs, &s->node);
    journal_wake(j);
}

void journal_trim(struct journal *j, uint64_t index)
{
    LOOP_OWNED(j->env.loop);
    j->trim.index = base_max(j->trim.index, index);
    journal_trim_start(j);
}

void journal_stop(struct journal *j, struct journal_stop *s)
{
    LOOP_OWNED(j->env.loop);
    CHECK(j->stop == NULL);
    j->stop = s;
    loop_timer_cancel(j->env.loop, &j->prepare.retry);
    journal_wake(j);
}

/* --- construction --------------------------------------------------------------------------------
 */

static void stats_begin(struct journal *j, const char *name)
{
    struct journal_counters *c = &j->stats;
    if (j->env.stats == NULL) {
        return;
    }
    c->group = stats_new(j->env.stats, name != NULL ? name : "journal");
    stats_add_counter(c->group, "records", &c->records);
    stats_add_counter(c->group, "bytes", &c->bytes);
    stats_add_counter(c->group, "batches", &c->batches);
    stats_add_counter(c->group, "syncs", &c->syncs);
    stats_add_counter(c->group, "segments", &c->segments);
    stats_add_counter(c->group, "refused", &c->refused);
    stats_add_gauge(c->group, "queued", &c->queued);
    stats_add_histogram(c->group, "sync_time", &c->sync_time);
    stats_add_histogram(c->group, "stable_time", &c->stable_time);
}

static int options_take(struct journal *j, const struct journal_options *opt)
{
    j->env = *opt->env;
    j->user = opt->user;
    memcpy(j->owner, opt->owner, sizeof j->owner);
    j->segment_bytes = opt->segment_bytes != 0 ? opt->segment_bytes : SEGMENT_BYTES_DEFAULT;
    j->least_bytes = opt->least_bytes;
    j->keep_segments = opt->keep_segments;
    j->max_record_bytes = opt->max_record_bytes != 0 ? opt->max_record_bytes : RECORD_BYTES_DEFAULT;
    j->queue_bytes = opt->queue_bytes != 0 ? opt->queue_bytes : QUEUE_BYTES_DEFAULT;
    j->queue_records = opt->queue_records != 0 ? opt->queue_records : QUEUE_RECORDS_DEFAULT;
    j->sparse = opt->sparse;
    j->salvage = opt->salvage;
    j->room = opt->room;
    bool sound = j->segment_bytes >= 4 * (uint64_t)JOURNAL_DATA_OFFSET &&
                 j->max_record_bytes <= j->segment_bytes / 4 &&
                 j->max_record_bytes <= JOURNAL_BODY_MAX / 2 &&
                 j->queue_bytes >= j->max_record_bytes && j->keep_segments <= JOURNAL_KEEP_MAX &&
                 (j->least_bytes == 0 ||
                  j->least_bytes / 4 >= base_max(j->max_record_bytes, JOURNAL_DATA_OFFSET));
    return sound ? 0 : -EINVAL;
}

static void lists_init(struct journal *j)
{
    struct list *heads[] = {&j->segments, &j->queue, &j->writing,   &j->unstable,
                            &j->syncs,    &j->done,  &j->syncs_done};
    for (size_t i = 0; i < ARRAY_COUNT(heads); i++) {
        list_init(heads[i]);
    }
    j->task.run = task_run;
    j->prepare.retry.fire = retry_fire;
}

int journal_open(const struct journal_options *opt, struct journal **ret, struct err *e)
{
    CLEANUP(journal_freep) struct journal *j = mem_zalloc(sizeof *j);
    if (j == NULL) {
        return err_set(e, -ENOMEM, "open journal '%s'", opt->directory);
    }
    lists_init(j);
    int rc = options_take(j, opt);
    if (rc < 0) {
        return err_set(e, rc, "journal '%s': sizes do not fit each other", opt->directory);
    }
    LOOP_OWNED(j->env.loop);
    j->directory = mem_strdup(opt->directory);
    j->staging = mem_alloc(JOURNAL_STAGING_BYTES);
    if (j->directory == NULL || j->staging == NULL) {
        return err_set(e, -ENOMEM, "open journal '%s'", opt->directory);
    }
    rc = journal_replay(j, opt->first_index != 0 ? opt->first_index : 1, e);
    if (rc < 0) {
        if (e != NULL && e->code == 0) {
            err_set(e, rc, "open journal '%s'", j->directory);
        }
        return rc;
    }
    stats_begin(j, opt->name);
    journal_wake(
        j); /* the first segment: not from here, so that journal_free() may follow at once */
    *ret = j;
    j = NULL;
    return 0;
}

struct journal *journal_free(struct journal *j)
{
    if (j != NULL) {
        CHECK(idle(j) && !journal_segment_busy(j));
        if (j->env.loop != NULL) {
            loop_timer_cancel(j->env.loop, &j->prepare.retry);
            loop_undefer(j->env.loop, &j->task);
        }
        journal_segment_fini(j);
        stats_free(j->stats.group);
        mem_free(j->staging);
        mem_free(j->directory);
        mem_free(j);
    }
    return NULL;
}

void journal_info(const struct journal *j, struct journal_info *ret)
{
    *ret = (struct journal_info){.next_index = j->next_index,
                                 .stable_index = j->stable_index,
                                 .segment_count = j->segment_count,
                                 .kept_count = j->kept_count,
                                 .gave_up = j->gave_up,
                                 .spare_rc = j->spare == NULL ? j->prepare.rc : 0,
                                 .segment_bytes = j->current == NULL ? 0 : j->current->size_bytes,
                                 .queued_records = (uint32_t)j->used_records,
                                 .failed = j->failed};
    LIST_FOR_EACH(node, &j->segments)
    {
        ret->size_bytes +=
            LIST_ENTRY(node, struct journal_segment, node)->used_bytes - JOURNAL_DATA_OFFSET;
    }
    uint64_t taken = j->queue_size_bytes + JOURNAL_BATCH_BYTES;
    taken += j->write_active ? j->batch_bytes : 0;
    uint64_t room = journal_segment_left(j);
    room += j->spare == NULL ? 0 : j->spare->size_bytes - JOURNAL_DATA_OFFSET;
    ret->room_bytes = j->failed != 0 || room < taken ? 0 : room - taken;
}

void journal_to_text(const struct journal *j, char *out, size_t size)
{
    struct journal_info i;
    journal_info(j, &i);
    (void)snprintf(
        out, size, "journal %s: next %llu, stable below %llu, %u segments, %llu bytes%s%s",
        j->directory, (unsigned long long)i.next_index, (unsigned long long)i.stable_index,
        i.segment_count, (unsigned long long)i.size_bytes, j->failed != 0 ? ", " : "",
        j->failed != 0 ? j->reason : "");
}

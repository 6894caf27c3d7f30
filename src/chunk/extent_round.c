/*
 * chunk/extent_round.c -- the `extent` engine: rounds, which make all that is done stable and tell
 * the index; syncs, which wait for the next round; checkpoints; the end.
 *
 * A round: commits are journaled; what is dirty is looked at; containers are synced, then the
 * journal, behind which those who wait are told; then the index gets what was looked at. It may
 * know more than the journal's records up to `low`, of which it knows everything: each chunk's
 * head says which record is its newest, so that a replay from `low` on passes over what is there.
 *
 * A light round is for syncs, when all that containers have is stable or in the journal: commits
 * are journaled, and the journal is synced, at once. The index is told by the next one that is not.
 */
#include "chunk/extent_room_priv.h"
#include "chunk/extent_start_priv.h"

#include <string.h>

#define SLICE_BYTES (UINT64_C(1) << 20)
#define SLICE_SHARE 64u /* of the index's memory, at most: a larger one may never find room */
#define STOP_TRIES 8u
#define LIGHT_ENTRIES 1024u /* that wait for the index: it is told of no more at once */
#define CHECKPOINT_BYTES (UINT64_C(24) << 20)
#define CHECKPOINT_NS (UINT64_C(60) * 1000000000)
#define CHECKPOINT_PACE_NS (UINT64_C(20) * 1000000000)
#define HURRY_BYTES (UINT64_C(32) << 20) /* of journal, while a checkpoint is under way */
#define ROUND_BYTES (UINT64_C(16) << 20)

static void round_index(struct chunk_extent *x);
static void round_next(struct chunk_extent *x);

/* ---- The end of a round ---- */

static void round_wake(struct chunk_extent *x, int rc)
{
    struct list *waiters = &x->round.waiters;
    for (struct list *node = list_pop_front(waiters); node != NULL;
         node = list_pop_front(waiters)) {
        struct chunk_work *w = LIST_ENTRY(node, struct chunk_work, ready);
        w->kept = rc;
        chunk_work_ready(w);
    }
}

static void round_over(struct chunk_extent *x, int rc)
{
    struct chunk_store *s = x->s;
    struct chunk_round *r = &x->round;
    round_wake(x, rc);
    for (size_t i = 0; i < r->count; i++) {
        struct chunk_entry *e = r->shot[i].e;
        chunk_shot_fini(&r->shot[i]);
        e->holds--;
        chunk_entry_settle(s, e);
    }
    chunk_forget_soon(s);
    mem_free(r->shot);
    r->shot = NULL;
    r->count = r->indexed = r->batched = 0;
    kv_batch_fini(&r->batch);
    s->round_active = false;
    if (!r->light) { /* the index has been told */
        chunk_space_release(x);
    }
    if (rc < 0 && s->stopping && (s->failed != 0 || ++s->stop_tries >= STOP_TRIES)) {
        s->stop_rc = rc;
        s->stop_failed = true;
    }
    if (x->loading != NULL) {
        chunk_start_over(x, rc);
    } else if (r->whole || !list_empty(&r->next)) {
        round_next(x);
    }
    chunk_stop_check(s);
}

/* ---- Index ---- */

static void round_room(struct kv_room *room)
{
    struct chunk_extent *x = container_of(room, struct chunk_extent, round.room);
    round_index(x);
}

static void round_batched(struct chunk_extent *x)
{
    struct chunk_store *s = x->s;
    struct chunk_round *r = &x->round;
    for (; r->indexed < r->batched; r->indexed++) {
        struct chunk_shot *shot = &r->shot[r->indexed];
        struct chunk_entry *e = shot->e;
        chunk_index_shot_done(shot);
        e->told = base_max(e->told, shot->written);
        if (e->change != shot->written || e->stable != e->change) {
            continue; /* more has happened to it */
        }
        chunk_entry_clean(s, e);
        chunk_entry_charge(s, e);
        if (e->kept) { /* the index knows that it has gone */
            e->kept = false;
            e->holds--;
        }
    }
    kv_batch_clear(&r->batch);
}

/* A part of the shots at a time. */
static void round_index(struct chunk_extent *x)
{
    struct chunk_round *r = &x->round;
    uint64_t most = base_min(SLICE_BYTES, x->s->opt.index_bytes / SLICE_SHARE);
    int rc = 0;
    while (r->indexed < r->count && rc == 0) {
        while (r->batched < r->count && r->batch.len < most) {
            chunk_index_shot(&r->batch, &r->shot[r->batched++]);
        }
        bool last = r->batched == r->count;
        uint64_t index = kv_applied_index(x->index);
        rc = kv_commit(x->index, &r->batch, last ? base_max(index, r->low) : index);
        if (rc == 0) {
            chunk_walk_changed(x);
            round_batched(x);
        }
    }
    if (rc == -ERR_busy) {
        r->room.done = round_room;
        kv_room(x->index, &r->room);
        return;
    }
    if (rc == 0) {
        x->checkpointed = false;
    } else if (rc != -ENOMEM) { /* they stay dirty: a later round tries again */
        chunk_store_fail(x->s, rc, "the index could not be changed");
    }
    chunk_carry_trim(x);
    chunk_extent_checkpoint(x);
    round_over(x, rc == 0 || x->loading == NULL ? 0 : rc);
}

/* ---- Light rounds ---- */

/* What is done is in the journal, or stable, and few wait for the index. */
static bool round_may_be_light(const struct chunk_extent *x)
{
    const struct chunk_store *s = x->s;
    return !x->round.whole && !x->carry.raw && x->loading == NULL && !s->stopping &&
           s->dirty_count <= LIGHT_ENTRIES;
}

/* All that has happened so far is in the journal, or on its way there, and what that tells of is in
 * it, too, or stable: the record behind it all says so. */
static void round_cover(struct chunk_extent *x)
{
    struct journal_info info;
    LIST_FOR_EACH(node, &x->s->unstable)
    {
        struct chunk_entry *e = LIST_ENTRY(node, struct chunk_entry, unstable);
        e->covered = e->change;
    }
    journal_info(x->journal, &info);
    x->round.step = ROUND_JOURNAL;
    chunk_extent_append_stable(x, info.next_index - 1);
}

static void round_stable(struct chunk_entry *e, uint64_t change)
{
    e->stable = base_max(e->stable, change);
    if (e->stable == e->change) {
        list_remove(&e->unstable);
    }
}

static void round_covered(struct chunk_extent *x)
{
    LIST_FOR_EACH_SAFE(node, &x->s->unstable)
    {
        struct chunk_entry *e = LIST_ENTRY(node, struct chunk_entry, unstable);
        round_stable(e, e->covered);
    }
    round_over(x, 0);
}

/* ---- What was done is stable ---- */

void chunk_extent_synced(struct chunk_extent *x, int rc)
{
    struct chunk_round *r = &x->round;
    if (rc < 0 || x->s->failed != 0) {
        round_over(x, rc < 0 ? rc : -ERR_failed_before);
        return;
    }
    if (r->light && x->lists_rc < 0) {
        round_over(x, x->lists_rc); /* commits that it covers are in no record */
        return;
    }
    if (r->light) {
        round_covered(x);
        return;
    }
    for (size_t i = 0; i < r->count; i++) {
        round_stable(r->shot[i].e, r->shot[i].written);
    }
    r->step = ROUND_INDEX;
    round_wake(x, 0);
    chunk_start_stable(x);
    round_index(x);
}

/* The data is stable. A record says so, and when that is stable all before it are: after a power
 * cut nothing falls back behind what somebody was told of, or whose units others have by now. Of
 * records that a start has rejected nothing says so, only that the checkpoints which are kept have
 * passed them: until then the next start has to look at them again. */
static void round_journal(struct chunk_extent *x)
{
    struct chunk_round *r = &x->round;
    if (x->grow_made) { /* a sync of the same file: one of the two hears of an error */
        r->after_grow = true;
        return;
    }
    if (r->rc < 0) {
        chunk_store_fail(x->s, r->rc, "a sync failed");
    }
    if (x->s->failed != 0) {
        round_over(x, r->rc < 0 ? r->rc : -ERR_failed_before);
        return;
    }
    r->step = ROUND_JOURNAL;
    if (chunk_start_doubts(x)) { /* the journal's open has synced it */
        chunk_extent_synced(x, 0);
        return;
    }
    chunk_extent_append_stable(x, r->low);
}

void chunk_extent_grown(struct chunk_extent *x)
{
    if (x->round.after_grow) {
        x->round.after_grow = false;
        round_journal(x);
    }
}

static void round_container_synced(struct disk_req *req, int64_t rc)
{
    struct chunk_container *c = container_of(req, struct chunk_container, sync);
    struct chunk_extent *x = c->x;
    struct chunk_store *s = x->s;
    if (!chunk_came_back(s)) {
        return;
    }
    if (rc < 0 && x->round.rc == 0) {
        x->round.rc = (int)rc;
    }
    if (--x->round.left == 0) {
        round_journal(x);
    }
}

static void round_data(struct chunk_extent *x)
{
    struct chunk_round *r = &x->round;
    r->step = ROUND_DATA;
    r->left = 1; /* nothing completes inside submit, but there may be nothing */
    x->carry.raw = false;
    x->carry.late_bytes = 0;
    for (size_t i = 0; i < x->container_count; i++) {
        struct chunk_container *c = x->container[i];
        if (c->dirty || c->late) {
            c->dirty = c->late = false;
            c->sync =
                (struct disk_req){.op = DISK_SYNC, .file = c->file, .done = round_container_synced};
            r->left++;
            x->s->in_flight++;
            disk_submit(x->s->disk, &c->sync);
        }
    }
    if (--r->left == 0) {
        round_journal(x);
    }
}

/* ---- What is dirty ---- */

/* All records up to it are done, and so in what entries say. */
static uint64_t round_low(const struct chunk_extent *x)
{
    struct journal_info info;
    LIST_FOR_EACH(node, &x->appending)
    {
        const struct chunk_append *a = LIST_ENTRY(node, struct chunk_append, node);
        if (a->append.index != 0) {
            return a->append.index - 1;
        }
    }
    journal_info(x->journal, &info);
    return info.next_index - 1;
}

static struct chunk_shot shot_of(struct chunk_entry *e)
{
    /* Nothing is on its way, no commit waits: what happened since the newest record came to
     * nothing, or is what the index alone is told of: that the chunk was found damaged. */
    if (e->recording == 0 && list_empty(&e->flip)) {
        e->written = e->change;
    }
    struct chunk_shot shot = {.e = e,
                              .state = chunk_state_of(e),
                              .written = e->written,
                              .known = e->known,
                              .exists = e->exists};
    chunk_version_ref(shot.state.committed);
    chunk_version_ref(shot.state.pending);
    return shot;
}

static void round_look(struct chunk_extent *x)
{
    struct chunk_store *s = x->s;
    struct chunk_round *r = &x->round;
    if (x->lists_rc < 0) {
        round_over(x, x->lists_rc);
        return;
    }
    r->shot = mem_calloc(s->dirty_count + 1, sizeof *r->shot);
    if (r->shot == NULL) {
        round_over(x, -ENOMEM);
        return;
    }
    LIST_FOR_EACH(node, &s->dirty)
    {
        struct chunk_entry *e = LIST_ENTRY(node, struct chunk_entry, dirty);
        e->holds++;
        r->shot[r->count] = shot_of(e);
        e->covered = r->shot[r->count++].written;
    }
    r->low = round_low(x);
    round_data(x);
}

void chunk_extent_flips_done(struct chunk_extent *x)
{
    const struct chunk_round *r = &x->round;
    if (x->s->round_active && r->step == ROUND_FLIPS && x->lists_done >= r->flips) {
        round_look(x);
    }
}

static void round_begin(struct chunk_extent *x)
{
    struct chunk_store *s = x->s;
    struct chunk_round *r = &x->round;
    s->round_active = true;
    r->light = round_may_be_light(x);
    r->whole = false;
    if (!r->light) {
        s->round_at_ns = loop_now_ns(s->loop);
        x->bytes_round = 0;
    }
    list_splice_back(&r->waiters, &r->next);
    r->rc = 0;
    x->lists_rc = 0;
    int rc = chunk_extent_flush_flips(x);
    if (rc < 0) {
        round_over(x, rc);
        return;
    }
    if (r->light) {
        round_cover(x);
        return;
    }
    r->flips = x->lists;
    r->step = ROUND_FLIPS;
    chunk_extent_flips_done(x);
}

static bool round_needed(const struct chunk_extent *x)
{
    return !list_empty(&x->s->dirty) || !list_empty(&x->round.next) || x->flip_count > 0;
}

static void round_next(struct chunk_extent *x)
{
    struct chunk_store *s = x->s;
    if (s->round_active || !x->loaded) {
        return;
    }
    if (s->failed != 0) {
        x->round.whole = false;
        list_splice_back(&x->round.waiters, &x->round.next);
        round_wake(x, -ERR_failed_before);
        return;
    }
    if (round_needed(x)) {
        round_begin(x);
        return;
    }
    x->round.whole = false;
    if (s->stopping) {
        x->checkpoint_due = true;
        chunk_extent_checkpoint(x);
    }
}

void chunk_extent_round(struct chunk_store *s)
{
    s->extent->round.whole = true;
    round_next(s->extent);
}

/* ---- Syncs ---- */

static void sync_waited(struct chunk_work *w)
{
    w->finish(w, w->kept);
}

enum sync_need { SYNC_NOTHING, SYNC_THIS_ROUND, SYNC_NEXT_ROUND };

/* What one round makes stable, all who ask while it is under way share: those of one client, say,
 * for what it has in many chains. */
static enum sync_need sync_need_of(const struct chunk_store *s, const struct chunk_entry *e)
{
    const struct chunk_round *r = &s->extent->round;
    bool looked = s->round_active && (r->step == ROUND_DATA || r->step == ROUND_JOURNAL);
    return e->stable == e->change              ? SYNC_NOTHING
           : looked && e->covered == e->change ? SYNC_THIS_ROUND
                                               : SYNC_NEXT_ROUND;
}

static enum sync_need sync_need_more(enum sync_need a, enum sync_need b)
{
    return a > b ? a : b;
}

static enum sync_need sync_need_keys(struct chunk_store *s, const struct chunk_sync *c)
{
    enum sync_need need = SYNC_NOTHING;
    for (size_t i = 0; i < c->key_count && need != SYNC_NEXT_ROUND; i++) {
        const struct chunk_entry *e = chunk_entry_get(s, c->key[i], false);
        need = e == NULL ? need : sync_need_more(need, sync_need_of(s, e));
    }
    return need;
}

static enum sync_need sync_need(struct chunk_store *s, const struct chunk_sync *c)
{
    enum sync_need need = SYNC_NOTHING;
    if (c->scope == CHUNK_SYNC_KEYS) {
        return sync_need_keys(s, c);
    }
    LIST_FOR_EACH(node, &s->unstable)
    {
        const struct chunk_entry *e = LIST_ENTRY(node, struct chunk_entry, unstable);
        if (c->scope == CHUNK_SYNC_ALL || e->item.key.data_id == c->data_id) {
            need = sync_need_more(need, sync_need_of(s, e));
        }
        if (need == SYNC_NEXT_ROUND) {
            break;
        }
    }
    return need;
}

/* `who` are those of the round under way, or of the next. */
static void round_wait(struct chunk_work *w, struct list *who, void (*begin)(struct chunk_work *w))
{
    w->begin = begin;
    list_remove(&w->ready);
    list_push_back(who, &w->ready);
    round_next(w->s->extent);
}

void chunk_round_join(struct chunk_work *w, void (*begin)(struct chunk_work *w))
{
    struct chunk_round *r = &w->s->extent->round;
    r->whole = true;
    round_wait(w, &r->next, begin);
}

void chunk_extent_sync(struct chunk_store *s, struct chunk_work *w)
{
    chunk_carry_asked(s->extent);
    struct chunk_round *r = &s->extent->round;
    enum sync_need need = sync_need(s, w->of.sync);
    if (need == SYNC_NOTHING) {
        w->begin = sync_waited;
        chunk_work_ready(w);
    } else {
        round_wait(w, need == SYNC_THIS_ROUND ? &r->waiters : &r->next, sync_waited);
    }
}

/* Those that have gone stay in the index until a round has told of them. */
static bool removed_dirty(struct chunk_store *s, uint64_t data_id)
{
    struct chunk_key from = {.data_id = data_id};
    for (struct chunk_item *item = chunk_index_next(&s->index, from);
         item != NULL && item->key.data_id == data_id; item = chunk_index_next(&s->index, from)) {
        const struct chunk_entry *e = chunk_entry_of(item);
        if (e->stable != e->change) {
            return true;
        }
        from = item->key;
        if (!chunk_key_step(&from)) {
            return false;
        }
    }
    return false;
}

void chunk_extent_removed(struct chunk_store *s, struct chunk_work *w)
{
    if (!removed_dirty(s, w->of.change->key.data_id)) {
        w->finish(w, s->failed == 0 ? 0 : -ERR_failed_before);
        return;
    }
    round_wait(w, &s->extent->round.next, sync_waited);
}

/* ---- Checkpoints ---- */

static void checkpoint_done(struct kv_checkpoint *c, int rc)
{
    struct chunk_extent *x = container_of(c, struct chunk_extent, checkpoint);
    x->checkpointing = false;
    chunk_room_checkpoint(x, rc);
    if (rc == 0) {
        x->older = x->newer;
        x->newer = c->index;
        chunk_backlog_over(x);
        x->checkpoint_due = false;
        journal_trim(x->journal, x->older + 1);
    } else {
        x->checkpointed = false;
        if (x->s->stopping && ++x->s->stop_tries >= STOP_TRIES) {
            x->s->stop_rc = rc;
            x->s->stop_failed = true;
        }
    }
    chunk_admits_again(x);
    if (x->loading != NULL) {
        chunk_start_over(x, rc);
    }
    chunk_stop_check(x->s);
}

/* When it is time for one. Of a store that is not changed nothing is written. */
void chunk_extent_checkpoint(struct chunk_extent *x)
{
    struct chunk_store *s = x->s;
    uint64_t now = loop_now_ns(s->loop);
    uint64_t many = base_min(CHECKPOINT_BYTES, chunk_room_segment(s) / 2 * 3);
    bool due =
        x->checkpoint_due || x->bytes_since >= many || now - x->checkpoint_ns >= CHECKPOINT_NS;
    if (!due || x->checkpointed || x->checkpointing || s->failed != 0 || x->ending) {
        return;
    }
    x->checkpointing = x->checkpointed = true;
    x->checkpoint_ns = now;
    x->bytes_since = x->carry.since_bytes = 0;
    x->hurried = x->checkpoint_due;
    chunk_backlog_begin(x);
    x->checkpoint = (struct kv_checkpoint){.done = checkpoint_done,
                                           .pace_ns = x->checkpoint_due ? 0 : CHECKPOINT_PACE_NS};
    kv_checkpoint(x->index, &x->checkpoint);
}

void chunk_extent_hurry(struct chunk_extent *x)
{
    x->checkpoint_due = x->checkpoint_due || !x->checkpointing;
    if (x->checkpointing && !x->hurried) {
        x->hurried = true;
        kv_checkpoint_hurry(x->index);
    }
}

/* A start after a crash does again what the newest checkpoint of the index does not have: it is
 * bounded, however fast records come. */
void chunk_extent_pace(struct chunk_extent *x)
{
    if (x->bytes_round >= ROUND_BYTES) {
        chunk_extent_round(x->s);
    }
    if (x->checkpointing && x->bytes_since >= HURRY_BYTES) {
        chunk_extent_hurry(x);
    }
}

/* ---- Once a second ---- */

void chunk_extent_tick(struct chunk_store *s)
{
    struct chunk_extent *x = s->extent;
    chunk_admits_again(x);
    if (!s->started || s->stopping) {
        return;
    }
    if (loop_now_ns(s->loop) - s->round_at_ns >= (uint64_t)s->opt.flush_ms * 1000000) {
        chunk_extent_round(s);
    }
    bool behind = chunk_backlog_full(x); /* also of commits and damage, which nothing holds up */
    (void)behind;
    chunk_extent_checkpoint(x);
    chunk_room_tick(x);
    chunk_space_release(x);
    chunk_rewrite_tick(x);
}

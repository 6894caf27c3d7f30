/*
 * sim/watch.c -- see watch.h.
 *
 * What a look finds is kept for the whole run: an identity once seen has its digest for ever, on
 * all members, also when all who had it have lost it; a row once seen is the row of its epoch.
 */
#include "watch.h"

#include "base/rand.h"
#include "chunk/read.h"
#include "metanode/read.h"
#include "namespace/view.h"

#include <stdlib.h>
#include <string.h>

#define PAUSE_MAX_MS 150u
#define CHUNKS_MAX 4096u /* of one target */
#define CHAINS_MAX 256u
#define SEEN_MAX                                                                    \
    ((size_t)1 << 17) /* a power of two; contents and rows of one run, a third more \
                       */

#define PLACES_MAX 16384u /* of one target */
#define PLACES_EVERY 4u   /* looks */
#define DOUBTS_MAX 64u
#define RESOLVE_NS (WORLD_S / 2)

struct watch_place {
    const struct disk_file *file;
    uint64_t offset, end;
    struct chunk_key key;
};
/* Not stable at a member that serves, when a sync was answered: of that file, or of another? */
struct watch_doubt {
    uint64_t ino;
    struct chunk_key key;
    struct chunk_identity identity;
    unsigned node;
};
struct watch_chunk {
    struct chunk_key key;
    uint32_t chain;
    struct chunk_identity committed, pending;
    bool has_pending, damaged, unstable;
};
struct watch_target {
    struct watch *watch;
    unsigned node;
    uint32_t id;
    bool runs;
    struct datanode_worker_chain chain[CHAINS_MAX];
    size_t chain_count;
    struct watch_chunk chunk[CHUNKS_MAX]; /* in the order of their keys */
    size_t chunk_count, place_count;
    struct watch_place place[PLACES_MAX];
    /* Where a loss of power would find what is stable: as of the last look that found it so. */
    struct watch_place stable[PLACES_MAX], kept[PLACES_MAX];
    size_t stable_count;
    uint64_t incarnation; /* of that look */
};
/* A content (a data id is never 0), or the row of an epoch: then `data_id` is 0. */
struct watch_seen {
    uint64_t data_id, ver;
    uint32_t index, epoch; /* index: of a row its chain */
    uint64_t digest, recent;
    uint64_t committed_ns; /* first seen so; 0: never */
    bool used, has_recent;
};
struct watch {
    struct world *w;
    struct loop_sim_event next;
    struct watch_target target[WORLD_TARGETS];
    struct watch_seen *seen; /* by hash, places behind it when that one is taken */
    size_t seen_count;
    uint64_t looks, compared, syncs, places;
    struct watch_doubt doubt[DOUBTS_MAX];
    size_t doubt_count, asked; /* asked: of them the read under way answers so many */
    struct metanode_read read;
    struct loop_sim_event resolve;
    const void *reader; /* the process that reads; it may be killed, and never answer */
    uint64_t reader_life;
    bool reading;
};

/* ---- What was seen ---- */

static uint64_t mix(uint64_t h, uint64_t v)
{
    h ^= v;
    h *= UINT64_C(0x9e3779b97f4a7c15);
    return h ^ (h >> 29);
}

static bool is_same_name(const struct watch_seen *a, const struct watch_seen *b)
{
    return a->data_id == b->data_id && a->index == b->index && a->epoch == b->epoch &&
           a->ver == b->ver;
}

/* The one of the same name, from an earlier look; NULL: now there is one. */
static struct watch_seen *seen_find(struct watch *x, const struct watch_seen *now)
{
    uint64_t h = mix(mix(mix(now->data_id, now->index), now->epoch), now->ver);
    size_t at = h & (SEEN_MAX - 1);
    while (x->seen[at].used && !is_same_name(&x->seen[at], now)) {
        at = (at + 1) & (SEEN_MAX - 1);
    }
    if (x->seen[at].used) {
        x->compared++;
        return &x->seen[at];
    }
    CHECK(++x->seen_count < SEEN_MAX / 4 * 3);
    x->seen[at] = *now;
    x->seen[at].used = true;
    return NULL;
}

/* ---- I2, I7: what one member has, against everything ever seen ---- */

/* In any order: who made the newest updates, and what they were told. */
static uint64_t recent_of(const struct chunk_info *info)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < info->recent_count; i++) {
        const struct chunk_recent *r = &info->recent[i];
        sum += mix(mix(mix(r->client, r->seq), r->ver), r->result);
    }
    return mix(sum, info->recent_count);
}

static void check_content(struct watch_target *t, const struct chunk_info *info, bool pending)
{
    struct chunk_identity id = pending ? info->pending : info->committed;
    struct watch_seen now = {
        .data_id = info->key.data_id,
        .index = info->key.index,
        .epoch = id.aepoch,
        .ver = id.ver,
        .digest = pending ? mix(info->pending_length, info->pending_digest)
                          : mix(info->length, info->digest),
        .has_recent = pending == info->has_pending, /* they are those of the newest content */
        .recent = recent_of(info)};
    if (chunk_identity_none(id)) {
        return;
    }
    now.committed_ns = pending ? 0 : world_now_ns(t->watch->w);
    struct watch_seen *before = seen_find(t->watch, &now);
    if (before == NULL) {
        return;
    }
    before->committed_ns = before->committed_ns == 0 ? now.committed_ns : before->committed_ns;
    if (before->digest != now.digest) {
        world_fail(t->watch->w, "I2: %s has other bytes of chunk %llx.%u as identity %u/%llu%s",
                   t->watch->w->node[t->node].name, (unsigned long long)info->key.data_id,
                   info->key.index, id.aepoch, (unsigned long long)id.ver,
                   pending ? ", pending" : "");
    } else if (now.has_recent && before->has_recent && before->recent != now.recent) {
        world_fail(t->watch->w, "I7: %s knows other updates of chunk %llx.%u, identity %u/%llu%s",
                   t->watch->w->node[t->node].name, (unsigned long long)info->key.data_id,
                   info->key.index, id.aepoch, (unsigned long long)id.ver,
                   pending ? ", pending" : "");
    } else if (now.has_recent && !before->has_recent) {
        before->has_recent = true;
        before->recent = now.recent;
    }
}

/* ---- One look ---- */

static void take_chunk(struct watch_target *t, const struct chunk_info *info)
{
    bool damaged = (info->flags & CHUNK_DAMAGED) != 0;
    CHECK(t->chunk_count < CHUNKS_MAX);
    if (damaged && t->watch->w->rots == 0 && !t->watch->w->node[t->node].store_failed) {
        world_fail(t->watch->w, "I9: chunk %llx.%u of %s is damaged, and no stored byte went bad",
                   (unsigned long long)info->key.data_id, info->key.index,
                   t->watch->w->node[t->node].name);
    }
    t->chunk[t->chunk_count++] = (struct watch_chunk){.key = info->key,
                                                      .chain = info->chain,
                                                      .committed = info->committed,
                                                      .pending = info->pending,
                                                      .has_pending = info->has_pending,
                                                      .damaged = damaged,
                                                      .unstable = info->unstable};
    if (!damaged) { /* else nobody says what it is */
        check_content(t, info, false);
        if (info->has_pending) {
            check_content(t, info, true);
        }
    }
}

/* ---- I9: places ---- */

static void take_place(struct watch_target *t, struct chunk_key key, const struct chunk_piece *p)
{
    if (p->file != NULL && p->len > 0 && t->place_count < PLACES_MAX) {
        t->place[t->place_count++] = (struct watch_place){
            .file = p->file, .offset = p->offset, .end = p->offset + p->len, .key = key};
    }
}

static void take_places(struct watch_target *t, struct chunk_store *s, struct chunk_key key,
                        enum chunk_which which)
{
    struct chunk_pin pin = {.key = key, .which = which, .length = CHUNK_LENGTH_MAX};
    if (chunk_store_pin(s, &pin) < 0) {
        return; /* not in memory, damaged or empty */
    }
    struct chunk_piece piece[16];
    unsigned count = ARRAY_COUNT(piece);
    for (uint32_t from = pin.offset; from < pin.offset + pin.length && count > 0;) {
        from = chunk_pin_pieces(s, &pin, from, piece, ARRAY_COUNT(piece), &count);
        for (unsigned i = 0; i < count; i++) {
            take_place(t, key, &piece[i]);
        }
    }
    chunk_store_unpin(s, &pin);
}

static int compare_places(const void *left, const void *right)
{
    const struct watch_place *a = left, *b = right;
    if (a->file != b->file) {
        return (uintptr_t)a->file < (uintptr_t)b->file ? -1 : 1;
    }
    return a->offset < b->offset ? -1 : a->offset > b->offset ? 1 : 0;
}

static const struct watch_chunk *chunk_find(const struct watch_target *t, struct chunk_key key);

/* What is stable as it is now; of what has changed since, as it was when it was last stable. */
static void keep_stable_places(struct watch_target *t, struct chunk_store *s)
{
    struct chunk_store_info info;
    size_t count = 0, former = t->stable_count;
    chunk_store_info(s, &info);
    for (size_t i = 0; i < t->place_count; i++) {
        const struct watch_chunk *c = chunk_find(t, t->place[i].key);
        if (!c->unstable && !c->has_pending) {
            t->kept[count++] = t->place[i];
        }
    }
    for (size_t i = 0; i < former && info.incarnation == t->incarnation; i++) {
        const struct watch_chunk *c = chunk_find(t, t->stable[i].key);
        bool changed = c != NULL && (c->unstable || c->has_pending) && !c->damaged;
        if (changed && count < PLACES_MAX && t->place_count < PLACES_MAX) {
            t->kept[count++] = t->stable[i];
            t->place[t->place_count++] = t->stable[i];
        }
    }
    memcpy(t->stable, t->kept, count * sizeof t->kept[0]);
    t->stable_count = count;
    t->incarnation = info.incarnation;
}

/* No byte belongs to two chunks, pending contents included, and those that a loss of power would
 * bring back. */
static void check_places(struct watch_target *t, struct chunk_store *s)
{
    t->place_count = 0;
    for (size_t i = 0; i < t->chunk_count; i++) {
        take_places(t, s, t->chunk[i].key, CHUNK_COMMITTED);
        if (t->chunk[i].has_pending) {
            take_places(t, s, t->chunk[i].key, CHUNK_PENDING);
        }
    }
    keep_stable_places(t, s);
    qsort(t->place, t->place_count, sizeof t->place[0], compare_places);
    for (size_t i = 1; i < t->place_count; i++) {
        const struct watch_place *a = &t->place[i - 1], *b = &t->place[i];
        if (a->file == b->file && b->offset < a->end && chunk_key_compare(a->key, b->key) != 0) {
            world_fail(t->watch->w, "I9: chunks %llx.%u and %llx.%u of %s lie at the same place",
                       (unsigned long long)a->key.data_id, a->key.index,
                       (unsigned long long)b->key.data_id, b->key.index,
                       t->watch->w->node[t->node].name);
        }
    }
    t->watch->places += t->place_count;
}

static void look_inside(void *context)
{
    struct watch_target *t = context;
    struct datanode_worker *worker = t->watch->w->node[t->node].process->worker;
    struct chunk_store *s = datanode_worker_store(worker);
    struct datanode_worker_info all;
    struct chunk_info info;
    struct chunk_key from = {0};
    datanode_worker_info(worker, &all);
    t->runs = all.target != 0;
    t->id = all.target;
    t->chain_count = datanode_worker_chains(worker, t->chain, CHAINS_MAX);
    t->chunk_count = 0;
    int rc = 0;
    while (t->runs && (rc = chunk_store_next(s, from, &info)) == 0) {
        if (!chunk_store_dead(s, info.key.data_id)) {
            take_chunk(t, &info);
        }
        from = info.key;
        from.index++;
    }
    t->runs = t->runs && rc == -ENOENT; /* else not all of it is in memory: another time */
    if (t->runs && t->watch->looks % PLACES_EVERY == 0) {
        check_places(t, s);
    }
}

static struct watch_target *target_find(struct watch *x, uint32_t id)
{
    for (unsigned i = 0; i < x->w->targets; i++) {
        if (x->target[i].runs && x->target[i].id == id) {
            return &x->target[i];
        }
    }
    return NULL;
}

static const struct datanode_worker_chain *chain_find(const struct watch_target *t, uint32_t chain)
{
    for (size_t i = 0; i < t->chain_count; i++) {
        if (t->chain[i].row.chain == chain) {
            return &t->chain[i];
        }
    }
    return NULL;
}

/* ---- I8, I5: rows ---- */

static void check_row(struct watch_target *t, const struct cluster_row *row)
{
    struct world *w = t->watch->w;
    struct watch_seen now = {.index = row->chain, .epoch = row->epoch, .digest = row->loss_gen};
    char text[200];
    cluster_row_to_text(row, text, sizeof text);
    if (!cluster_row_valid(row)) {
        world_fail(w, "I8: %s knows a row that may not be: %s", w->node[t->node].name, text);
        return;
    }
    for (size_t i = 0; i < row->count; i++) {
        now.digest = mix(mix(now.digest, row->member[i].target), row->member[i].state);
    }
    const struct watch_seen *before = seen_find(t->watch, &now);
    if (before != NULL && before->digest != now.digest) {
        world_fail(w, "I8: %s knows another row of the same epoch: %s", w->node[t->node].name,
                   text);
    }
}

/* Who shows what it has is serving in every newer row that anybody knows: the row without it came
 * when its lease had ended, or it had stopped. */
static void check_serving(struct watch_target *t, const struct datanode_worker_chain *c)
{
    struct watch *x = t->watch;
    for (unsigned i = 0; c->serves && i < x->w->targets; i++) {
        const struct watch_target *other = &x->target[i];
        const struct datanode_worker_chain *d =
            other->runs ? chain_find(other, c->row.chain) : NULL;
        size_t at = d == NULL ? 0 : cluster_row_find(&d->row, t->id);
        bool serves = d == NULL || d->row.epoch <= c->row.epoch ||
                      (at < d->row.count && d->row.member[at].state == PROTO_MEMBER_SERVING);
        if (!serves) {
            char mine[200], newer[200];
            cluster_row_to_text(&c->row, mine, sizeof mine);
            cluster_row_to_text(&d->row, newer, sizeof newer);
            world_fail(x->w, "I5, I8: %s serves by the row %s; there is %s",
                       x->w->node[t->node].name, mine, newer);
        }
    }
}

/* ---- I3: neighbours ---- */

static const struct watch_chunk *chunk_find(const struct watch_target *t, struct chunk_key key)
{
    size_t from = 0, to = t->chunk_count;
    while (from < to) {
        size_t mid = from + (to - from) / 2;
        int order = chunk_key_compare(t->chunk[mid].key, key);
        if (order == 0) {
            return &t->chunk[mid];
        }
        from = order < 0 ? mid + 1 : from;
        to = order < 0 ? to : mid;
    }
    return NULL;
}

static bool has_identity(const struct watch_chunk *c, struct chunk_identity id)
{
    return chunk_identity_equal(c->committed, id) ||
           (c->has_pending && chunk_identity_equal(c->pending, id));
}

struct watch_pair {
    struct watch_target *before, *behind; /* in the chain */
    bool dead;                            /* out of look_dead() */
    uint64_t data_id;
};

static void look_dead(void *context)
{
    struct watch_pair *p = context;
    const struct watch *x = p->before->watch;
    struct chunk_store *s = datanode_worker_store(x->w->node[p->before->node].process->worker);
    p->dead = chunk_store_dead(s, p->data_id);
}

/* It is removed here, and there not yet. */
static bool is_dead(struct watch_pair p, struct watch_target *at, uint64_t data_id)
{
    p.before = at;
    p.data_id = data_id;
    loop_sim_enter(at->watch->w->node[at->node].process->loop, look_dead, &p);
    return p.dead;
}

/* Of the one that is further on: what it has, the one before it has, committed or pending. */
static void check_neighbours(struct watch_pair p, struct chunk_key key)
{
    static const struct watch_chunk nothing;
    const struct watch_chunk *a = chunk_find(p.before, key), *b = chunk_find(p.behind, key);
    struct world *w = p.before->watch->w;
    if ((a != NULL && a->damaged) || (b != NULL && b->damaged)) {
        return;
    }
    a = a == NULL ? &nothing : a;
    b = b == NULL ? &nothing : b;
    p.before->watch->compared++;
    bool good = has_identity(a, b->committed) && (!b->has_pending || has_identity(a, b->pending));
    if (good || is_dead(p, p.before, key.data_id) || is_dead(p, p.behind, key.data_id)) {
        return;
    }
    world_fail(w,
               "I3: of chunk %llx.%u %s has %u/%llu, pending %u/%llu; behind it %s has %u/%llu, "
               "pending %u/%llu",
               (unsigned long long)key.data_id, key.index, w->node[p.before->node].name,
               a->committed.aepoch, (unsigned long long)a->committed.ver, a->pending.aepoch,
               (unsigned long long)a->pending.ver, w->node[p.behind->node].name,
               b->committed.aepoch, (unsigned long long)b->committed.ver, b->pending.aepoch,
               (unsigned long long)b->pending.ver);
}

static void check_pair(struct watch_pair p, uint32_t chain)
{
    for (size_t i = 0; i < p.before->chunk_count; i++) {
        if (p.before->chunk[i].chain == chain) {
            check_neighbours(p, p.before->chunk[i].key);
        }
    }
    for (size_t i = 0; i < p.behind->chunk_count; i++) {
        if (p.behind->chunk[i].chain == chain) {
            check_neighbours(p, p.behind->chunk[i].key);
        }
    }
}

/* With its successor, if both serve in the same epoch. */
static void check_chain(struct watch_target *t, const struct datanode_worker_chain *c)
{
    size_t own = cluster_row_find(&c->row, t->id);
    if (own + 1 >= cluster_row_serving_count(&c->row) || !c->in_path) {
        return;
    }
    struct watch_pair p = {.before = t,
                           .behind = target_find(t->watch, c->row.member[own + 1].target)};
    const struct datanode_worker_chain *d =
        p.behind == NULL ? NULL : chain_find(p.behind, c->row.chain);
    bool comparable = d != NULL && !t->watch->w->plants;
    if (comparable && d->in_path && d->row.epoch == c->row.epoch) {
        check_pair(p, c->row.chain);
    }
}

/* ---- I6: syncs ---- */

/* Which of the chunks in doubt are of files that were synced? */
static int resolve_read(struct metanode_read *read, const struct namespace_view *v)
{
    struct watch *x = container_of(read, struct watch, read);
    for (size_t i = 0; i < x->asked; i++) {
        const struct watch_doubt *d = &x->doubt[i];
        struct namespace_inode n;
        int rc = namespace_view_inode(v, d->ino, &n);
        if (rc < 0 && rc != -ENOENT) {
            return rc;
        }
        if (rc == 0 && n.data_id == d->key.data_id) {
            world_fail(x->w,
                       "I6: a sync of inode %llu was answered, and %s would lose %u/%llu of chunk "
                       "%llx.%u, which was committed before",
                       (unsigned long long)d->ino, x->w->node[d->node].name, d->identity.aepoch,
                       (unsigned long long)d->identity.ver, (unsigned long long)d->key.data_id,
                       d->key.index);
        }
    }
    return 0;
}

static void resolve_done(struct metanode_read *read, int rc)
{
    struct watch *x = container_of(read, struct watch, read);
    x->reading = false;
    if (rc == 0) {
        x->doubt_count -= x->asked;
        memmove(x->doubt, x->doubt + x->asked, x->doubt_count * sizeof x->doubt[0]);
    }
}

static void resolve_inside(void *context)
{
    struct watch *x = context;
    x->read = (struct metanode_read){.run = resolve_read, .done = resolve_done};
    metanode_read(x->w->node[WORLD_META].process->meta, &x->read);
}

static void resolve(struct loop_sim_event *ev)
{
    struct watch *x = container_of(ev, struct watch, resolve);
    const struct world_node *meta = &x->w->node[WORLD_META];
    bool lives = meta->process != NULL && meta->process == x->reader &&
                 meta->starts == x->reader_life && !meta->process->stopping;
    x->reading = x->reading && lives;
    if (!x->reading && x->doubt_count > 0 && meta->process != NULL && meta->process->meta != NULL &&
        !meta->process->stopping) {
        x->reading = true;
        x->asked = x->doubt_count;
        x->reader = meta->process;
        x->reader_life = meta->starts;
        loop_sim_enter(meta->process->loop, resolve_inside, x);
    }
    loop_sim_at(x->w->sim, &x->resolve, world_now_ns(x->w) + RESOLVE_NS);
}

/* It serves by its own row, has not all of it stable, and that was committed before the sync. */
static void doubt_chunk(struct watch_target *t, const struct watch_chunk *c,
                        const struct watch_sync *sync)
{
    struct watch *x = t->watch;
    const struct datanode_worker_chain *chain = chain_find(t, c->chain);
    struct watch_seen now = {.data_id = c->key.data_id,
                             .index = c->key.index,
                             .epoch = c->committed.aepoch,
                             .ver = c->committed.ver};
    bool serves = chain != NULL && chain->serves; /* with a lease: else it may have been left out */
    bool inside = (uint64_t)c->key.index * WORLD_CHUNK_BYTES < sync->len;
    if (!serves || !inside || !c->unstable || c->has_pending || c->damaged ||
        chunk_identity_none(c->committed)) {
        return;
    }
    const struct watch_seen *seen = seen_find(x, &now);
    bool before = seen != NULL && seen->committed_ns != 0 && seen->committed_ns < sync->began_ns;
    if (before && x->doubt_count < DOUBTS_MAX) {
        x->doubt[x->doubt_count++] = (struct watch_doubt){
            .ino = sync->ino, .key = c->key, .identity = c->committed, .node = t->node};
    }
}

static void look_at_targets(struct watch *x)
{
    for (unsigned i = 0; i < x->w->targets; i++) {
        struct watch_target *t = &x->target[i];
        const struct world_process *p = x->w->node[t->node].process;
        t->runs = false;
        if (p != NULL && p->worker != NULL && !p->stopping) {
            loop_sim_enter(p->loop, look_inside, t);
        }
    }
}

void watch_synced(struct watch *x, const struct watch_sync *sync)
{
    x->syncs++;
    look_at_targets(x);
    for (unsigned i = 0; i < x->w->targets; i++) {
        struct watch_target *t = &x->target[i];
        for (size_t k = 0; t->runs && k < t->chunk_count; k++) {
            doubt_chunk(t, &t->chunk[k], sync);
        }
    }
}

/* ---- All of it ---- */

static void look(struct loop_sim_event *ev)
{
    struct watch *x = container_of(ev, struct watch, next);
    struct world *w = x->w;
    look_at_targets(x);
    for (unsigned i = 0; i < x->w->targets; i++) {
        struct watch_target *t = &x->target[i];
        for (size_t k = 0; t->runs && k < t->chain_count; k++) {
            check_row(t, &t->chain[k].row);
            check_serving(t, &t->chain[k]);
            check_chain(t, &t->chain[k]);
        }
    }
    x->looks++;
    loop_sim_at(w->sim, &x->next, world_now_ns(w) + world_between(w, 1, PAUSE_MAX_MS) * WORLD_MS);
}

struct watch *watch_new(struct world *w)
{
    struct watch *x = mem_zalloc(sizeof *x);
    CHECK(x != NULL);
    x->w = w;
    x->next.run = look;
    x->resolve.run = resolve;
    x->seen = mem_calloc(SEEN_MAX, sizeof *x->seen);
    CHECK(x->seen != NULL);
    for (unsigned i = 0; i < WORLD_TARGETS; i++) {
        x->target[i].watch = x;
        x->target[i].node = WORLD_TARGET(i);
    }
    return x;
}

struct watch *watch_free(struct watch *x)
{
    mem_free(x->seen);
    mem_free(x);
    return NULL;
}

void watch_begin(struct watch *x)
{
    loop_sim_at(x->w->sim, &x->next, world_now_ns(x->w) + WORLD_MS);
    loop_sim_at(x->w->sim, &x->resolve, world_now_ns(x->w) + RESOLVE_NS);
}

void watch_end(struct watch *x)
{
    loop_sim_cancel(x->w->sim, &x->next);
    loop_sim_cancel(x->w->sim, &x->resolve);
}

uint64_t watch_syncs(const struct watch *x)
{
    return x->syncs;
}

uint64_t watch_places(const struct watch *x)
{
    return x->places;
}

uint64_t watch_looks(const struct watch *x)
{
    return x->looks;
}

uint64_t watch_compared(const struct watch *x)
{
    return x->compared;
}

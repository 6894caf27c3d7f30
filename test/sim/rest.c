/* sim/rest.c -- see rest.h. */
#include "rest.h"

#include "base/crc32c.h"
#include "base/fault.h"
#include "chunk/hold.h"
#include "chunk/read.h"
#include "cluster/chain.h"
#include "lost.h"
#include "metanode/read.h"
#include "namespace/fsck.h"
#include "orphans.h"

#include <stdio.h>
#include <string.h>

#define FILES_MAX 2048u
#define CHUNKS_MAX 4096u /* of one target */
#define ROWS_MAX 256u
#define LOST_MAX 256u
#define LOOK_NS (250 * WORLD_MS)
#define QUIET_NS (240 * WORLD_S)
#define OTHER_CLASS 2u
#define VERIFY_NS (120 * WORLD_S)

/* ---- What is seen ---- */

struct rest_chunk {
    struct chunk_key key;
    uint32_t chain, length, digest, tgen;
    struct chunk_identity identity;
    bool pending, damaged;
};
struct rest_target {
    struct rest *rest;
    unsigned node;
    uint32_t id; /* in rows */
    struct rest_chunk chunk[CHUNKS_MAX];
    struct chunk_sum sum[ROWS_MAX]; /* of the chain of each row */
    size_t count;
    struct chunk_verify verify;
    struct chunk_ahead ahead;
    struct chunk_key next; /* to be verified */
    bool verifying, verified;
    size_t damaged;
};
struct rest_file { /* with a data id */
    uint64_t ino, data_id, size;
    uint32_t chunk_size;
    bool in_line;
};
struct rest_row {
    uint32_t chain, target[CLUSTER_MEMBERS_MAX];
    size_t count, serving;
    bool other; /* of the second storage class */
};
struct rest {
    struct world *w;
    struct rest_target target[WORLD_TARGETS];
    struct rest_file file[FILES_MAX];
    struct rest_row row[ROWS_MAX];
    size_t file_count, row_count;
    size_t garbage, trims, fences, writers, orphans;
    struct namespace_state state;
    uint64_t findings; /* of the check of all records */
    struct metanode_read read;
    struct loop_sim_event look;
    uint64_t meta_life;
    bool reading, looked;
};

/* ---- The metadata ---- */

static int count_records(const struct namespace_view *v, enum namespace_range range, size_t *ret)
{
    struct namespace_key prefix = namespace_key(range);
    struct namespace_scan scan;
    *ret = 0;
    int rc = namespace_scan_init(&scan, v, &prefix, NULL);
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        ++*ret;
        rc = 0;
    }
    namespace_scan_fini(&scan);
    return rc;
}

static int see_files(struct rest *x, const struct namespace_view *v)
{
    struct namespace_key prefix = namespace_key(NAMESPACE_INODE);
    struct namespace_scan scan;
    x->file_count = 0;
    int rc = namespace_scan_init(&scan, v, &prefix, NULL);
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        struct namespace_inode n;
        uint64_t ino = namespace_key_read_u64(scan.it->key, 1);
        rc = namespace_scan_value(&scan, &namespace_inode_type, &n);
        if (rc == 0 && n.type == PROTO_INODE_FILE && n.data_id != 0) {
            CHECK(x->file_count < FILES_MAX);
            x->file[x->file_count++] =
                (struct rest_file){.ino = ino,
                                   .data_id = n.data_id,
                                   .size = n.size,
                                   .chunk_size = n.chunk_size,
                                   .in_line = (n.flags & PROTO_INODE_INLINE) != 0};
        }
    }
    namespace_scan_fini(&scan);
    return rc;
}

/* Every version of its table: older ones are those of older files. */
static int see_other_class(struct rest *x, const struct namespace_view *v)
{
    struct proto_table table;
    int rc = 0;
    for (uint32_t version = 1; rc == 0; version++) {
        rc = namespace_view_table(v, OTHER_CLASS, version, &table);
        for (size_t i = 0; rc == 0 && i < table.chains.count; i++) {
            for (size_t k = 0; k < x->row_count; k++) {
                x->row[k].other = x->row[k].other || x->row[k].chain == table.chains.at[i];
            }
        }
    }
    return rc == -ENOENT ? 0 : rc;
}

static int see_rows(struct rest *x, const struct namespace_view *v)
{
    struct proto_row_list rows;
    int rc = namespace_rows(v, 0, ROWS_MAX, &rows);
    x->row_count = 0;
    for (size_t i = 0; rc == 0 && i < rows.count; i++) {
        const struct proto_row *from = &rows.at[i];
        struct rest_row *row = &x->row[x->row_count++];
        *row = (struct rest_row){.chain = from->chain, .count = from->members.count};
        for (size_t k = 0; k < from->members.count; k++) {
            row->target[k] = from->members.at[k].target;
            row->serving += from->members.at[k].state == PROTO_MEMBER_SERVING ? 1 : 0;
        }
    }
    return rc < 0 ? rc : see_other_class(x, v);
}

static void see_finding(struct namespace_fsck_sink *s, const struct namespace_finding *f)
{
    (void)s;
    (void)fprintf(stderr, "metadata: %s (inode %llu): %s [%s]\n", f->path,
                  (unsigned long long)f->ino, f->text, f->code);
}

/* Do all records agree? */
static int see_records(struct rest *x, const struct namespace_view *v)
{
    struct namespace_fsck_sink sink = {.found = see_finding};
    struct namespace_fsck f = {.done = false};
    int rc = 0;
    while (rc == 0 && !f.done) {
        rc = namespace_fsck_step(v, 1000, &f, &sink);
    }
    x->findings = f.findings;
    return rc;
}

static int see(struct metanode_read *read, const struct namespace_view *v)
{
    struct rest *x = container_of(read, struct rest, read);
    int rc = namespace_view_state(v, &x->state);
    rc = rc < 0 ? rc : count_records(v, NAMESPACE_GARBAGE, &x->garbage);
    rc = rc < 0 ? rc : count_records(v, NAMESPACE_TRIM, &x->trims);
    rc = rc < 0 ? rc : count_records(v, NAMESPACE_FENCE, &x->fences);
    rc = rc < 0 ? rc : count_records(v, NAMESPACE_WOPEN, &x->writers);
    rc = rc < 0 ? rc : count_records(v, NAMESPACE_ORPHAN, &x->orphans);
    rc = rc < 0 ? rc : see_files(x, v);
    rc = rc < 0 ? rc : see_records(x, v);
    return rc < 0 ? rc : see_rows(x, v);
}

static void seen(struct metanode_read *read, int rc)
{
    struct rest *x = container_of(read, struct rest, read);
    x->reading = false;
    x->looked = rc == 0;
}

static void look_inside(void *context)
{
    struct rest *x = context;
    x->read = (struct metanode_read){.run = see, .done = seen};
    metanode_read(x->w->node[WORLD_META].process->meta, &x->read);
}

static void look(struct loop_sim_event *ev)
{
    struct rest *x = container_of(ev, struct rest, look);
    struct world_node *meta = &x->w->node[WORLD_META];
    if (!x->reading && meta->process != NULL && meta->process->meta != NULL) {
        x->reading = true;
        x->looked = false; /* counts change meanwhile */
        loop_sim_enter(meta->process->loop, look_inside, x);
    }
    loop_sim_at(x->w->sim, &x->look, world_now_ns(x->w) + LOOK_NS);
}

static bool is_quiet(void *context)
{
    const struct rest *x = context;
    return x->looked && x->garbage == 0 && x->trims == 0 && x->fences == 0 && x->writers == 0 &&
           x->orphans == 0 && world_is_healthy(x->w, WORLD_HOSTS);
}

/* ---- Targets ---- */

static struct chunk_store *store_of(const struct rest_target *t)
{
    return datanode_worker_store(t->rest->w->node[t->node].process->worker);
}

static void verify_next(struct rest_target *t);

static void verify_done(struct chunk_verify *v, int rc)
{
    struct rest_target *t = container_of(v, struct rest_target, verify);
    (void)rc; /* a bad one is flagged, and repaired by its target */
    verify_next(t);
}

static void verify_read(struct chunk_ahead *a, int rc)
{
    struct rest_target *t = container_of(a, struct rest_target, ahead);
    CHECK(rc == 0);
    verify_next(t);
}

static void verify_next(struct rest_target *t)
{
    struct chunk_info info;
    int rc = chunk_store_next(store_of(t), t->next, &info);
    if (rc == -ERR_need) {
        t->ahead.done = verify_read;
        t->ahead.from = t->next;
        CHECK(chunk_store_ahead(store_of(t), &t->ahead) == 0);
        return;
    }
    if (rc < 0) {
        chunk_store_ahead_end(store_of(t), &t->ahead);
        t->verified = true;
        return;
    }
    t->next = info.key;
    t->next.index++;
    t->verify = (struct chunk_verify){.done = verify_done, .key = info.key};
    chunk_store_verify(store_of(t), &t->verify);
}

static void verify_inside(void *context)
{
    verify_next(context);
}

static void list_inside(void *context)
{
    struct rest_target *t = context;
    struct chunk_key from = {0};
    struct fault *fault = t->rest->w->node[t->node].process->env.fault;
    if (fault != NULL) {
        fault_disarm(fault, NULL);
    }
    struct chunk_info info;
    int rc = 0;
    t->count = 0;
    while ((rc = chunk_store_next(store_of(t), from, &info)) == 0) {
        CHECK(t->count < CHUNKS_MAX);
        t->chunk[t->count++] = (struct rest_chunk){.key = info.key,
                                                   .chain = info.chain,
                                                   .length = info.length,
                                                   .digest = info.digest,
                                                   .tgen = info.tgen,
                                                   .identity = info.committed,
                                                   .pending = info.has_pending,
                                                   .damaged = (info.flags & CHUNK_DAMAGED) != 0};
        from = info.key;
        from.index++;
    }
    CHECK(rc == -ENOENT); /* the verification has read all of the index */
    for (size_t i = 0; i < t->rest->row_count; i++) {
        CHECK(chunk_store_sum(store_of(t), t->rest->row[i].chain, &t->sum[i]));
    }
    struct datanode_worker_info w;
    datanode_worker_info(t->rest->w->node[t->node].process->worker, &w);
    t->id = w.target;
}

/* ---- Comparing ---- */

static void chunk_text(const struct rest_target *t, const struct rest_chunk *c, char *to,
                       size_t size)
{
    if (c == NULL) {
        snprintf(to, size, "%s has none", t->rest->w->node[t->node].name);
        return;
    }
    snprintf(to, size, "%s has identity %u/%llu, %u bytes, digest %08x, tgen %u%s%s",
             t->rest->w->node[t->node].name, c->identity.aepoch,
             (unsigned long long)c->identity.ver, c->length, c->digest, c->tgen,
             c->pending ? ", a pending update" : "", c->damaged ? ", damaged" : "");
}

static void differ(const struct rest_target *a, const struct rest_chunk *c,
                   const struct rest_target *b, const struct rest_chunk *d, const char *what)
{
    char left[128], right[128] = "";
    chunk_text(a, c, left, sizeof left);
    if (b != NULL) {
        chunk_text(b, d, right, sizeof right);
    }
    world_fail(a->rest->w, "at rest: %s: chunk %llx.%u of chain %u: %s%s%s", what,
               (unsigned long long)c->key.data_id, c->key.index, c->chain, left,
               b != NULL ? "; " : "", right);
}

static const struct rest_chunk *chunk_find(const struct rest_target *t, struct chunk_key key)
{
    for (size_t i = 0; i < t->count; i++) {
        if (chunk_key_compare(t->chunk[i].key, key) == 0) {
            return &t->chunk[i];
        }
    }
    return NULL;
}

static const struct rest_file *file_find(const struct rest *x, uint64_t data_id)
{
    for (size_t i = 0; i < x->file_count; i++) {
        if (x->file[i].data_id == data_id) {
            return &x->file[i];
        }
    }
    return NULL;
}

static const struct rest_row *row_find(const struct rest *x, uint32_t chain)
{
    for (size_t i = 0; i < x->row_count; i++) {
        if (x->row[i].chain == chain) {
            return &x->row[i];
        }
    }
    return NULL;
}

static const struct rest_target *target_find(const struct rest *x, uint32_t id)
{
    for (unsigned i = 0; i < x->w->targets; i++) {
        if (x->target[i].id == id) {
            return &x->target[i];
        }
    }
    return NULL;
}

/* A first update was refused: only its number is kept, by whom it has reached. */
static bool has_content(const struct rest_chunk *c)
{
    return c != NULL && (!chunk_identity_none(c->identity) || c->damaged);
}

static bool is_same(const struct rest_chunk *a, const struct rest_chunk *b)
{
    return chunk_identity_equal(a->identity, b->identity) && a->length == b->length &&
           a->digest == b->digest && a->tgen == b->tgen;
}

/* Of a chain that it has left while its process was down: nobody reads it, and it stays. A process
 * that has lived from the beginning has seen it leave. */
static bool is_left(const struct rest_target *t, const struct rest_chunk *c)
{
    const struct rest_row *row = row_find(t->rest, c->chain);
    struct chunk_store_info info;
    for (size_t i = 0; row != NULL && i < row->count; i++) {
        if (target_find(t->rest, row->target[i]) == t) {
            return false;
        }
    }
    chunk_store_info(store_of(t), &info);
    return info.incarnation > 1;
}

/* Damaged chunks of chains that it is in: of those that it has left nobody has a copy for it. */
static void count_inside(void *context)
{
    struct rest_target *t = context;
    struct chunk_key from = {0};
    struct chunk_info info;
    int rc = 0;
    t->damaged = 0;
    while ((rc = chunk_store_next(store_of(t), from, &info)) == 0) {
        struct rest_chunk c = {.key = info.key, .chain = info.chain};
        bool damaged = (info.flags & CHUNK_DAMAGED) != 0;
        t->damaged += damaged && !is_left(t, &c) ? 1 : 0;
        from = info.key;
        from.index++;
    }
    t->damaged += rc == -ENOENT ? 0 : 1; /* not all of it is in memory: it is looked again */
}

static bool is_verified(struct rest_target *t)
{
    const struct world_node *n = &t->rest->w->node[t->node];
    struct datanode_worker_info info;
    datanode_worker_info(n->process->worker, &info);
    t->id = info.target;
    if (t->verified && info.damaged_count > 0 && !world_may_lack_good_copies(t->rest->w)) {
        loop_sim_enter(n->process->loop, count_inside, t);
        return t->damaged == 0;
    }
    return t->verified;
}

static bool all_verified(void *context)
{
    struct rest *x = context;
    bool all = true;
    for (unsigned i = 0; i < x->w->targets; i++) {
        all = is_verified(&x->target[i]) && all;
    }
    return all;
}

static void compare_members(const struct rest_target *t, const struct rest_chunk *c)
{
    const struct rest *x = t->rest;
    const struct rest_row *row = row_find(x, c->chain);
    bool member = false;
    for (size_t i = 0; row != NULL && i < row->count; i++) {
        const struct rest_target *other = target_find(x, row->target[i]);
        member = member || other == t;
        const struct rest_chunk *d = other == NULL ? NULL : chunk_find(other, c->key);
        bool excused = world_may_lack_good_copies(x->w) && (c->damaged || (d && d->damaged));
        if (other != NULL && !excused && has_content(c) && (!has_content(d) || !is_same(c, d))) {
            differ(t, c, other, d, "members differ");
        }
    }
    if (!member) {
        differ(t, c, NULL, NULL, "its target is no member of the chain");
    }
    if (c->pending) {
        differ(t, c, NULL, NULL, "an update is pending");
    }
    if (c->damaged && !world_may_lack_good_copies(x->w)) {
        differ(t, c, NULL, NULL, "damaged, though there was a good copy");
    }
}

/* A truncation upwards in chunks: what is there says nothing. */
static bool is_zeros(const struct rest_chunk *c)
{
    static const uint8_t zeros[CHUNK_CELL];
    uint32_t crc[CHUNK_CELLS_MAX];
    uint32_t cells = chunk_cells(c->length);
    for (uint32_t i = 0; i < cells; i++) {
        crc[i] = crc32c(0, zeros, chunk_cell_bytes(c->length, i));
    }
    return chunk_digest(c->length, crc) == c->digest;
}

static void compare_file(const struct rest_target *t, const struct rest_chunk *c)
{
    const struct rest *x = t->rest;
    const struct rest_file *f = file_find(x, c->key.data_id);
    char what[100];
    if (f == NULL) {
        differ(t, c, NULL, NULL, "no file has this data");
        return;
    }
    uint64_t end = c->length == 0 ? 0 : (uint64_t)c->key.index * f->chunk_size + c->length;
    if (end > (f->in_line ? 0 : f->size) && !is_zeros(c)) {
        snprintf(what, sizeof what, "bytes behind the end of inode %llu, %llu long%s",
                 (unsigned long long)f->ino, (unsigned long long)f->size,
                 f->in_line ? " and in the metadata" : "");
        differ(t, c, NULL, NULL, what);
    }
}

/* What members would say of a chain as one number: it is kept with each change, through all faults.
 */
static void compare_sums(const struct rest *x, size_t row)
{
    const struct rest_target *first = NULL;
    for (size_t i = 0; i < x->row[row].count; i++) {
        const struct rest_target *t = target_find(x, x->row[row].target[i]);
        uint64_t count = 0;
        for (size_t k = 0; t != NULL && k < t->count; k++) {
            const struct rest_chunk *c = &t->chunk[k];
            count += c->chain == x->row[row].chain && !chunk_identity_none(c->identity) ? 1 : 0;
        }
        if (t == NULL) {
            continue;
        }
        first = first == NULL ? t : first;
        bool same = first->sum[row].count == t->sum[row].count &&
                    first->sum[row].digest == t->sum[row].digest;
        if (t->sum[row].count != count || (!same && !world_may_lack_good_copies(x->w))) {
            world_fail(x->w, "at rest: chain %u: the sums of %s and %s differ, %llu of %llu chunks",
                       x->row[row].chain, x->w->node[first->node].name, x->w->node[t->node].name,
                       (unsigned long long)t->sum[row].count, (unsigned long long)count);
        }
    }
}

static uint32_t copies_of(const struct rest *x, size_t row)
{
    return x->row[row].other ? x->w->other_copies : x->w->copies;
}

static void compare(const struct rest *x)
{
    for (size_t i = 0; i < x->row_count; i++) {
        if (x->row[i].serving < x->row[i].count || x->row[i].count != copies_of(x, i)) {
            world_fail(x->w, "at rest: chain %u: %zu of %zu members serve", x->row[i].chain,
                       x->row[i].serving, x->row[i].count);
        }
        compare_sums(x, i);
    }
    for (unsigned i = 0; i < x->w->targets; i++) {
        for (size_t k = 0; k < x->target[i].count; k++) {
            if (!is_left(&x->target[i], &x->target[i].chunk[k])) {
                compare_members(&x->target[i], &x->target[i].chunk[k]);
                compare_file(&x->target[i], &x->target[i].chunk[k]);
            }
        }
    }
}

/* ---- What is lost ---- */

/* Its record has gone bad: whoever has it knows only that there was something. */
static bool is_unknown(const struct rest_chunk *c)
{
    return c->damaged && c->chain == 0;
}

/* All who have it have it damaged. */
static bool is_lost(const struct rest *x, const struct rest_chunk *c)
{
    const struct rest_row *row = row_find(x, c->chain);
    if (is_unknown(c)) {
        return x->w->copies == 1 && x->w->other_copies <= 1;
    }
    bool lost = c->damaged && row != NULL;
    for (size_t i = 0; lost && i < row->count; i++) {
        const struct rest_target *t = target_find(x, row->target[i]);
        const struct rest_chunk *d = t == NULL ? NULL : chunk_find(t, c->key);
        lost = d == NULL || d->damaged;
    }
    return lost;
}

/* Nothing is damaged whose bytes did not go bad. */
static void check_rotten(const struct rest_target *t, const struct rest_chunk *c)
{
    const struct world *w = t->rest->w;
    bool known = w->rotten_unknown || !c->damaged;
    for (unsigned i = 0; i < w->rotten_count && !known; i++) {
        known = chunk_key_compare(w->rotten_key[i], c->key) == 0;
    }
    if (!known) {
        differ(t, c, NULL, NULL, "damaged, and none of its bytes went bad");
    }
}

static void check_lost(struct rest *x)
{
    struct lost_chunk lost[LOST_MAX];
    size_t count = 0;
    for (unsigned i = 0; i < x->w->targets; i++) {
        const struct rest_target *t = &x->target[i];
        for (size_t k = 0; k < t->count; k++) {
            const struct rest_chunk *c = &t->chunk[k];
            const struct rest_file *f = file_find(x, c->key.data_id);
            check_rotten(t, c);
            bool counts = is_unknown(c) || !is_left(t, c);
            if (counts && f != NULL && !f->in_line && is_lost(x, c) && count < LOST_MAX &&
                (uint64_t)c->key.index * f->chunk_size < f->size) {
                lost[count++] = (struct lost_chunk){.ino = f->ino, .key = c->key};
            }
        }
    }
    if (!world_failed(x->w)) {
        lost_check(x->w, lost, count);
    }
}

/* ---- What belongs to nobody ---- */

/* Does a file have it, or has a target removed it? Then it takes nothing of it any more. */
static bool is_used(const struct rest *x, uint64_t data_id)
{
    bool used = false;
    for (size_t i = 0; i < x->file_count && !used; i++) {
        used = x->file[i].data_id == data_id;
    }
    for (unsigned i = 0; i < x->w->targets && !used; i++) {
        used = chunk_store_dead(store_of(&x->target[i]), data_id);
    }
    return used;
}

/* The newest data id that no file has, nor had; 0: there is none. */
static uint64_t nobodys(const struct rest *x)
{
    uint64_t id = x->state.next_data_id - 1;
    while (id > 0 && is_used(x, id)) {
        id--;
    }
    return id;
}

/* All but the orphan is there afterwards as it was before. */
static void check_orphans(struct rest *x)
{
    size_t count[WORLD_TARGETS] = {0};
    struct orphans_place place = {.data_id = nobodys(x), .chain = x->row[0].chain};
    for (size_t i = 0; i < x->row[0].count; i++) {
        const struct rest_target *t = target_find(x, x->row[0].target[i]);
        CHECK(t != NULL);
        place.node[place.count++] = t->node;
    }
    for (unsigned i = 0; i < x->w->targets; i++) {
        count[i] = x->target[i].count;
    }
    if (place.data_id == 0) {
        return;
    }
    orphans_check(x->w, &place);
    for (unsigned i = 0; i < x->w->targets && !world_failed(x->w); i++) {
        loop_sim_enter(x->w->node[x->target[i].node].process->loop, list_inside, &x->target[i]);
        if (x->target[i].count < count[i]) {
            world_fail(x->w, "looks for orphans have removed %zu chunks of %s",
                       count[i] - x->target[i].count, x->w->node[x->target[i].node].name);
        }
    }
    if (!world_failed(x->w)) {
        compare(x);
    }
}

/* ---- All of it ---- */

static void wait_until_quiet(struct rest *x)
{
    struct world *w = x->w;
    loop_sim_at(w->sim, &x->look, world_now_ns(w) + LOOK_NS);
    world_run(w, is_quiet, x, QUIET_NS, "coming to rest");
    loop_sim_cancel(w->sim, &x->look);
    if (world_failed(w)) {
        snprintf(w->failure, sizeof w->failure,
                 "does not come to rest: %s; left: %zu removed files, %zu trims, %zu fences, %zu "
                 "writers, %zu nameless files",
                 world_is_healthy(w, WORLD_HOSTS) ? "healthy" : "not healthy", x->garbage, x->trims,
                 x->fences, x->writers, x->orphans);
    } else if (x->findings > 0) {
        world_fail(w, "%llu records of the metadata do not agree with the others",
                   (unsigned long long)x->findings);
    }
}

static bool read_is_over(void *context)
{
    return !((struct rest *)context)->reading;
}

static void look_at_targets(struct rest *x)
{
    struct world *w = x->w;
    for (unsigned i = 0; i < x->w->targets && !world_failed(w); i++) {
        loop_sim_enter(w->node[x->target[i].node].process->loop, verify_inside, &x->target[i]);
    }
    world_run(w, all_verified, x, VERIFY_NS, "every copy is verified and repaired");
    for (unsigned i = 0; i < x->w->targets && !world_failed(w); i++) {
        loop_sim_enter(w->node[x->target[i].node].process->loop, list_inside, &x->target[i]);
    }
}

void rest_check(struct world *w)
{
    struct rest *x = mem_zalloc(sizeof *x);
    CHECK(x != NULL);
    x->w = w;
    x->look.run = look;
    for (unsigned i = 0; i < x->w->targets; i++) {
        x->target[i].rest = x;
        x->target[i].node = WORLD_TARGET(i);
    }
    wait_until_quiet(x);
    if (!world_failed(w)) {
        world_run(w, read_is_over, x, WORLD_S, "the last look ends");
        look_at_targets(x);
    }
    if (!world_failed(w)) {
        compare(x);
    }
    if (!world_failed(w)) {
        check_lost(x);
    }
    if (!world_failed(w)) {
        check_orphans(x);
    }
    loop_sim_kill_machine(w->sim, w->node[WORLD_META].host); /* what reads for us */
    mem_free(x);
}

#include "metanode/restore.h"

#include "consensus/begin.h"
#include "disk/disk.h"
#include "kv/image_file.h"
#include "metanode/metanode_priv.h"
#include "namespace/restore.h"

#define RESTORE_VOTER 1u
#define RESTORE_SESSIONS 256u
#define RESTORE_TERM_LEAP 65536u
#define RESTORE_WAIT_NS (100 * METANODE_NS_PER_MS)
#define RESTORE_BATCH_BYTES (1u << 20) /* of records that are committed together */

struct restore {
    const struct metanode_restore *opt;
    struct metanode_restored *ret;
    char *state, *log;
    struct kv_image_info image;
    struct metanode_engine engine;
    struct kv *kv; /* the engine's */
    struct namespace *ns;
    struct kv_need need;
    struct mem_arena arena;
    uint64_t index, term;
    struct kv_fetch fetch;
    struct kv_room room;
    struct kv_checkpoint checkpoint;
    struct kv_stop stop;
    bool waited;
    int rc; /* of what was waited for */
};

/* ---- waiting for the engine ---- */

static int restore_wait(struct restore *x)
{
    while (!x->waited) {
        loop_run_once(x->opt->env->loop, RESTORE_WAIT_NS);
    }
    return x->rc;
}

static void restore_over(struct restore *x, int rc)
{
    x->waited = true;
    x->rc = rc;
}

static void restore_begin(struct restore *x)
{
    x->waited = false;
}

static void restore_fetched(struct kv_fetch *f, int rc)
{
    restore_over(container_of(f, struct restore, fetch), rc);
}

static void restore_has_room(struct kv_room *r)
{
    restore_over(container_of(r, struct restore, room), 0);
}

static void restore_saved(struct kv_checkpoint *c, int rc)
{
    restore_over(container_of(c, struct restore, checkpoint), rc);
}

static void restore_stopped(struct kv_stop *s)
{
    restore_over(container_of(s, struct restore, stop), 0);
}

/* Is what ended with *rc to be done again, with what it lacked? Else it is over. */
static bool restore_again(struct restore *x, int *rc)
{
    int why = *rc;
    if (why != -ERR_need && why != -ERR_busy) {
        return false;
    }
    restore_begin(x);
    if (why == -ERR_need) {
        x->fetch = (struct kv_fetch){.need = &x->need, .done = restore_fetched};
        kv_fetch(x->kv, &x->fetch);
    } else {
        x->room = (struct kv_room){.done = restore_has_room};
        kv_room(x->kv, &x->room);
    }
    *rc = restore_wait(x);
    return *rc == 0;
}

static int restore_commit(struct restore *x, const struct kv_batch *b, uint64_t index)
{
    int rc;
    do {
        rc = kv_commit(x->kv, b, index);
    } while (restore_again(x, &rc));
    return rc;
}

/* ---- the directory ---- */

static int restore_is_empty(const struct metanode_restore *r, struct err *e)
{
    struct disk_req list = {.op = DISK_LIST, .path = r->directory};
    int rc = (int)disk_now(r->env->disk, &list);
    if (rc == -ENOENT) {
        return 0;
    }
    if (rc < 0) {
        return err_set(e, rc, "look at '%s'", r->directory);
    }
    bool empty = list.names->count == 0;
    mem_free(list.names);
    return empty ? 0 : err_set(e, -ENOTEMPTY, "restore into '%s'", r->directory);
}

static int restore_directories(struct restore *x, struct err *e)
{
    const struct metanode_restore *r = x->opt;
    x->state = mem_printf("%s/state", r->directory);
    x->log = mem_printf("%s/log", r->directory);
    if (x->state == NULL || x->log == NULL) {
        return -ENOMEM;
    }
    int rc = disk_make_directories(r->env->disk, x->state);
    rc = rc < 0 ? rc : disk_make_directories(r->env->disk, x->log);
    return rc < 0 ? err_set(e, rc, "make '%s'", r->directory) : 0;
}

static int restore_check(struct restore *x, struct err *e)
{
    const struct metanode_restore *r = x->opt;
    int rc = restore_is_empty(r, e);
    rc = rc < 0 ? rc : kv_image_file_verify(r->env->disk, r->backup, &x->image, e);
    if (rc < 0) {
        return rc;
    }
    if (memcmp(x->image.owner, r->cluster_id->bytes, sizeof x->image.owner) != 0) {
        struct uuid owner;
        char text[UUID_TEXT_SIZE];
        memcpy(owner.bytes, x->image.owner, sizeof owner.bytes);
        uuid_to_text(&owner, text);
        return err_set(e, -ERR_wrong_cluster, "backup '%s' is of cluster %s", r->backup, text);
    }
    x->ret->index = x->image.index;
    x->ret->records = x->image.records;
    return 0;
}

/* ---- the state ---- */

static int restore_open(struct restore *x, struct err *e)
{
    const struct metanode_restore *r = x->opt;
    struct metanode_engine_options o = {.env = r->env,
                                        .directory = r->directory,
                                        .kind = r->engine,
                                        .cache_bytes = r->cache_bytes,
                                        .owner = x->image.owner,
                                        .budget = r->env->budget,
                                        .need_permille = r->need_permille,
                                        .busy_permille = r->busy_permille};
    int rc = metanode_engine_open(&x->engine, &o, e);
    x->kv = x->engine.kv;
    struct namespace_options ns = {.kv = x->kv};
    return rc < 0 ? rc : namespace_new(&ns, &x->ns);
}

/* As much of the backup as goes into one batch. 1: there is more. */
static int restore_batch(struct restore *x, struct kv_image_file *f, struct kv_batch *b,
                         struct err *e)
{
    struct kv_slice key, value;
    int rc = 1;
    kv_batch_clear(b);
    while (rc == 1 && b->len < RESTORE_BATCH_BYTES) {
        rc = kv_image_file_next(f, &key, &value, e);
        int put = rc == 1 ? kv_batch_put(b, key, value) : 0;
        rc = put < 0 ? put : rc;
    }
    int done = rc < 0 ? 0 : restore_commit(x, b, x->image.index);
    return done < 0 ? err_set(e, done, "write '%s'", x->state) : rc;
}

static int restore_records(struct restore *x, struct err *e)
{
    struct kv_image_file f = {0};
    struct kv_batch batch = {0};
    int rc = kv_image_file_open(x->opt->env->disk, x->opt->backup, &f, e);
    if (rc < 0) {
        return rc;
    }
    do {
        rc = restore_batch(x, &f, &batch, e);
    } while (rc == 1);
    kv_batch_fini(&batch);
    kv_image_file_close(&f);
    return rc;
}

static int restore_view(struct restore *x, struct kv_snapshot **ret, struct namespace_view *v)
{
    int rc = kv_snapshot_new(x->kv, ret);
    mem_arena_reset(&x->arena);
    *v = (struct namespace_view){.snapshot = *ret, .need = &x->need, .arena = &x->arena};
    return rc;
}

/* Since 2001: epochs have room for this until 2137. */
static uint32_t restore_epoch(uint64_t seconds)
{
    const uint64_t begin = 1000000000;
    return seconds <= begin ? 0 : (uint32_t)base_min(seconds - begin, UINT32_MAX);
}

/* Numbers given since the backup are below what the clock says now: fewer than a million a second
 * are given, and epochs change less often than every second on the average. Two restores that are
 * ten minutes apart differ by more than data nodes take for changes that they have missed. */
static int restore_plan(struct restore *x, struct kv_batch *batch)
{
    CLEANUP(kv_snapshot_freep) struct kv_snapshot *s = NULL;
    uint64_t seconds = loop_wall_ns(x->opt->env->loop) / (1000 * METANODE_NS_PER_MS);
    struct namespace_view v;
    struct namespace_state state;
    kv_batch_clear(batch);
    int rc = restore_view(x, &s, &v);
    rc = rc < 0 ? rc : namespace_view_state(&v, &state);
    if (rc < 0) {
        return rc;
    }
    x->index = base_max(state.applied_index, x->image.index) + 1;
    x->term = base_max(x->image.term + RESTORE_TERM_LEAP, seconds);
    struct namespace_restoring r = {.index = x->index,
                                    .floor = seconds << 20,
                                    .epoch_floor = restore_epoch(seconds),
                                    .time_ns = (int64_t)loop_wall_ns(x->opt->env->loop)};
    return namespace_restore(&v, &r, batch);
}

static int restore_leap(struct restore *x, struct err *e)
{
    struct kv_batch batch = {0};
    int rc;
    do {
        rc = restore_plan(x, &batch);
    } while (restore_again(x, &rc));
    kv_need_release(&x->need);
    if (rc == -ENXIO) {
        kv_batch_fini(&batch);
        return err_set(e, rc, "backup '%s' holds no file system", x->opt->backup);
    }
    rc = rc < 0 ? rc : restore_commit(x, &batch, x->index);
    kv_batch_fini(&batch);
    return rc < 0 ? err_set(e, rc, "prepare the state of '%s'", x->opt->backup) : 0;
}

static int restore_expire(struct restore *x, uint64_t session)
{
    uint8_t body[64], command[256];
    struct namespace_expire expire = {.session = session};
    struct namespace_reply reply;
    struct wire_writer w = wire_writer_over(body, sizeof body);
    int rc = PROTO_ENCODE(namespace_expire, &expire, &w);
    struct namespace_command c = {.version = NAMESPACE_COMMAND_FIRST,
                                  .kind = NAMESPACE_EXPIRE,
                                  .time_ns = (int64_t)loop_wall_ns(x->opt->env->loop),
                                  .body = proto_bytes_of(body, w.len)};
    w = wire_writer_over(command, sizeof command);
    rc = rc < 0 ? rc : PROTO_ENCODE(namespace_command, &c, &w);
    if (rc < 0) {
        return rc;
    }
    struct namespace_entry entry = {
        .index = ++x->index, .last = true, .bytes = command, .len = w.len};
    do {
        rc = namespace_apply(x->ns, &entry, &x->need, &reply);
    } while (restore_again(x, &rc));
    kv_need_release(&x->need);
    return rc < 0 ? rc : reply.rc;
}

/* A page of those that are left: their numbers are in the arena. */
static int restore_page(struct restore *x, struct namespace_sessions *page)
{
    int rc;
    do {
        CLEANUP(kv_snapshot_freep) struct kv_snapshot *s = NULL;
        struct namespace_view v;
        rc = restore_view(x, &s, &v);
        rc = rc < 0 ? rc : namespace_sessions(&v, 0, RESTORE_SESSIONS, page);
    } while (restore_again(x, &rc));
    kv_need_release(&x->need);
    return rc;
}

/* Clients that live in a later state must not go on in this one. */
static int restore_sessions(struct restore *x, struct err *e)
{
    struct namespace_sessions page = {0};
    int rc = 0;
    do {
        rc = restore_page(x, &page);
        for (size_t i = 0; rc == 0 && i < page.count; i++) {
            rc = restore_expire(x, page.ids[i]);
            x->ret->sessions += rc == 0 ? 1 : 0;
        }
    } while (rc == 0 && page.count > 0);
    return rc < 0 ? err_set(e, rc, "end the sessions of '%s'", x->opt->backup) : 0;
}

static int restore_save(struct restore *x, struct err *e)
{
    x->checkpoint = (struct kv_checkpoint){.done = restore_saved, .term = x->term};
    restore_begin(x);
    kv_checkpoint(x->kv, &x->checkpoint);
    int rc = restore_wait(x);
    return rc < 0 ? err_set(e, rc, "write '%s'", x->state) : 0;
}

static void restore_close(struct restore *x)
{
    kv_need_release(&x->need);
    x->ns = namespace_free(x->ns);
    if (x->kv != NULL) {
        x->stop.done = restore_stopped;
        restore_begin(x);
        kv_stop(x->kv, &x->stop);
        (void)restore_wait(x);
    }
    metanode_engine_close(&x->engine);
}

/* ---- the log, and whose directory it is ---- */

static int restore_log(struct restore *x, struct err *e)
{
    struct consensus_reference ref = {.index = x->index, .term = x->term};
    struct consensus_begin begin = {
        .env = x->opt->env, .directory = x->log, .id = RESTORE_VOTER, .reference = &ref};
    memcpy(begin.cluster, x->image.owner, sizeof begin.cluster);
    metanode_checkpoint_reference(x->index, &ref);
    return consensus_begin(&begin, e);
}

/* The last step: before it no server takes the directory. */
static int restore_identity(struct restore *x, struct err *e)
{
    struct metanode *m = mem_zalloc(sizeof *m);
    if (m == NULL) {
        return -ENOMEM;
    }
    m->env = x->opt->env;
    m->opt.directory = x->opt->directory;
    m->opt.cluster_id = *x->opt->cluster_id;
    loop_random_bytes(m->env->loop, m->uuid.bytes, sizeof m->uuid.bytes);
    int rc = metanode_identity_made(m, e);
    mem_free(m);
    return rc;
}

int metanode_restore(const struct metanode_restore *r, struct metanode_restored *ret, struct err *e)
{
    struct restore x = {.opt = r, .ret = ret};
    *ret = (struct metanode_restored){0};
    mem_arena_init(&x.arena, METANODE_ARENA_BYTES);
    int rc = restore_check(&x, e);
    rc = rc < 0 ? rc : restore_directories(&x, e);
    rc = rc < 0 ? rc : restore_open(&x, e);
    rc = rc < 0 ? rc : restore_records(&x, e);
    rc = rc < 0 ? rc : restore_leap(&x, e);
    rc = rc < 0 ? rc : restore_sessions(&x, e);
    rc = rc < 0 ? rc : restore_save(&x, e);
    rc = rc < 0 ? rc : restore_log(&x, e);
    rc = rc < 0 ? rc : restore_identity(&x, e);
    restore_close(&x);
    mem_arena_fini(&x.arena);
    mem_free(x.state);
    mem_free(x.log);
    return rc;
}

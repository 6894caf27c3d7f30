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

struct restore {
    const struct metanode_restore *opt;
    struct metanode_restored *ret;
    char *state, *log;
    struct kv_image_info image;
    struct kv *kv;
    struct namespace *ns;
    struct kv_need need;
    struct mem_arena arena;
    uint64_t index, term;
    struct kv_checkpoint checkpoint;
    bool saved;
    int rc;
};

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
    struct kv_mem_open_options open = {.mem = {.budget = x->opt->env->budget},
                                       .env = x->opt->env,
                                       .directory = x->state,
                                       .owner = x->image.owner,
                                       .image = x->opt->backup};
    int rc = kv_mem_open(&open, &x->kv, e);
    struct namespace_options ns = {.kv = x->kv};
    return rc < 0 ? rc : namespace_new(&ns, &x->ns);
}

/* Runs on a snapshot of its own; memory of the engine: nothing is ever missing. */
static int restore_view(struct restore *x, struct kv_snapshot **ret, struct namespace_view *v)
{
    int rc = kv_snapshot_new(x->kv, ret);
    mem_arena_reset(&x->arena);
    *v = (struct namespace_view){.snapshot = *ret, .need = &x->need, .arena = &x->arena};
    return rc;
}

/* Numbers given since the backup are below what the clock says now: fewer than a million a second
 * are given, and epochs change less often than every four seconds on the average. */
static int restore_leap(struct restore *x, struct err *e)
{
    CLEANUP(kv_snapshot_freep) struct kv_snapshot *s = NULL;
    uint64_t seconds = loop_wall_ns(x->opt->env->loop) / (1000 * METANODE_NS_PER_MS);
    struct namespace_view v;
    struct namespace_state state;
    struct kv_batch batch = {0};
    int rc = restore_view(x, &s, &v);
    rc = rc < 0 ? rc : namespace_view_state(&v, &state);
    if (rc < 0) {
        return err_set(e, rc, "backup '%s' holds no file system", x->opt->backup);
    }
    x->index = base_max(state.applied_index, x->image.index) + 1;
    x->term = base_max(x->image.term + RESTORE_TERM_LEAP, seconds);
    struct namespace_restoring r = {
        .index = x->index, .floor = seconds << 20, .epoch_floor = (uint32_t)(seconds / 4)};
    rc = namespace_restore(&v, &r, &batch);
    rc = rc < 0 ? rc : kv_commit(x->kv, &batch, x->index);
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
    struct namespace_command c = {.version = NAMESPACE_COMMAND_VERSION,
                                  .kind = NAMESPACE_EXPIRE,
                                  .time_ns = (int64_t)loop_wall_ns(x->opt->env->loop),
                                  .body = proto_bytes_of(body, w.len)};
    w = wire_writer_over(command, sizeof command);
    rc = rc < 0 ? rc : PROTO_ENCODE(namespace_command, &c, &w);
    struct namespace_entry entry = {
        .index = ++x->index, .last = true, .bytes = command, .len = w.len};
    rc = rc < 0 ? rc : namespace_apply(x->ns, &entry, &x->need, &reply);
    kv_need_release(&x->need);
    return rc < 0 ? rc : reply.rc;
}

/* Clients that live in a later state must not go on in this one. */
static int restore_sessions(struct restore *x, struct err *e)
{
    bool more = true;
    int rc = 0;
    while (more && rc == 0) {
        CLEANUP(kv_snapshot_freep) struct kv_snapshot *s = NULL;
        struct namespace_view v;
        struct namespace_sessions page = {0};
        rc = restore_view(x, &s, &v);
        rc = rc < 0 ? rc : namespace_sessions(&v, 0, RESTORE_SESSIONS, &page);
        for (size_t i = 0; i < page.count && rc == 0; i++) {
            rc = restore_expire(x, page.ids[i]);
            x->ret->sessions += rc == 0 ? 1 : 0;
        }
        more = page.count > 0;
    }
    return rc < 0 ? err_set(e, rc, "end the sessions of '%s'", x->opt->backup) : 0;
}

static void restore_saved(struct kv_checkpoint *c, int rc)
{
    struct restore *x = container_of(c, struct restore, checkpoint);
    x->saved = true;
    x->rc = rc;
}

static int restore_save(struct restore *x, struct err *e)
{
    x->checkpoint = (struct kv_checkpoint){.done = restore_saved, .term = x->term};
    kv_checkpoint(x->kv, &x->checkpoint);
    while (!x->saved) {
        loop_run_once(x->opt->env->loop, RESTORE_WAIT_NS);
    }
    return x->rc < 0 ? err_set(e, x->rc, "write '%s'", x->state) : 0;
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
    rc = rc < 0 ? rc : restore_leap(&x, e);
    rc = rc < 0 ? rc : restore_sessions(&x, e);
    rc = rc < 0 ? rc : restore_save(&x, e);
    rc = rc < 0 ? rc : restore_log(&x, e);
    rc = rc < 0 ? rc : restore_identity(&x, e);
    kv_need_release(&x.need);
    x.ns = namespace_free(x.ns);
    x.kv = kv_free(x.kv);
    mem_arena_fini(&x.arena);
    mem_free(x.state);
    mem_free(x.log);
    return rc;
}

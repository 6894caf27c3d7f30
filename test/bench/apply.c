/*
 * bench/apply.c -- the state machine of the metadata alone, on either engine: no network, no log.
 * What one command costs a server that executes it, also when a log is replayed. Times are CPU time
 * of the calling thread, so that what the tree does in the background on others does not count.
 *
 * apply.create  an empty file in one of 100 directories (two levels below the root)
 * apply.stat    a lookup on a snapshot of its own
 * apply.rename  of every third file, within its directory
 * apply.list    an entry of a page of a directory, with attributes
 * apply.unlink  of what was renamed
 *
 * apply_tree.*: the same on a tree in the directory OPENDFS_BENCH_WORK, with APPLY_CACHE of memory.
 */
#include "bench.h"

#include "base/env.h"
#include "disk/disk.h"
#include "kv/mem.h"
#include "loop/loop.h"
#include "namespace/namespace.h"
#include "namespace/query.h"
#include "tree/tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define APPLY_DIRS 100u
#define APPLY_FILES 200000u
#define APPLY_STATS 200000u
#define APPLY_RENAMES 60000u
#define APPLY_LISTED (APPLY_FILES / APPLY_DIRS) /* of each directory */
#define APPLY_ARENA_BYTES (1u << 20)
#define APPLY_CACHE (UINT64_C(1) << 30)
#define APPLY_BURST 128u /* commands between two looks at the loop */

struct apply {
    const char *bench;
    struct kv *kv;
    struct env env; /* of the tree */
    struct kv_fetch fetch;
    struct kv_room room;
    struct kv_stop stop;
    bool waits; /* for one of these */
    unsigned turns;
    struct namespace *ns;
    struct kv_need need;
    struct mem_arena arena;
    struct namespace_reply reply;
    struct proto_op op;
    uint64_t index;
    int64_t time_ns;
    uint64_t dir[APPLY_DIRS];
    uint8_t body[4096], command[8192];
};

static double apply_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- what the tree wants ---- */

static void apply_fetched(struct kv_fetch *f, int rc)
{
    CHECK(rc == 0 || rc == -ECANCELED); /* a benchmark that goes on is worth nothing */
    container_of(f, struct apply, fetch)->waits = false;
}

static void apply_roomy(struct kv_room *r)
{
    container_of(r, struct apply, room)->waits = false;
}

static void apply_stopped(struct kv_stop *s)
{
    container_of(s, struct apply, stop)->waits = false;
}

static void apply_wait(struct apply *x)
{
    while (x->waits) {
        loop_run_once(x->env.loop, 1000000000);
    }
}

/* True: what said this is to be done again. */
static bool apply_again(struct apply *x, int rc)
{
    if (rc == -ERR_need) {
        x->waits = true;
        x->fetch = (struct kv_fetch){.need = &x->need, .done = apply_fetched};
        kv_fetch(x->kv, &x->fetch);
    } else if (rc == -ERR_busy) {
        x->waits = true;
        x->room = (struct kv_room){.done = apply_roomy};
        kv_room(x->kv, &x->room);
    } else if (rc != -ECANCELED) {
        return false;
    }
    apply_wait(x);
    return true;
}

static void apply_turn(struct apply *x)
{
    if (x->env.loop != NULL && ++x->turns % APPLY_BURST == 0) {
        loop_run_once(x->env.loop, 0);
    }
}

/* ---- commands ---- */

/* One entry of the log with one command in it. */
static int apply_one(struct apply *x, uint16_t kind, const struct proto_type *type,
                     const void *body, bool seal)
{
    struct wire_writer w = wire_writer_over(x->body, sizeof x->body);
    int rc = proto_encode(type, body, &w);
    rc = rc < 0 || !seal ? rc : proto_op_seal(kind, x->body, w.len);
    struct namespace_command c = {.version = NAMESPACE_COMMAND_VERSION,
                                  .kind = kind,
                                  .time_ns = x->time_ns += 1000,
                                  .random = x->index,
                                  .body = proto_bytes_of(x->body, w.len)};
    w = wire_writer_over(x->command, sizeof x->command);
    rc = rc < 0 ? rc : PROTO_ENCODE(namespace_command, &c, &w);
    struct namespace_entry e = {
        .index = ++x->index, .last = true, .bytes = x->command, .len = w.len};
    int done = rc < 0 ? rc : namespace_apply(x->ns, &e, &x->need, &x->reply);
    while (rc == 0 && apply_again(x, done)) {
        done = namespace_apply(x->ns, &e, &x->need, &x->reply);
    }
    rc = done;
    kv_need_release(&x->need);
    apply_turn(x);
    x->op.sequence += seal ? 1 : 0;
    return rc < 0 ? rc : x->reply.rc;
}

static int apply_create(struct apply *x, uint64_t parent, const char *name, uint8_t type)
{
    struct proto_create_request r = {.op = x->op,
                                     .parent = parent,
                                     .name = proto_bytes_text(name),
                                     .type = type,
                                     .mode = 0755,
                                     .flags = PROTO_CREATE_EXCLUSIVE};
    r.flags |= type == PROTO_INODE_FILE ? PROTO_CREATE_HAS_DATA : 0;
    return apply_one(x, PROTO_OP_create, &proto_create_request_type, &r, true);
}

static int apply_begin(struct apply *x)
{
    struct namespace_format format = {.mode = 0755};
    struct proto_session_open_request open = {.verifier = 1, .slots = 64};
    int rc = apply_one(x, NAMESPACE_FORMAT_ROOT, &namespace_format_type, &format, false);
    rc = rc < 0
             ? rc
             : apply_one(x, PROTO_OP_session_open, &proto_session_open_request_type, &open, false);
    struct proto_credential_request cred = {.session = x->reply.session};
    x->op = (struct proto_op){.session = x->reply.session, .sequence = 1};
    rc = rc < 0 ? rc
                : apply_one(x, PROTO_OP_credential, &proto_credential_request_type, &cred, false);
    x->op.cred = x->reply.id;
    rc = rc < 0 ? rc : apply_create(x, PROTO_ROOT_INO, "top", PROTO_INODE_DIRECTORY);
    uint64_t top = x->reply.result.ino;
    for (unsigned i = 0; i < APPLY_DIRS && rc == 0; i++) {
        char name[16];
        snprintf(name, sizeof name, "dir%u", i);
        rc = apply_create(x, top, name, PROTO_INODE_DIRECTORY);
        x->dir[i] = x->reply.result.ino;
    }
    return rc;
}

static void apply_name(char out[24], unsigned round, unsigned i)
{
    snprintf(out, 24, "%03u%013u", round, i);
}

static int apply_creates(struct apply *x, struct bench_figure *f, unsigned round)
{
    int rc = 0;
    char name[24];
    double began = apply_now();
    for (unsigned i = 0; i < APPLY_FILES && rc == 0; i++) {
        apply_name(name, round, i);
        rc = apply_create(x, x->dir[i % APPLY_DIRS], name, PROTO_INODE_FILE);
    }
    double seconds = apply_now() - began;
    bench_add(f, seconds / APPLY_FILES * 1e6, seconds);
    return rc;
}

static int apply_stat(struct apply *x, unsigned round, unsigned i)
{
    char name[24];
    struct namespace_view v = {.need = &x->need, .arena = &x->arena};
    struct proto_lookup_reply reply;
    apply_name(name, round, i);
    struct proto_lookup_request q = {
        .caller = {.session = x->op.session, .cred = x->op.cred},
        .parent = x->dir[i % APPLY_DIRS],
        .name = proto_bytes_text(name),
    };
    int rc;
    do {
        rc = kv_snapshot_new(x->kv, &v.snapshot);
        rc = rc < 0 ? rc : namespace_lookup(&v, &q, &reply);
        v.snapshot = kv_snapshot_free(v.snapshot);
        mem_arena_reset(&x->arena);
    } while (apply_again(x, rc));
    kv_need_release(&x->need);
    apply_turn(x);
    return rc < 0 ? rc : reply.attr.ino == 0 ? -ENOENT : 0;
}

static int apply_stats(struct apply *x, struct bench_figure *f, unsigned round)
{
    int rc = 0;
    double began = apply_now();
    for (unsigned i = 0; i < APPLY_STATS && rc == 0; i++) {
        rc = apply_stat(x, round, (unsigned)(i * UINT64_C(7919) % APPLY_FILES));
    }
    double seconds = apply_now() - began;
    bench_add(f, seconds / APPLY_STATS * 1e6, seconds);
    return rc;
}

static int apply_rename(struct apply *x, unsigned round, unsigned i)
{
    char name[24], other[25];
    apply_name(name, round, i);
    snprintf(other, sizeof other, "r%s", name);
    struct proto_rename_request r = {.op = x->op,
                                     .parent = x->dir[i % APPLY_DIRS],
                                     .name = proto_bytes_text(name),
                                     .new_parent = x->dir[i % APPLY_DIRS],
                                     .new_name = proto_bytes_text(other)};
    return apply_one(x, PROTO_OP_rename, &proto_rename_request_type, &r, true);
}

static int apply_unlink(struct apply *x, unsigned round, unsigned i)
{
    char name[24], other[25];
    apply_name(name, round, i);
    snprintf(other, sizeof other, "r%s", name);
    struct proto_unlink_request r = {
        .op = x->op, .parent = x->dir[i % APPLY_DIRS], .name = proto_bytes_text(other)};
    return apply_one(x, PROTO_OP_unlink, &proto_unlink_request_type, &r, true);
}

/* Of every third file. */
static int apply_changes(struct apply *x, struct bench_figure *f, unsigned round,
                         int (*change)(struct apply *x, unsigned round, unsigned i))
{
    int rc = 0;
    double began = apply_now();
    for (unsigned i = 0; i < APPLY_RENAMES && rc == 0; i++) {
        rc = change(x, round, 3 * i);
    }
    double seconds = apply_now() - began;
    bench_add(f, seconds / APPLY_RENAMES * 1e6, seconds);
    return rc;
}

static int apply_page(struct apply *x, uint64_t dir, unsigned round, uint64_t *count)
{
    char after[24];
    struct namespace_view v = {.need = &x->need, .arena = &x->arena};
    struct proto_readdir_reply reply;
    snprintf(after, sizeof after, "%03u", round); /* the files of this round */
    struct proto_readdir_request q = {.caller = {.session = x->op.session, .cred = x->op.cred},
                                      .ino = dir,
                                      .after = proto_bytes_text(after),
                                      .max_entries = APPLY_LISTED / 2,
                                      .want_attr = true};
    int rc;
    do {
        rc = kv_snapshot_new(x->kv, &v.snapshot);
        rc = rc < 0 ? rc : namespace_readdir(&v, &q, &reply);
        v.snapshot = kv_snapshot_free(v.snapshot);
        mem_arena_reset(&x->arena);
    } while (apply_again(x, rc));
    kv_need_release(&x->need);
    *count += rc < 0 ? 0 : reply.entries.count;
    apply_turn(x);
    return rc;
}

static int apply_lists(struct apply *x, struct bench_figure *f, unsigned round)
{
    int rc = 0;
    uint64_t count = 0;
    double began = apply_now();
    for (unsigned i = 0; i < APPLY_DIRS && rc == 0; i++) {
        rc = apply_page(x, x->dir[i], round, &count);
    }
    double seconds = apply_now() - began;
    bench_add(f, seconds / (double)base_max(count, 1) * 1e6, seconds);
    return rc;
}

static struct bench_figure apply_figure(const struct apply *x, const char *name)
{
    return (struct bench_figure){.bench = x->bench, .name = name, .unit = "us"};
}

static int apply_run(struct apply *x, const char *const names[5], unsigned rounds)
{
    struct bench_figure create = apply_figure(x, names[0]), stat = apply_figure(x, names[1]);
    struct bench_figure list = apply_figure(x, names[2]), rename = apply_figure(x, names[3]);
    struct bench_figure unlink = apply_figure(x, names[4]);
    int rc = namespace_new(&(struct namespace_options){.kv = x->kv}, &x->ns);
    rc = rc < 0 ? rc : apply_begin(x);
    for (unsigned i = 0; i < rounds && rc == 0; i++) {
        rc = apply_creates(x, &create, i);
        rc = rc < 0 ? rc : apply_stats(x, &stat, i);
        rc = rc < 0 ? rc : apply_lists(x, &list, i);
        rc = rc < 0 ? rc : apply_changes(x, &rename, i, apply_rename);
        rc = rc < 0 ? rc : apply_changes(x, &unlink, i, apply_unlink);
    }
    if (rc == 0) {
        bench_print(&create);
        bench_print(&stat);
        bench_print(&list);
        bench_print(&rename);
        bench_print(&unlink);
    } else {
        fprintf(stderr, "bench %s: %s\n", x->bench, err_text(rc));
    }
    namespace_free(x->ns);
    mem_arena_fini(&x->arena);
    return rc;
}

int bench_apply(unsigned rounds)
{
    static const char *const names[] = {"apply.create", "apply.stat", "apply.list", "apply.rename",
                                        "apply.unlink"};
    static struct apply x = {.bench = "apply"};
    mem_arena_init(&x.arena, APPLY_ARENA_BYTES);
    int rc = kv_mem_new(&(struct kv_mem_options){.seed = 1}, &x.kv);
    rc = rc < 0 ? rc : apply_run(&x, names, rounds);
    kv_mem_end(x.kv);
    return rc < 0 ? 1 : 0;
}

static int apply_open(struct apply *x, const char *directory, struct err *e)
{
    char path[4096];
    struct tree_found found;
    struct loop_options loop = {.name = "bench"};
    struct disk_pool_options disk = {0};
    (void)snprintf(path, sizeof path, "%s/tree", directory);
    int rc = loop_new(&loop, &x->env.loop, e);
    rc = rc < 0 ? rc : disk_pool_new(&x->env, &disk, &x->env.disk);
    struct tree_options opt = {.env = &x->env,
                               .path = path,
                               .owner = (const uint8_t *)"a benchmark's ow",
                               .cache_bytes = APPLY_CACHE};
    rc = rc < 0 ? rc : tree_create(&opt, e);
    return rc < 0 ? rc : tree_open(&opt, &x->kv, &found, e);
}

int bench_apply_tree(unsigned rounds)
{
    static const char *const names[] = {"apply_tree.create", "apply_tree.stat", "apply_tree.list",
                                        "apply_tree.rename", "apply_tree.unlink"};
    static struct apply x = {.bench = "apply_tree", .stop.done = apply_stopped};
    const char *directory = getenv("OPENDFS_BENCH_WORK");
    struct err e = {0};
    mem_arena_init(&x.arena, APPLY_ARENA_BYTES);
    int rc = directory == NULL ? -EINVAL : apply_open(&x, directory, &e);
    if (rc < 0) {
        fprintf(stderr, "bench apply_tree: OPENDFS_BENCH_WORK: %s %s\n", err_text(rc), e.text);
        return 1;
    }
    rc = apply_run(&x, names, rounds);
    x.waits = true;
    kv_stop(x.kv, &x.stop);
    apply_wait(&x);
    kv_free(x.kv);
    disk_free(x.env.disk);
    loop_free(x.env.loop);
    return rc < 0 ? 1 : 0;
}

/* sim/names.c -- see names.h. */
#include "names.h"

#include "faults.h"
#include "replay.h"
#include "world.h"

#include "base/rand.h"
#include "base/text.h"
#include "history/check.h"

#include <stdio.h>
#include <string.h>

#define ACTORS 5u
#define OPERATIONS 150u /* of one actor */
#define UNKNOWN_MAX 3u  /* changes of unknown outcome: each is under way to the end */
#define NAME_COUNT 3u
#define PATH_BYTES (HISTORY_DEPTH * 2u + 2u)
#define LOOKS_MAX 256u
#define LIMIT_NS (600 * WORLD_S)
#define KNOWN 12u
#define BYTES 8u /* contents of every file: a number */

enum step { NAMES_ONLY, NAMES_OPEN, NAMES_DATA, NAMES_CLOSE };
static const char *const names[NAME_COUNT] = {"a", "b", "c"};

struct names;
struct actor {
    struct names *n;
    unsigned index, node;
    uint32_t process;
    unsigned left;
    struct loop_sim_event wake;
    enum step step;
    bool under_way, arrived, ended;
    uint64_t life;
    size_t at;       /* in the history */
    int error;       /* of a step before the last */
    int64_t time_ns; /* of a change that had been answered when this one began */
    struct opendfs_op op;
    struct opendfs_file *file;
    struct opendfs_stat values;
    char path[PATH_BYTES], to[PATH_BYTES], target[16];
    uint8_t bytes[2 * BYTES];
};
struct look {
    enum history_kind kind;
    struct history_path path;
};
struct names {
    struct world world;
    struct faults faults;
    struct history history;
    struct actor actor[ACTORS];
    uint32_t processes, stamps;
    unsigned unknown;
    int64_t time_ns;                  /* the newest that was told of a change */
    struct history_path known[KNOWN]; /* that were there a moment ago; depth 0: none */
    unsigned known_next;
    /* The last look at everything. */
    bool looking;
    struct look look[LOOKS_MAX];
    size_t look_count, look_next;
};

static struct history_op *record(struct actor *a)
{
    return &a->n->history.op[a->at];
}

/* ---- Starting: inside the client's process ---- */

static void op_done(struct opendfs_op *op)
{
    container_of(op, struct actor, op)->arrived = true;
}

static void start_contents(struct actor *a, struct opendfs *fs)
{
    bool reads = record(a)->kind == HISTORY_READ;
    unsigned flags = (reads ? OPENDFS_READ : OPENDFS_WRITE) | OPENDFS_NOFOLLOW;
    if (a->step == NAMES_OPEN) {
        opendfs_async_open(fs, &a->op, a->path, flags, 0);
    } else if (a->step == NAMES_CLOSE) {
        opendfs_async_close(fs, &a->op, a->file, NULL, 0);
    } else if (reads) {
        opendfs_async_pread(fs, &a->op, a->file, a->bytes, sizeof a->bytes, 0);
    } else {
        opendfs_async_pwrite(fs, &a->op, a->file, a->bytes, BYTES, 0);
    }
}

static void start_change(struct actor *a, struct opendfs *fs)
{
    const struct history_op *q = record(a);
    unsigned flags = q->flags == HISTORY_NOREPLACE  ? OPENDFS_RENAME_NOREPLACE
                     : q->flags == HISTORY_EXCHANGE ? OPENDFS_RENAME_EXCHANGE
                                                    : 0;
    a->values = (struct opendfs_stat){.mode = q->mode};
    if (q->kind == HISTORY_CREATE) {
        opendfs_async_create(fs, &a->op, a->path, &a->values, OPENDFS_SET_MODE, a->bytes, BYTES);
    } else if (q->kind == HISTORY_MKDIR) {
        opendfs_async_mkdir(fs, &a->op, a->path, q->mode);
    } else if (q->kind == HISTORY_SYMLINK) {
        opendfs_async_symlink(fs, &a->op, a->target, a->path, NULL, 0);
    } else if (q->kind == HISTORY_UNLINK) {
        opendfs_async_unlink(fs, &a->op, a->path);
    } else if (q->kind == HISTORY_RMDIR) {
        opendfs_async_rmdir(fs, &a->op, a->path);
    } else if (q->kind == HISTORY_RENAME) {
        opendfs_async_rename(fs, &a->op, a->path, a->to, flags);
    } else if (q->kind == HISTORY_LINK) {
        opendfs_async_link(fs, &a->op, a->path, a->to);
    } else {
        opendfs_async_setattr(fs, &a->op, a->path, &a->values, OPENDFS_SET_MODE);
    }
}

static void start_inside(void *context)
{
    struct actor *a = context;
    struct opendfs *fs = a->n->world.node[a->node].process->fs;
    a->op = (struct opendfs_op){.done = op_done};
    switch (record(a)->kind) {
    case HISTORY_READ:
    case HISTORY_WRITE:
        start_contents(a, fs);
        break;
    case HISTORY_STAT:
        opendfs_async_lstat(fs, &a->op, a->path);
        break;
    case HISTORY_LIST:
        opendfs_async_list(fs, &a->op, a->path, NULL, 0);
        break;
    case HISTORY_READLINK:
        opendfs_async_readlink(fs, &a->op, a->path, a->target, sizeof a->target);
        break;
    case HISTORY_CREATE:
    case HISTORY_MKDIR:
    case HISTORY_SYMLINK:
    case HISTORY_UNLINK:
    case HISTORY_RMDIR:
    case HISTORY_RENAME:
    case HISTORY_LINK:
    case HISTORY_CHMOD:
        start_change(a, fs);
        break;
    case HISTORY_KIND_COUNT:
        CHECK(!"an operation");
    }
}

static void start(struct actor *a, enum step step)
{
    struct world *w = &a->n->world;
    a->step = step;
    a->under_way = true;
    a->arrived = false;
    a->life = w->node[a->node].starts;
    loop_sim_enter(w->node[a->node].process->loop, start_inside, a);
}

/* ---- Choosing ---- */

/* Half of them stand for something, as far as is known, or are just below. */
static void random_path(struct names *n, struct history_path *p)
{
    struct rand *r = n->world.rand;
    uint64_t deep = rand_below(r, 10);
    p->depth = deep < 5 ? 1 : deep < 9 ? 2 : 3;
    for (unsigned i = 0; i < p->depth; i++) {
        p->name[i] = (uint8_t)rand_below(r, NAME_COUNT);
    }
    const struct history_path *known = &n->known[rand_below(r, KNOWN)];
    if (rand_chance(r, 1, 2) && known->depth > 0) {
        uint8_t name = p->name[0];
        *p = *known;
        if (p->depth < 3 && rand_chance(r, 1, 2)) {
            p->name[p->depth++] = name;
        }
    }
}

static void remember(struct names *n, const struct history_op *op)
{
    bool makes = op->kind == HISTORY_CREATE || op->kind == HISTORY_MKDIR;
    bool moves = op->kind == HISTORY_RENAME || op->kind == HISTORY_LINK;
    if ((makes || moves) && op->outcome == HISTORY_OK) {
        n->known[n->known_next++ % KNOWN] = moves ? op->to : op->path;
    }
}

static enum history_kind random_kind(struct world *w)
{
    static const uint8_t weight[HISTORY_KIND_COUNT] = {
        [HISTORY_CREATE] = 10, [HISTORY_MKDIR] = 8,   [HISTORY_SYMLINK] = 1, [HISTORY_UNLINK] = 10,
        [HISTORY_RMDIR] = 4,   [HISTORY_RENAME] = 14, [HISTORY_LINK] = 5,    [HISTORY_CHMOD] = 4,
        [HISTORY_WRITE] = 6,   [HISTORY_STAT] = 14,   [HISTORY_LIST] = 8,    [HISTORY_READLINK] = 1,
        [HISTORY_READ] = 8};
    uint64_t sum = 0;
    for (unsigned i = 0; i < HISTORY_KIND_COUNT; i++) {
        sum += weight[i];
    }
    uint64_t at = rand_below(w->rand, sum);
    unsigned kind = 0;
    while (at >= weight[kind]) {
        at -= weight[kind++];
    }
    return (enum history_kind)kind;
}

static void path_text(const struct actor *a, const struct history_path *p, char out[PATH_BYTES])
{
    struct text t;
    text_init(&t, out, PATH_BYTES);
    history_path_to_text(&a->n->history, p, &t);
    CHECK(!t.cut);
}

static void begin(struct actor *a, struct history_op q)
{
    struct names *n = a->n;
    q.process = a->process;
    q.begin_ns = world_now_ns(&n->world);
    a->error = 0;
    a->time_ns = n->time_ns;
    a->file = NULL;
    memset(a->bytes, 0, sizeof a->bytes);
    memcpy(a->bytes, &q.data, sizeof q.data);
    path_text(a, &q.path, a->path);
    path_text(a, &q.to, a->to);
    (void)snprintf(a->target, sizeof a->target, "to%u", q.data);
    int rc = history_begin(&n->history, &q, &a->at);
    CHECK(rc == 0);
    bool contents = q.kind == HISTORY_READ || q.kind == HISTORY_WRITE;
    start(a, contents ? NAMES_OPEN : NAMES_ONLY);
}

static void begin_random(struct actor *a)
{
    struct world *w = &a->n->world;
    struct history_op q = {.kind = random_kind(w), .data = ++a->n->stamps};
    random_path(a->n, &q.path);
    if (q.kind == HISTORY_RENAME || q.kind == HISTORY_LINK) {
        random_path(a->n, &q.to);
    }
    if (q.kind == HISTORY_LIST) { /* one component less: directories are above */
        q.path.depth--;
    }
    q.flags = q.kind == HISTORY_RENAME ? (uint32_t)rand_below(w->rand, 3) : 0;
    q.mode = (uint32_t)rand_below(w->rand, 01000);
    a->left--;
    begin(a, q);
}

/* ---- The last look ---- */

static void add_look(struct names *n, enum history_kind kind, const struct history_path *path)
{
    if (n->look_count < LOOKS_MAX) {
        n->look[n->look_count++] = (struct look){.kind = kind, .path = *path};
    }
}

/* What stands in a directory is looked at next. */
static void look_below(struct names *n, const struct history_op *list)
{
    for (unsigned i = 0; i < list->entry_count && list->path.depth < HISTORY_DEPTH; i++) {
        const struct history_entry *e = &list->entry[i];
        struct history_path p = list->path;
        p.name[p.depth++] = e->name;
        add_look(n, HISTORY_STAT, &p);
        add_look(n,
                 e->type == HISTORY_DIRECTORY ? HISTORY_LIST
                 : e->type == HISTORY_FILE    ? HISTORY_READ
                                              : HISTORY_READLINK,
                 &p);
    }
}

/* ---- Actors ---- */

static void rest(struct actor *a, uint64_t longest_ns)
{
    struct world *w = &a->n->world;
    loop_sim_at(w->sim, &a->wake, world_now_ns(w) + world_between(w, 1, longest_ns));
}

static void woken(struct loop_sim_event *ev)
{
    struct actor *a = container_of(ev, struct actor, wake);
    struct names *n = a->n;
    bool more = n->looking ? n->look_next < n->look_count : a->left > 0 && n->unknown < UNKNOWN_MAX;
    if (!more || world_failed(&n->world)) {
        a->ended = true;
    } else if (!world_is_running(&n->world, a->node)) {
        rest(a, 10 * WORLD_MS);
    } else if (n->looking) {
        const struct look *l = &n->look[n->look_next++];
        begin(a, (struct history_op){.kind = l->kind, .path = l->path});
    } else {
        begin_random(a);
    }
}

static enum history_type type_of(const struct opendfs_stat *st)
{
    return st->type == OPENDFS_TYPE_DIRECTORY ? HISTORY_DIRECTORY
           : st->type == OPENDFS_TYPE_SYMLINK ? HISTORY_LINK_TO
           : st->type == OPENDFS_TYPE_FILE    ? HISTORY_FILE
                                              : HISTORY_NOTHING;
}

static void take_list(struct actor *a, struct history_op *r)
{
    for (size_t i = 0; i < a->op.entry_count; i++) {
        const struct opendfs_entry *e = &a->op.entries[i];
        int name = history_name(&a->n->history, e->name, e->name_len);
        bool known = name >= 0 && r->entry_count < HISTORY_NAMES &&
                     (i == 0 || strcmp(a->op.entries[i - 1].name, e->name) < 0);
        if (!known || a->op.at_end == 0) {
            world_fail(&a->n->world, "list %s: a name nobody made, or out of order: %s", a->path,
                       e->name);
            return;
        }
        r->entry[r->entry_count++] = (struct history_entry){
            .name = (uint8_t)name, .type = type_of(&e->stat), .ino = (uint32_t)e->stat.ino};
    }
}

/* What it was told; `rc` of all its steps together. */
static void take_answer(struct actor *a, int64_t rc)
{
    struct history_op *r = record(a);
    uint32_t got = 0;
    bool changes = !history_is_question(r->kind);
    r->outcome = rc < 0 ? HISTORY_FAILED : HISTORY_OK;
    r->error = rc < 0 ? (int)-rc : 0;
    if (rc < 0) {
        return;
    }
    r->ino = changes || r->kind == HISTORY_STAT ? (uint32_t)a->op.stat.ino : 0;
    if (r->kind == HISTORY_WRITE) {
        r->ino = 0;
    } else if (r->kind == HISTORY_STAT) {
        r->type = type_of(&a->op.stat);
        r->got_mode = a->op.stat.mode;
        r->nlink = a->op.stat.nlink;
    } else if (r->kind == HISTORY_LIST) {
        take_list(a, r);
    } else if (r->kind == HISTORY_READ) {
        memcpy(&got, a->bytes, sizeof got);
        r->got = got;
    } else if (r->kind == HISTORY_READLINK) {
        uint64_t v = 0;
        bool good = strncmp(a->target, "to", 2) == 0 && text_to_u64(a->target + 2, &v) == 0;
        r->got = good ? (uint32_t)v : UINT32_MAX;
    }
}

/* Whatever the server's clock does, a later change has no earlier time. */
static void check_time(struct actor *a)
{
    struct names *n = a->n;
    const struct history_op *r = record(a);
    bool told = r->kind == HISTORY_CREATE || r->kind == HISTORY_MKDIR || r->kind == HISTORY_CHMOD;
    /* A repeated answer has the attributes of now: none, when it is gone by now. */
    if (!told || r->outcome != HISTORY_OK || a->op.stat.ctime_ns == 0) {
        return;
    }
    if (a->op.stat.ctime_ns < a->time_ns) {
        world_fail(&n->world, "%s %s: its time is %lld ns before that of an earlier change",
                   history_kind_name(r->kind), a->path,
                   (long long)(a->time_ns - a->op.stat.ctime_ns));
    }
    /* That of a file may be the clock of whoever writes it; it comes with a repeated answer. */
    if (type_of(&a->op.stat) != HISTORY_FILE) {
        n->time_ns = a->op.stat.ctime_ns > n->time_ns ? a->op.stat.ctime_ns : n->time_ns;
    }
}

/* Nobody will know what became of it. Who goes on is somebody else. */
static void unknown(struct actor *a)
{
    a->n->unknown += history_is_question(record(a)->kind) ? 0 : 1;
    a->process = a->n->processes++;
}

/* These say that nothing is known; or that what was made to be opened has gone since. */
static bool is_doubt(const struct actor *a, int64_t rc)
{
    return rc == -EIO || rc == -ETIMEDOUT || rc == -ECANCELED ||
           (rc == -ESTALE && a->step == NAMES_OPEN);
}

static void say(const struct actor *a)
{
    if (a->n->world.verbose) {
        char line[HISTORY_LINE_MAX];
        struct text t;
        text_init(&t, line, sizeof line);
        history_op_to_text(&a->n->history, &a->n->history.op[a->at], &t);
        printf("%12.6f client%u   %s\n", (double)world_now_ns(&a->n->world) / 1e9,
               a->node - WORLD_CLIENT(0) + 1, line);
    }
}

static void release_inside(void *context)
{
    struct actor *a = context;
    opendfs_async_release(a->n->world.node[a->node].process->fs, &a->op);
}

static void finish(struct actor *a, int64_t rc)
{
    struct names *n = a->n;
    if (is_doubt(a, rc)) {
        say(a);
        unknown(a);
    } else {
        take_answer(a, rc);
        remember(n, record(a));
        check_time(a);
        record(a)->end_ns = world_now_ns(&n->world);
        int ended = history_end(&n->history, a->at);
        CHECK(ended == 0);
        say(a);
        if (n->looking && record(a)->kind == HISTORY_LIST && rc >= 0) {
            look_below(n, record(a));
        }
    }
    if (record(a)->kind == HISTORY_LIST && n->world.node[a->node].process != NULL) {
        loop_sim_enter(n->world.node[a->node].process->loop, release_inside, a);
    }
    rest(a, rand_chance(n->world.rand, 1, 20)  ? 300 * WORLD_MS
            : rand_chance(n->world.rand, 1, 4) ? 10 * WORLD_MS
                                               : WORLD_MS / 4);
}

static void arrived(struct actor *a)
{
    int64_t rc = a->op.result;
    bool reads = record(a)->kind == HISTORY_READ;
    a->arrived = a->under_way = false;
    switch (a->step) {
    case NAMES_ONLY:
        finish(a, rc);
        return;
    case NAMES_OPEN:
        a->file = a->op.file;
        if (rc < 0) {
            finish(a, rc);
        } else {
            start(a, NAMES_DATA);
        }
        return;
    case NAMES_DATA: /* half a number is no content of a file; what failed here is in doubt */
        if (rc >= 0 && rc != BYTES) {
            world_fail(&a->n->world, "%s of %s: %lld bytes", reads ? "read" : "write", a->path,
                       (long long)rc);
        }
        a->error = rc < 0 ? -EIO : 0;
        start(a, NAMES_CLOSE);
        return;
    case NAMES_CLOSE:
        finish(a, a->error < 0 || (rc < 0 && !reads) ? -EIO : 0);
        return;
    }
}

static bool is_killed(const struct actor *a)
{
    const struct world_node *n = &a->n->world.node[a->node];
    return a->under_way && (n->process == NULL || n->starts != a->life);
}

static bool all_ended(void *context)
{
    struct names *n = context;
    bool all = true;
    for (unsigned i = 0; i < ACTORS; i++) {
        struct actor *a = &n->actor[i];
        if (a->under_way && a->arrived) {
            arrived(a);
        } else if (is_killed(a)) {
            a->under_way = a->arrived = false;
            say(a);
            unknown(a);
            rest(a, WORLD_MS);
        }
        all = all && a->ended;
    }
    return all;
}

static bool is_healthy(void *context)
{
    return world_is_healthy(&((struct names *)context)->world, WORLD_HOSTS);
}

/* ---- The run ---- */

static void names_init(struct names *n, uint64_t seed, bool verbose)
{
    world_init(&n->world, seed, verbose);
    faults_init(&n->faults, &n->world);
    n->faults.only_names = true;
    history_init(&n->history);
    for (unsigned i = 0; i < NAME_COUNT; i++) {
        int name = history_name(&n->history, names[i], 1);
        CHECK(name == (int)i);
    }
    for (unsigned i = 0; i < ACTORS; i++) { /* some share a client */
        n->actor[i] = (struct actor){.n = n,
                                     .index = i,
                                     .node = WORLD_CLIENT(i % WORLD_CLIENTS),
                                     .process = n->processes++,
                                     .left = OPERATIONS,
                                     .wake.run = woken};
    }
}

static void names_fini(struct names *n)
{
    for (unsigned i = 0; i < ACTORS; i++) {
        loop_sim_cancel(n->world.sim, &n->actor[i].wake);
    }
    history_fini(&n->history);
    world_fini(&n->world);
}

static void work(struct names *n)
{
    struct world *w = &n->world;
    world_start_all(w);
    world_run(w, is_healthy, n, 60 * WORLD_S, "the cluster comes up");
    if (!world_failed(w)) {
        faults_begin(&n->faults);
        for (unsigned i = 0; i < ACTORS; i++) {
            rest(&n->actor[i], WORLD_S);
        }
        world_run(w, all_ended, n, LIMIT_NS, "work on the same names");
        faults_end(&n->faults);
    }
}

/* Fresh clients: nothing that an old one has in memory can hide what the server has lost. */
static void look(struct names *n)
{
    struct world *w = &n->world;
    const struct history_path root = {0};
    world_run(w, is_healthy, n, 120 * WORLD_S, "all copies are there again");
    for (unsigned i = 0; i < WORLD_CLIENTS && !world_failed(w); i++) {
        world_kill(w, WORLD_CLIENT(i));
        world_start(w, WORLD_CLIENT(i));
    }
    n->looking = true;
    add_look(n, HISTORY_STAT, &root);
    add_look(n, HISTORY_LIST, &root);
    n->actor[0].ended = false;
    if (!world_failed(w)) {
        rest(&n->actor[0], WORLD_MS);
        world_run(w, all_ended, n, LIMIT_NS, "the last look at all names");
    }
    for (unsigned i = 0; i < WORLD_CLIENTS && !world_failed(w); i++) {
        faults_leave_down(&n->faults, WORLD_CLIENT(i));
    }
    if (!world_failed(w)) {
        replay_check(w);
    }
}

static void write_history(struct names *n, const char *path)
{
    FILE *f = fopen(path, "w");
    int rc = f == NULL ? -errno : history_write(&n->history, f);
    if (f != NULL && fclose(f) != 0) {
        rc = -EIO;
    }
    if (rc < 0) {
        world_fail(&n->world, "%s: %s", path, err_text(rc));
    }
}

static void judge(struct names *n, struct names_result *ret)
{
    struct check_report *r = mem_zalloc(sizeof *r);
    CHECK(r != NULL);
    int rc = check_history(&n->history, 0, r);
    CHECK(rc == 0);
    ret->states = r->states;
    ret->undecided = r->verdict == CHECK_UNKNOWN;
    if (r->verdict == CHECK_NOT_LINEARIZABLE) {
        (void)snprintf(ret->failure, sizeof ret->failure, "the history is not linearizable: %s",
                       r->text);
    }
    mem_free(r);
}

void names_run(uint64_t seed, bool verbose, const char *path, struct names_result *ret)
{
    struct names *n = mem_zalloc(sizeof *n);
    CHECK(n != NULL);
    *ret = (struct names_result){.operations = 0};
    names_init(n, seed, verbose);
    work(n);
    if (!world_failed(&n->world)) {
        look(n);
    }
    if (path != NULL) {
        write_history(n, path);
    }
    if (world_failed(&n->world)) {
        (void)snprintf(ret->failure, sizeof ret->failure, "%s", n->world.failure);
    } else {
        judge(n, ret);
    }
    ret->operations = n->history.op_count;
    ret->unknown = n->unknown;
    ret->digest = loop_sim_digest(n->world.sim);
    names_fini(n);
    mem_free(n);
}

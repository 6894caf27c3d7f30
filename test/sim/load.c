/* sim/load.c -- see load.h. */
#include "load.h"

#include "watch.h"

#include "base/rand.h"
#include "opendfs/sparse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define INLINE_MAX 4096u
#define WRITES_MAX 4u
#define CALM_NS (3 * WORLD_S)
#define XATTR "user.number"
#define PUNCH (OPENDFS_ALLOCATE_PUNCH | OPENDFS_ALLOCATE_KEEP_SIZE)

static const char *const kind_names[LOAD_KINDS] = {
    "mkdir", "create",   "symlink",  "link", "unlink",   "rmdir", "rename", "stat",
    "chmod", "setxattr", "getxattr", "list", "readlink", "read",  "write",  "truncate"};
static const char *const step_names[] = {"",      " open",  " data", " truncate",
                                         " sync", " close", " look"};

/* ---- Starting operations: inside the client's process ---- */

static void op_done(struct opendfs_op *op)
{
    container_of(op, struct load, op)->arrived = true;
}

static unsigned open_flags(const struct load *l)
{
    if (l->kind == LOAD_READ) {
        return OPENDFS_READ | OPENDFS_NOFOLLOW;
    }
    return OPENDFS_READ | OPENDFS_WRITE | OPENDFS_CREATE | OPENDFS_NOFOLLOW;
}

static void start_file_step(struct load *l, struct opendfs *fs)
{
    switch (l->step) {
    case LOAD_OPEN:
        opendfs_async_open(fs, &l->op, l->path_a, open_flags(l), 0644);
        break;
    case LOAD_DATA:
        if (l->kind == LOAD_READ) {
            opendfs_async_pread(fs, &l->op, l->file, l->buffer, MODEL_FILE_MAX, 0);
        } else if (l->punches) {
            opendfs_async_allocate(fs, &l->op, l->file, PUNCH, l->offset, l->len);
        } else {
            opendfs_async_pwrite(fs, &l->op, l->file, l->buffer, l->len, l->offset);
        }
        break;
    case LOAD_CUT:
        opendfs_async_ftruncate(fs, &l->op, l->file, l->len);
        break;
    case LOAD_SYNC:
        opendfs_async_fsync(fs, &l->op, l->file);
        break;
    case LOAD_CLOSE:
        opendfs_async_close(fs, &l->op, l->file, NULL, 0);
        break;
    case LOAD_LOOK:
        if (l->kind == LOAD_SETXATTR) {
            opendfs_async_lgetxattr(fs, &l->op, l->path_a, XATTR, &l->shown, sizeof l->shown);
        } else {
            opendfs_async_lstat(fs, &l->op, l->kind == LOAD_LINK ? l->path_b : l->path_a);
        }
        break;
    case LOAD_ONLY:
        CHECK(!"a step of a file");
    }
}

static void start_name(struct load *l, struct opendfs *fs)
{
    switch (l->kind) {
    case LOAD_MKDIR:
        opendfs_async_mkdir(fs, &l->op, l->path_a, 0755);
        break;
    case LOAD_CREATE:
        l->values = (struct opendfs_stat){.mode = 0600};
        opendfs_async_create(fs, &l->op, l->path_a, &l->values, OPENDFS_SET_MODE, l->buffer,
                             l->len);
        break;
    case LOAD_SYMLINK:
        opendfs_async_symlink(fs, &l->op, l->target, l->path_a, NULL, 0);
        break;
    case LOAD_LINK:
        opendfs_async_link(fs, &l->op, l->path_a, l->path_b);
        break;
    case LOAD_UNLINK:
        opendfs_async_unlink(fs, &l->op, l->path_a);
        break;
    case LOAD_RMDIR:
        opendfs_async_rmdir(fs, &l->op, l->path_a);
        break;
    case LOAD_RENAME:
        opendfs_async_rename(fs, &l->op, l->path_a, l->path_b, 0);
        break;
    case LOAD_STAT:
        opendfs_async_lstat(fs, &l->op, l->path_a);
        break;
    case LOAD_CHMOD:
        l->values = (struct opendfs_stat){.mode = (uint32_t)l->len & 0777u};
        opendfs_async_setattr(fs, &l->op, l->path_a, &l->values, OPENDFS_SET_MODE);
        break;
    case LOAD_SETXATTR:
        l->value = (uint32_t)l->len + 1;
        l->xattr =
            (struct opendfs_xattr){.name = XATTR, .value = &l->value, .size = sizeof l->value};
        opendfs_async_lsetxattr(fs, &l->op, l->path_a, &l->xattr);
        break;
    case LOAD_GETXATTR:
        opendfs_async_lgetxattr(fs, &l->op, l->path_a, XATTR, &l->shown, sizeof l->shown);
        break;
    case LOAD_LIST:
        opendfs_async_list(fs, &l->op, l->path_a, NULL, 0);
        break;
    case LOAD_READLINK:
        opendfs_async_readlink(fs, &l->op, l->path_a, (char *)l->buffer, MODEL_PATH);
        break;
    case LOAD_READ:
    case LOAD_WRITE:
    case LOAD_TRUNCATE:
    case LOAD_KINDS:
        CHECK(!"an action on names");
    }
}

static void start_inside(void *context)
{
    struct load *l = context;
    struct opendfs *fs = l->w->node[l->node].process->fs;
    l->op = (struct opendfs_op){.done = op_done};
    l->arrived = false;
    if (l->step == LOAD_ONLY) {
        start_name(l, fs);
    } else {
        start_file_step(l, fs);
    }
}

static void start(struct load *l, enum load_step step)
{
    l->step = step;
    l->under_way = true;
    l->life = l->w->node[l->node].starts;
    l->losses_before = l->w->possible_losses;
    l->sync_ns = step == LOAD_SYNC ? world_now_ns(l->w) : l->sync_ns;
    if (step == LOAD_OPEN || step == LOAD_ONLY) {
        l->sessions_seen = l->w->node[l->node].sessions_lost;
    }
    loop_sim_enter(l->w->node[l->node].process->loop, start_inside, l);
}

/* ---- Choosing ---- */

/* Few names, so that they meet often; half of the places are ones that exist. */
static void random_place(struct load *l, struct model_place *ret)
{
    struct world *w = l->w;
    struct model_node *n = l->model.root;
    ret->depth = 0;
    unsigned depth = (unsigned)world_between(w, 1, MODEL_DEPTH - 1);
    while (ret->depth < depth) {
        unsigned name = (unsigned)world_between(w, 0, MODEL_NAMES - 1);
        for (unsigned k = 0; n != NULL && rand_chance(w->rand, 3, 4) && k < MODEL_NAMES; k++) {
            unsigned at = (name + k) % MODEL_NAMES;
            bool last = ret->depth + 1 == depth;
            if (n->entry[at] != NULL && (last || n->entry[at]->type == MODEL_DIRECTORY)) {
                name = at;
                break;
            }
        }
        n = n == NULL ? NULL : n->entry[name];
        n = n == NULL || n->type != MODEL_DIRECTORY ? NULL : n;
        ret->name[ret->depth++] = name;
    }
}

/* A directory's subtree may get no deeper than the model can hold. */
static bool too_deep(struct load *l)
{
    int rc = 0;
    const struct model_node *n = model_find(&l->model, &l->a, &rc);
    return n != NULL && n->type == MODEL_DIRECTORY && l->b.depth > l->a.depth;
}

static enum load_kind random_kind(struct world *w)
{
    static const uint8_t weight[LOAD_KINDS] = {
        [LOAD_MKDIR] = 6,  [LOAD_CREATE] = 10,  [LOAD_SYMLINK] = 3,  [LOAD_LINK] = 4,
        [LOAD_UNLINK] = 8, [LOAD_RMDIR] = 4,    [LOAD_RENAME] = 8,   [LOAD_STAT] = 6,
        [LOAD_CHMOD] = 3,  [LOAD_LIST] = 4,     [LOAD_READLINK] = 2, [LOAD_READ] = 16,
        [LOAD_WRITE] = 22, [LOAD_TRUNCATE] = 4, [LOAD_SETXATTR] = 9, [LOAD_GETXATTR] = 9};
    uint64_t sum = 0;
    for (unsigned i = 0; i < LOAD_KINDS; i++) {
        sum += weight[i];
    }
    uint64_t at = rand_below(w->rand, sum);
    unsigned kind = 0;
    while (at >= weight[kind]) {
        at -= weight[kind++];
    }
    return (enum load_kind)kind;
}

static void random_bytes(struct load *l, size_t len)
{
    CHECK(len <= MODEL_FILE_MAX);
    if (rand_chance(l->w->rand, 1, 8)) {
        memset(l->buffer, 0, len);
    } else {
        rand_bytes(l->w->rand, l->buffer, len);
    }
    l->len = len;
}

static void say(const struct load *l, const char *what)
{
    if (l->w->verbose) {
        printf("%12.6f client%u   %s %s%s %s %s len %zu at %llu -> %lld\n",
               (double)world_now_ns(l->w) / 1e9, l->node - WORLD_CLIENT(0) + 1, what,
               kind_names[l->kind], step_names[l->step], l->path_a,
               l->kind == LOAD_RENAME || l->kind == LOAD_LINK ? l->path_b : "", l->len,
               (unsigned long long)l->offset, (long long)l->op.result);
    }
}

/* Zeros as far as the file goes. Where that is must be known. */
static void next_punch(struct load *l)
{
    int rc = 0;
    const struct model_node *n = model_find(&l->model, &l->a, &rc);
    bool known = n != NULL && !n->vague && !n->wild && l->offset < n->now.len;
    l->punches = known && rand_chance(l->w->rand, 1, 5);
    if (l->punches) {
        l->len = base_min(l->len, n->now.len - (size_t)l->offset);
        memset(l->buffer, 0, l->len);
    }
}

static void next_write(struct load *l)
{
    struct world *w = l->w;
    size_t max = rand_chance(w->rand, 1, 4) ? 200000 : 9000;
    size_t len = (size_t)world_between(w, 1, max);
    uint64_t unit = rand_chance(w->rand, 1, 2) ? 4096 : 1;
    uint64_t room = MODEL_FILE_MAX - len;
    l->offset = rand_chance(w->rand, 1, 3) ? 0 : world_between(w, 0, room) / unit * unit;
    random_bytes(l, len);
    next_punch(l);
    l->writes_left--;
    start(l, LOAD_DATA);
}

static void begin_action(struct load *l)
{
    struct world *w = l->w;
    l->busy = true;
    l->file = NULL;
    l->began_ns = world_now_ns(w);
    l->kind = random_kind(w);
    random_place(l, &l->a);
    random_place(l, &l->b);
    if (l->kind == LOAD_RENAME && too_deep(l)) {
        l->kind = LOAD_STAT;
    }
    model_path(&l->a, l->prefix, l->path_a);
    model_path(&l->b, l->prefix, l->path_b);
    snprintf(l->target, sizeof l->target, "to/%llu", (unsigned long long)rand_u64(w->rand) % 1000);
    random_bytes(l, (size_t)world_between(w, 0, INLINE_MAX));
    l->writes_left = l->kind == LOAD_WRITE ? (unsigned)world_between(w, 1, WRITES_MAX) : 0;
    l->will_sync = rand_chance(w->rand, 2, 3);
    start(l, l->kind >= LOAD_READ ? LOAD_OPEN : LOAD_ONLY);
}

static void begin_audit_action(struct load *l)
{
    l->busy = true;
    l->file = NULL;
    l->began_ns = world_now_ns(l->w);
    l->a = l->places[l->place_next++];
    model_path(&l->a, l->prefix, l->path_a);
    int rc = 0;
    const struct model_node *n = model_find(&l->model, &l->a, &rc);
    CHECK(n != NULL);
    l->kind = n->type == MODEL_FILE        ? LOAD_READ
              : n->type == MODEL_DIRECTORY ? LOAD_LIST
                                           : LOAD_READLINK;
    start(l, l->kind == LOAD_READ ? LOAD_OPEN : LOAD_ONLY);
}

/* What a killed client has sent has been executed by now, or never will be. */
static bool is_calm(struct load *l)
{
    const struct world *w = l->w;
    uint64_t now = world_now_ns(w);
    const struct world_node *meta = &w->node[WORLD_META];
    if (w->cut || meta->process == NULL || now < meta->unsteady_until_ns) {
        l->calm_ns = now;
    }
    return now >= l->calm_ns + CALM_NS;
}

static void rest(struct load *l);

/* What was done to contents shows when they are read. */
static void look(struct load *l)
{
    if (l->step >= LOAD_DATA && l->step <= LOAD_CLOSE) {
        l->unresolved = false;
        l->finished++;
        rest(l);
    } else {
        start(l, LOAD_LOOK);
    }
}

static void woken(struct loop_sim_event *ev)
{
    struct load *l = container_of(ev, struct load, wake);
    if (!world_is_running(l->w, l->node) || (l->unresolved && !is_calm(l))) {
        loop_sim_at(l->w->sim, &l->wake, world_now_ns(l->w) + 10 * WORLD_MS);
    } else if (l->unresolved) {
        look(l);
    } else if (l->auditing) {
        begin_audit_action(l);
    } else {
        begin_action(l);
    }
}

static void rest(struct load *l)
{
    bool more = l->auditing ? l->place_next < l->place_count : l->finished < l->wanted;
    l->busy = false;
    if (!more || world_failed(l->w)) {
        l->ended = true;
        return;
    }
    uint64_t pause = rand_chance(l->w->rand, 1, 20) ? 1500 * WORLD_MS : 60 * WORLD_MS;
    loop_sim_at(l->w->sim, &l->wake, world_now_ns(l->w) + world_between(l->w, 1, pause));
}

/* ---- Checking ---- */

static void wrong(struct load *l, const char *what)
{
    world_fail(l->w, "client%u: %s%s %s%s%s (offset %llu, length %zu): %s; result %lld (%s)",
               l->node - WORLD_CLIENT(0) + 1, kind_names[l->kind], step_names[l->step], l->path_a,
               l->kind == LOAD_RENAME || l->kind == LOAD_LINK ? " " : "",
               l->kind == LOAD_RENAME || l->kind == LOAD_LINK ? l->path_b : "",
               (unsigned long long)l->offset, l->len, what, (long long)l->op.result,
               l->op.result < 0 ? l->op.error : "");
}

static void expect(struct load *l, int rc)
{
    if (l->op.result != rc) {
        char text[80];
        snprintf(text, sizeof text, "%s was to be expected", rc == 0 ? "success" : err_name(rc));
        wrong(l, text);
    }
}

static uint32_t type_of(const struct model_node *n)
{
    static const uint32_t types[] = {[MODEL_FILE] = OPENDFS_TYPE_FILE,
                                     [MODEL_DIRECTORY] = OPENDFS_TYPE_DIRECTORY,
                                     [MODEL_SYMLINK] = OPENDFS_TYPE_SYMLINK};
    return types[n->type];
}

static void check_stat(struct load *l, const struct model_node *n)
{
    const struct opendfs_stat *st = &l->op.stat;
    if (st->type != type_of(n) || (n->type != MODEL_SYMLINK && st->mode != n->mode)) {
        wrong(l, "another type or mode");
    } else if (n->type == MODEL_FILE &&
               (!model_len_possible(n, st->size_bytes) || st->nlink != n->nlink)) {
        wrong(l, "another size or number of links");
    }
}

static void check_list(struct load *l, const struct model_node *n)
{
    size_t count = 0;
    for (unsigned i = 0; i < MODEL_NAMES; i++) {
        count += n->entry[i] != NULL ? 1 : 0;
    }
    if (l->op.entry_count != count || l->op.at_end == 0) {
        wrong(l, "another number of names");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const struct opendfs_entry *e = &l->op.entries[i];
        unsigned name = (unsigned)(e->name[0] - 'a');
        if (e->name_len != 1 || name >= MODEL_NAMES || n->entry[name] == NULL ||
            e->stat.type != type_of(n->entry[name])) {
            wrong(l, "another name");
        }
    }
}

static void release_inside(void *context)
{
    struct load *l = context;
    opendfs_async_release(l->w->node[l->node].process->fs, &l->op);
}

/* The attribute as it was read is that of the model, or `other`. It is taken over. */
static void check_xattr(struct load *l, struct model_node *n, uint32_t other)
{
    bool there = l->op.result == (int64_t)sizeof l->shown;
    bool link = n->type == MODEL_SYMLINK; /* has none */
    if (!there && (link || n->xattr == 0)) {
        expect(l, -ENODATA);
    } else if (!there || link || (l->shown != n->xattr && l->shown != other)) {
        wrong(l, "another value of the attribute");
    } else {
        n->xattr = l->shown;
    }
}

/* Results of actions that change nothing. */
static void check_question(struct load *l)
{
    int rc = 0;
    struct model_node *n = model_find(&l->model, &l->a, &rc);
    if (n == NULL) {
        expect(l, rc);
    } else if (l->kind == LOAD_GETXATTR) {
        check_xattr(l, n, n->xattr);
    } else if (l->kind == LOAD_STAT) {
        expect(l, 0);
        check_stat(l, n);
    } else if (l->kind == LOAD_LIST && n->type != MODEL_DIRECTORY) {
        if (n->type == MODEL_FILE) { /* a symbolic link is followed, to where nothing is */
            expect(l, -ENOTDIR);
        }
    } else if (l->kind == LOAD_LIST) {
        if (l->op.result < 0) {
            wrong(l, "success was to be expected");
        } else {
            check_list(l, n);
        }
    } else if (n->type != MODEL_SYMLINK) {
        expect(l, -EINVAL);
    } else if (l->op.result != (int64_t)strlen(n->target) ||
               memcmp(l->buffer, n->target, strlen(n->target)) != 0) {
        wrong(l, "another target");
    }
    if (l->kind == LOAD_LIST) {
        loop_sim_enter(l->w->node[l->node].process->loop, release_inside, l);
    }
}

static int model_chmod(struct load *l)
{
    int rc = 0;
    struct model_node *n = model_find(&l->model, &l->a, &rc);
    if (n != NULL && n->type == MODEL_SYMLINK) {
        return l->op.result == 0 ? 0 : -EOPNOTSUPP; /* systems differ; it has no effect */
    }
    if (n != NULL) {
        n->mode = (uint32_t)l->len & 0777u;
    }
    return rc;
}

static int model_setxattr(struct load *l)
{
    int rc = 0;
    struct model_node *n = model_find(&l->model, &l->a, &rc);
    if (n != NULL && n->type != MODEL_SYMLINK) {
        n->xattr = l->value;
    }
    return n != NULL && n->type == MODEL_SYMLINK ? -EPERM : rc;
}

/* Disks are full, or were a moment ago: then nothing has changed. */
static bool full_explains(const struct load *l)
{
    return l->op.result == -ENOSPC && l->began_ns <= l->w->full_until_ns;
}

/* Does it in the model; what the answer must be. */
static int change_names(struct load *l)
{
    struct model *m = &l->model;
    switch (l->kind) {
    case LOAD_MKDIR:
        return l->a.depth == 0 ? 0 : model_mkdir(m, &l->a, 0755);
    case LOAD_CREATE:
        return model_create(m, &l->a, 0600, l->buffer, l->len, l->losses_before);
    case LOAD_SYMLINK:
        return model_symlink(m, &l->a, l->target);
    case LOAD_LINK:
        return model_link(m, &l->a, &l->b);
    case LOAD_UNLINK:
        return model_unlink(m, &l->a);
    case LOAD_RMDIR:
        return model_rmdir(m, &l->a);
    case LOAD_RENAME:
        return model_rename(m, &l->a, &l->b);
    case LOAD_CHMOD:
        return model_chmod(l);
    case LOAD_SETXATTR:
        return model_setxattr(l);
    case LOAD_WRITE:
    case LOAD_TRUNCATE: /* opening creates */
        return model_create(m, &l->a, 0644, l->buffer, 0, l->losses_before);
    case LOAD_STAT:
    case LOAD_GETXATTR:
    case LOAD_LIST:
    case LOAD_READLINK:
    case LOAD_READ:
    case LOAD_KINDS:
        break;
    }
    CHECK(!"a change");
    return 0;
}

static bool is_question(enum load_kind kind)
{
    return kind == LOAD_STAT || kind == LOAD_LIST || kind == LOAD_READLINK || kind == LOAD_READ ||
           kind == LOAD_GETXATTR;
}

static void check_name(struct load *l)
{
    if (is_question(l->kind)) {
        check_question(l);
    } else if (!full_explains(l)) {
        expect(l, change_names(l));
    }
    l->finished++;
    rest(l);
}

/* ---- Killed clients ---- */

static void interrupted(struct load *l)
{
    int rc = 0;
    struct model_node *n = model_find(&l->model, &l->a, &rc);
    say(l, "killed");
    l->under_way = false;
    l->file = NULL;
    if (is_question(l->kind)) {
        rest(l);
        return;
    }
    if (l->step == LOAD_DATA) {
        model_write(n, l->offset, l->buffer, l->len);
    } else if (l->step == LOAD_CUT) {
        model_truncate(n, l->len);
    }
    if (l->step >= LOAD_DATA && l->step <= LOAD_CLOSE) {
        model_blur(n);
    }
    l->unresolved = true;
    l->calm_ns = world_now_ns(l->w);
    loop_sim_at(l->w->sim, &l->wake, world_now_ns(l->w) + WORLD_MS);
}

static void look_at_mode(struct load *l, struct model_node *n)
{
    uint32_t mode = l->op.stat.mode;
    if (n->type == MODEL_SYMLINK) {
        return;
    }
    if (mode != n->mode && mode != ((uint32_t)l->len & 0777u)) {
        wrong(l, "neither the old nor the new mode");
    }
    n->mode = mode;
}

/* What was under way when the client was killed: has it happened? */
static void look_back(struct load *l)
{
    int rc = 0;
    bool is = l->op.result == 0;
    bool makes = l->kind != LOAD_UNLINK && l->kind != LOAD_RMDIR && l->kind != LOAD_RENAME;
    struct model_node *n = model_find(&l->model, l->kind == LOAD_LINK ? &l->b : &l->a, &rc);
    l->unresolved = false;
    if (l->kind == LOAD_SETXATTR && n == NULL) {
        expect(l, rc);
    } else if (l->kind == LOAD_SETXATTR) {
        check_xattr(l, n, l->value);
    } else if (is == (n != NULL)) {
        if (l->kind == LOAD_CHMOD && is) {
            look_at_mode(l, n);
        }
    } else if (l->kind == LOAD_CHMOD || is != makes || change_names(l) < 0) {
        wrong(l, "neither before nor after the change");
    }
    l->finished++;
    rest(l);
}

/* ---- Files ---- */

static void opened(struct load *l)
{
    int rc = 0;
    struct model_node *n = model_find(&l->model, &l->a, &rc);
    if (full_explains(l)) {
        l->finished++;
        rest(l);
        return;
    }
    if (n == NULL && rc == -ENOENT && l->kind != LOAD_READ) {
        rc = change_names(l);
    } else if (n != NULL) {
        rc = n->type == MODEL_DIRECTORY ? -EISDIR : n->type == MODEL_SYMLINK ? -ELOOP : 0;
    }
    expect(l, rc);
    if (rc < 0 || world_failed(l->w)) {
        l->finished++;
        rest(l);
        return;
    }
    l->file = l->op.file;
    l->ino = l->op.stat.ino;
    if (l->kind == LOAD_WRITE) {
        next_write(l);
    } else if (l->kind == LOAD_TRUNCATE) {
        l->len = (size_t)world_between(l->w, 0, MODEL_FILE_MAX);
        start(l, LOAD_CUT);
    } else {
        start(l, LOAD_DATA);
    }
}

static void after_data(struct load *l)
{
    int rc = 0;
    const struct model_node *n = model_find(&l->model, &l->a, &rc);
    bool must_sync = n->past_count + WRITES_MAX >= MODEL_PAST_MAX; /* it remembers no more */
    if (l->writes_left > 0) {
        next_write(l);
    } else if (l->kind != LOAD_READ && (l->will_sync || must_sync)) {
        start(l, LOAD_SYNC);
    } else {
        start(l, LOAD_CLOSE);
    }
}

/* The only copy that is as new as the record may be bad (and a member that has another repairs it
 * soon: at the end of a run it has). */
static bool rot_explains(const struct load *l)
{
    return l->op.result == -EIO && world_may_lack_good_copies(l->w);
}

/* An error of a write that was acknowledged before is allowed when data could have been lost. */
static bool loss_explains(struct load *l, const struct model_node *n)
{
    return l->op.result == -EIO && n->loss_seen != l->w->possible_losses;
}

/* The client's session was ended meanwhile (it stood still, and somebody wanted a file that it had
 * open): what it had not flushed is lost, and of what was under way nobody knows (L5). */
static bool session_explains(const struct load *l)
{
    bool told = l->op.result == -EIO || l->op.result == -ESTALE;
    return told && l->w->node[l->node].sessions_lost != l->sessions_seen;
}

/* It was asked for once more, because the first answer was lost, and the log was full by then. */
static bool full_leaves_open(const struct load *l)
{
    return l->op.result == -EIO && l->began_ns <= l->w->full_until_ns &&
           strstr(l->op.error, "outcome is unknown") != NULL;
}

/* An error that may be; then what was written may be there or not. */
static bool error_explained(struct load *l, struct model_node *n)
{
    if (full_explains(l) || full_leaves_open(l) || rot_explains(l) || session_explains(l)) {
        model_blur(n);
        return true;
    }
    return loss_explains(l, n);
}

static void wrong_bytes(struct load *l, const struct model_node *n)
{
    size_t len = (size_t)l->op.result, first = 0, last = len;
    char text[120];
    while (first < len && l->buffer[first] == n->now.bytes[first]) {
        first++;
    }
    while (last > first && l->buffer[last - 1] == n->now.bytes[last - 1]) {
        last--;
    }
    snprintf(text, sizeof text, "bytes %zu to %zu (%02x, not %02x, ...), length %zu, not %zu",
             first, last, first < len ? l->buffer[first] : 0, n->now.bytes[first], len, n->now.len);
    wrong(l, text);
}

static void check_read(struct load *l, struct model_node *n)
{
    struct world *w = l->w;
    if (l->auditing && w->seen_count < WORLD_SEEN_MAX) {
        w->seen[w->seen_count++] = (struct world_seen){.ino = l->ino, .failed = l->op.result < 0};
    }
    if (l->op.result < 0) {
        if (!rot_explains(l)) {
            wrong(l, "success was to be expected");
        }
    } else if (!model_check(n, l->buffer, (size_t)l->op.result, l->w->possible_losses)) {
        wrong_bytes(l, n);
    }
}

static void check_written(struct load *l, struct model_node *n)
{
    model_write(n, l->offset, l->buffer, l->len);
    int64_t expected = l->punches ? 0 : (int64_t)l->len;
    if (l->op.result != expected && !error_explained(l, n)) {
        wrong(l, "success was to be expected");
    }
}

static void check_file_step(struct load *l)
{
    int rc = 0;
    struct model_node *n = model_find(&l->model, &l->a, &rc);
    CHECK(n != NULL);
    switch (l->step) {
    case LOAD_OPEN:
        opened(l);
        return;
    case LOAD_DATA:
        if (l->kind == LOAD_READ) {
            check_read(l, n);
        } else {
            check_written(l, n);
        }
        after_data(l);
        return;
    case LOAD_CUT:
        model_truncate(n, l->len);
        if (!error_explained(l, n)) {
            expect(l, 0);
        }
        after_data(l);
        return;
    case LOAD_SYNC:
        if (!error_explained(l, n)) {
            expect(l, 0);
            /* A loss after the start of the sync may or may not be covered by it. */
            model_synced(n, l->losses_before);
            if (l->op.result == 0 && !n->was_vague && l->w->watch != NULL) {
                const struct watch_sync sync = {
                    .ino = l->ino, .len = n->now.len, .began_ns = l->sync_ns};
                watch_synced(l->w->watch, &sync);
            }
        }
        start(l, LOAD_CLOSE);
        return;
    case LOAD_CLOSE:
        if (!error_explained(l, n)) {
            expect(l, 0);
        }
        l->finished++;
        rest(l);
        return;
    case LOAD_LOOK:
    case LOAD_ONLY:
        break;
    }
    CHECK(!"a step of a file");
}

bool load_step(struct load *l)
{
    const struct world_node *n = &l->w->node[l->node];
    if (l->under_way && !l->arrived && (n->process == NULL || n->starts != l->life)) {
        interrupted(l);
    }
    if (l->arrived) {
        l->arrived = false;
        l->under_way = false;
        say(l, "end");
        bool open = session_explains(l) || full_leaves_open(l);
        if ((l->step == LOAD_ONLY || l->step == LOAD_OPEN) && open) {
            interrupted(l);
        } else if (l->step == LOAD_ONLY) {
            check_name(l);
        } else if (l->step == LOAD_LOOK) {
            look_back(l);
        } else if (l->step == LOAD_OPEN) {
            opened(l);
        } else {
            check_file_step(l);
        }
    }
    return l->ended;
}

/* ---- Life ---- */

void load_init(struct load *l, struct world *w, unsigned client, unsigned actions)
{
    *l = (struct load){.w = w, .node = WORLD_CLIENT(client), .wanted = actions};
    snprintf(l->prefix, sizeof l->prefix, "/c%u", client);
    l->wake.run = woken;
    l->buffer = mem_zalloc(MODEL_FILE_MAX);
    CHECK(l->buffer != NULL);
    model_init(&l->model);
}

void load_fini(struct load *l)
{
    loop_sim_cancel(l->w->sim, &l->wake);
    model_fini(&l->model);
    mem_free(l->buffer);
    mem_free(l->places);
}

void load_begin(struct load *l)
{
    /* The directory that everything lies below. */
    l->busy = true;
    l->kind = LOAD_MKDIR;
    snprintf(l->path_a, sizeof l->path_a, "%s", l->prefix);
    start(l, LOAD_ONLY);
}

/* All places of the model, the root first. */
static void collect(struct load *l)
{
    size_t size = 0;
    struct model_place first = {0};
    l->place_count = l->place_next = 0;
    int rc = mem_grow(&l->places, &size, 1, sizeof *l->places);
    CHECK(rc == 0);
    l->places[l->place_count++] = first;
    for (size_t i = 0; i < l->place_count; i++) {
        struct model_place at = l->places[i];
        const struct model_node *n = model_find(&l->model, &at, &rc);
        for (unsigned k = 0; n->type == MODEL_DIRECTORY && k < MODEL_NAMES; k++) {
            if (n->entry[k] != NULL) {
                rc = mem_grow(&l->places, &size, l->place_count + 1, sizeof *l->places);
                CHECK(rc == 0);
                struct model_place *below = &l->places[l->place_count++];
                *below = at;
                below->name[below->depth++] = k;
            }
        }
    }
}

void load_begin_audit(struct load *l)
{
    collect(l);
    l->auditing = true;
    l->ended = false;
    rest(l);
}

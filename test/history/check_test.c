/*
 * history/check_test.c -- the checker of histories: what it must accept, what it must refuse, and
 * thousands of small random histories, good ones and ones with a wrong answer, for which it must
 * say the same as trying all orders.
 */
#include "check.h"

#include "base/mem.h"
#include "base/rand.h"
#include "base/text.h"
#include "testing/testing.h"
#include "tree.h"

#include <string.h>

struct told {
    enum history_kind kind;
    const char *path, *to;
    uint32_t n; /* mode, data or flags */
};
struct told_answer {
    int error;
    uint32_t ino, mode, nlink, got;
    enum history_type type;
    const char *names; /* of a list: files, one letter each */
};

static uint64_t clock_ns(const struct history *h)
{
    return h->event_count;
}

static size_t ask(struct history *h, unsigned process, struct told q)
{
    struct history_op op = {
        .kind = q.kind, .process = process, .data = q.n, .begin_ns = clock_ns(h)};
    op.mode = q.kind == HISTORY_CHMOD ? q.n : 0644;
    op.flags = q.kind == HISTORY_RENAME ? q.n : 0;
    CHECK_OK(history_path(h, q.path, &op.path));
    if (q.to != NULL) {
        CHECK_OK(history_path(h, q.to, &op.to));
    }
    size_t at = 0;
    CHECK_OK(history_begin(h, &op, &at));
    return at;
}

static void tell(struct history *h, size_t at, struct told_answer a)
{
    struct history_op *op = &h->op[at];
    op->outcome = a.error == 0 ? HISTORY_OK : HISTORY_FAILED;
    op->error = a.error;
    op->ino = a.ino;
    op->type = a.type;
    op->got_mode = a.mode;
    op->nlink = a.nlink;
    op->got = a.got;
    op->end_ns = clock_ns(h);
    for (unsigned i = 0; a.names != NULL && i < HISTORY_NAMES; i++) {
        if (i < h->name_count && strstr(a.names, h->name[i]) != NULL) {
            op->entry[op->entry_count++] =
                (struct history_entry){.name = (uint8_t)i, .type = HISTORY_FILE};
        }
    }
    CHECK_OK(history_end(h, at));
}

/* Begins and ends with nothing in between. */
static void both(struct history *h, unsigned process, struct told q, struct told_answer a)
{
    tell(h, ask(h, process, q), a);
}

#define Q(kind, path) ((struct told){kind, path, NULL, 0})
#define QN(kind, path, n) ((struct told){kind, path, NULL, n})
#define QTO(kind, path, to, n) ((struct told){kind, path, to, n})
#define A(...) ((struct told_answer){__VA_ARGS__})

static void expect(struct history *h, enum check_verdict verdict)
{
    struct check_report r;
    CHECK_OK(check_history(h, 0, &r));
    if (r.verdict != verdict) {
        printf("%s\n", r.text);
    }
    CHECK_EQ(r.verdict, verdict);
    if (h->op_count <= 8) {
        CHECK_EQ(check_by_force(h), verdict == CHECK_LINEARIZABLE);
    }
    history_fini(h);
}

TEST(one_after_the_other)
{
    struct history h;
    history_init(&h);
    both(&h, 0, Q(HISTORY_MKDIR, "/d"), A(.ino = 2));
    both(&h, 0, QN(HISTORY_CREATE, "/d/a", 7), A(.ino = 3));
    both(&h, 1, QN(HISTORY_CREATE, "/d/a", 8), A(.error = EEXIST));
    both(&h, 1, QTO(HISTORY_LINK, "/d/a", "/b", 0), A(.ino = 3));
    both(&h, 0, QN(HISTORY_CHMOD, "/b", 0600), A(.ino = 3));
    both(&h, 1, Q(HISTORY_STAT, "/d/a"),
         A(.type = HISTORY_FILE, .ino = 3, .mode = 0600, .nlink = 2));
    both(&h, 1, Q(HISTORY_RMDIR, "/d"), A(.error = ENOTEMPTY));
    both(&h, 1, Q(HISTORY_UNLINK, "/d"), A(.error = EISDIR));
    both(&h, 1, QTO(HISTORY_RENAME, "/d", "/d/a", 0), A(.error = EINVAL));
    both(&h, 1, QTO(HISTORY_RENAME, "/d", "/b", HISTORY_EXCHANGE), A(.error = 0));
    both(&h, 1, Q(HISTORY_READ, "/b/a"), A(.got = 7));
    both(&h, 1, Q(HISTORY_READ, "/d/a"), A(.error = ENOTDIR));
    both(&h, 1, Q(HISTORY_LIST, "/b"), A(.names = "a"));
    both(&h, 1, QN(HISTORY_SYMLINK, "/s", 9), A(.ino = 9));
    both(&h, 1, Q(HISTORY_READ, "/s"), A(.error = ELOOP));
    both(&h, 1, Q(HISTORY_READLINK, "/s"), A(.got = 9));
    both(&h, 1, QTO(HISTORY_RENAME, "/s", "/b", HISTORY_NOREPLACE), A(.error = EEXIST));
    both(&h, 1, QTO(HISTORY_RENAME, "/d", "/s", 0), A(.error = 0));
    both(&h, 1, Q(HISTORY_READLINK, "/s"), A(.error = EINVAL));
    expect(&h, CHECK_LINEARIZABLE);
}

TEST(lost_update)
{
    struct history h;
    history_init(&h);
    both(&h, 0, QN(HISTORY_CREATE, "/a", 1), A(.ino = 2));
    both(&h, 0, QN(HISTORY_WRITE, "/a", 2), A(.error = 0));
    both(&h, 1, Q(HISTORY_READ, "/a"), A(.got = 1));
    expect(&h, CHECK_NOT_LINEARIZABLE);
}

TEST(stale_read_after_another_one_was_told)
{
    for (unsigned stale = 0; stale < 2; stale++) {
        struct history h;
        history_init(&h);
        both(&h, 0, QN(HISTORY_CREATE, "/a", 1), A(.ino = 2));
        size_t chmod = ask(&h, 0, QN(HISTORY_CHMOD, "/a", 0600));
        both(&h, 1, Q(HISTORY_STAT, "/a"),
             A(.type = HISTORY_FILE, .mode = stale ? 0600 : 0644, .nlink = 1));
        both(&h, 2, Q(HISTORY_STAT, "/a"),
             A(.type = HISTORY_FILE, .mode = stale ? 0644 : 0600, .nlink = 1));
        tell(&h, chmod, A(.ino = 2));
        expect(&h, stale ? CHECK_NOT_LINEARIZABLE : CHECK_LINEARIZABLE);
    }
}

TEST(resurrected_name)
{
    struct history h;
    history_init(&h);
    both(&h, 0, QN(HISTORY_CREATE, "/a", 1), A(.ino = 2));
    both(&h, 0, Q(HISTORY_UNLINK, "/a"), A(.error = 0));
    both(&h, 1, Q(HISTORY_STAT, "/a"), A(.type = HISTORY_FILE, .ino = 2, .mode = 0644, .nlink = 1));
    expect(&h, CHECK_NOT_LINEARIZABLE);
}

/* The first copy of the request has done it, the second one was told. */
TEST(create_answered_from_its_second_copy)
{
    struct history h;
    history_init(&h);
    both(&h, 0, QN(HISTORY_CREATE, "/a", 1), A(.error = EEXIST));
    both(&h, 0, Q(HISTORY_STAT, "/a"), A(.type = HISTORY_FILE, .mode = 0644, .nlink = 1));
    expect(&h, CHECK_NOT_LINEARIZABLE);
}

/* A late copy does it again: nobody's name is there, with a number that nobody was told. */
TEST(late_copy_is_executed_again)
{
    struct history h;
    history_init(&h);
    both(&h, 0, QN(HISTORY_CREATE, "/a", 1), A(.ino = 2));
    both(&h, 0, Q(HISTORY_UNLINK, "/a"), A(.error = 0));
    both(&h, 1, Q(HISTORY_STAT, "/a"), A(.type = HISTORY_FILE, .ino = 3, .mode = 0644, .nlink = 1));
    expect(&h, CHECK_NOT_LINEARIZABLE);
}

TEST(rename_is_seen_whole_or_not_at_all)
{
    static const struct {
        const char *names;
        enum check_verdict verdict;
    } cases[] = {{"a", CHECK_LINEARIZABLE},
                 {"b", CHECK_LINEARIZABLE},
                 {"ab", CHECK_NOT_LINEARIZABLE},
                 {"", CHECK_NOT_LINEARIZABLE}};
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
        struct history h;
        history_init(&h);
        both(&h, 0, QN(HISTORY_CREATE, "/a", 1), A(.ino = 2));
        size_t rename = ask(&h, 0, QTO(HISTORY_RENAME, "/a", "/b", 0));
        both(&h, 1, Q(HISTORY_LIST, "/"), A(.names = cases[i].names));
        tell(&h, rename, A(.error = 0));
        expect(&h, cases[i].verdict);
    }
}

TEST(exchange_is_seen_whole)
{
    for (unsigned half = 0; half < 2; half++) {
        struct history h;
        history_init(&h);
        both(&h, 0, QN(HISTORY_CREATE, "/a", 1), A(.ino = 2));
        both(&h, 0, QN(HISTORY_CREATE, "/b", 2), A(.ino = 3));
        size_t rename = ask(&h, 0, QTO(HISTORY_RENAME, "/a", "/b", HISTORY_EXCHANGE));
        both(&h, 1, Q(HISTORY_READ, "/a"), A(.got = 2));
        both(&h, 1, Q(HISTORY_READ, "/b"), A(.got = half ? 2 : 1));
        tell(&h, rename, A(.error = 0));
        expect(&h, half ? CHECK_NOT_LINEARIZABLE : CHECK_LINEARIZABLE);
    }
}

/* It may happen at any time, or never; but it does not come undone. */
TEST(unknown_outcome)
{
    for (unsigned undone = 0; undone < 2; undone++) {
        struct history h;
        history_init(&h);
        (void)ask(&h, 0, QN(HISTORY_CREATE, "/a", 1));
        both(&h, 1, Q(HISTORY_STAT, "/a"), A(.error = ENOENT));
        both(&h, 1, Q(HISTORY_STAT, "/a"),
             A(.type = HISTORY_FILE, .ino = 5, .mode = 0644, .nlink = 1));
        both(&h, 1, Q(HISTORY_STAT, "/a"),
             undone ? A(.error = ENOENT)
                    : A(.type = HISTORY_FILE, .ino = 5, .mode = 0644, .nlink = 1));
        expect(&h, undone ? CHECK_NOT_LINEARIZABLE : CHECK_LINEARIZABLE);
    }
}

TEST(number_of_an_inode_never_changes)
{
    struct history h;
    history_init(&h);
    (void)ask(&h, 0, QN(HISTORY_CREATE, "/a", 1));
    both(&h, 1, Q(HISTORY_STAT, "/a"), A(.type = HISTORY_FILE, .ino = 5, .mode = 0644, .nlink = 1));
    both(&h, 1, Q(HISTORY_STAT, "/a"), A(.type = HISTORY_FILE, .ino = 6, .mode = 0644, .nlink = 1));
    expect(&h, CHECK_NOT_LINEARIZABLE);
}

/* Paths are walked in steps: /d was /e when its turn came, but /e/a was never there. */
TEST(directories_may_move_while_a_path_is_walked)
{
    for (unsigned early = 0; early < 2; early++) {
        struct history h;
        history_init(&h);
        both(&h, 0, Q(HISTORY_MKDIR, "/d"), A(.ino = 2));
        size_t create = early ? 0 : ask(&h, 1, QN(HISTORY_CREATE, "/d/a", 1));
        both(&h, 0, QTO(HISTORY_RENAME, "/d", "/e", 0), A(.error = 0));
        create = early ? ask(&h, 1, QN(HISTORY_CREATE, "/d/a", 1)) : create;
        both(&h, 0, Q(HISTORY_LIST, "/e"), A(.names = ""));
        tell(&h, create, A(.ino = 3));
        both(&h, 0, Q(HISTORY_LIST, "/e"), A(.names = "a"));
        expect(&h, early ? CHECK_NOT_LINEARIZABLE : CHECK_LINEARIZABLE);
    }
}

TEST(too_much_is_not_success)
{
    struct history h;
    struct check_report r;
    history_init(&h);
    for (unsigned i = 0; i <= TREE_SLOTS; i++) {
        (void)ask(&h, i, QN(HISTORY_CREATE, "/a", 1));
    }
    CHECK_OK(check_history(&h, 0, &r));
    CHECK_EQ(r.verdict, CHECK_UNKNOWN);
    history_fini(&h);
    history_init(&h);
    for (unsigned i = 0; i < 6; i++) {
        both(&h, i, Q(HISTORY_STAT, "/a"), A(.error = ENOENT));
    }
    CHECK_OK(check_history(&h, 2, &r));
    CHECK_EQ(r.verdict, CHECK_UNKNOWN);
    history_fini(&h);
}

/* ---- Random histories: the model is run, so that the answers are right ---- */

#define RUN_PROCESSES 3u
#define RUN_OPS 6u

struct run {
    struct history h;
    struct rand rand;
    struct tree tree;
    size_t under_way[RUN_PROCESSES]; /* operation + 1 */
    size_t begun;
};

static void random_path(struct run *r, struct history_path *p, bool root)
{
    p->depth = (uint8_t)rand_range(&r->rand, root ? 0 : 1, 2);
    for (unsigned i = 0; i < p->depth; i++) {
        p->name[i] = (uint8_t)rand_below(&r->rand, 3);
    }
}

static void random_op(struct run *r, unsigned process)
{
    struct history_op op = {.process = process, .begin_ns = clock_ns(&r->h)};
    bool early = r->begun < 2; /* otherwise nothing is ever there */
    op.kind = (enum history_kind)rand_below(&r->rand, early ? 2 : HISTORY_KIND_COUNT);
    random_path(r, &op.path, op.kind == HISTORY_STAT || op.kind == HISTORY_LIST);
    if (op.kind == HISTORY_RENAME || op.kind == HISTORY_LINK) {
        random_path(r, &op.to, false);
    }
    op.path.depth = early ? 1 : op.path.depth;
    op.flags = op.kind == HISTORY_RENAME ? (uint32_t)rand_below(&r->rand, 3) : 0;
    op.mode = (uint32_t)rand_range(&r->rand, 1, 2);
    op.data = (uint32_t)rand_range(&r->rand, 1, 3);
    size_t at = 0;
    CHECK_OK(history_begin(&r->h, &op, &at));
    tree_begin(&r->tree, (unsigned)at);
    r->under_way[process] = at + 1;
    r->begun++;
}

/* What the tree would say. */
static void fill_answer(struct run *r, struct history_op *op, const struct tree_walker *w)
{
    const struct tree *t = &r->tree;
    unsigned at = w->at[0];
    if (op->kind == HISTORY_STAT && op->path.depth > 0) {
        at = t->inode[at].entry[op->path.name[op->path.depth - 1]];
    }
    const struct tree_inode *n = &t->inode[at];
    bool dir = n->type == HISTORY_DIRECTORY;
    op->outcome = HISTORY_OK;
    op->type = (enum history_type)n->type;
    op->got_mode = n->mode;
    op->got = n->content;
    op->nlink = dir ? 2 : n->names;
    op->ino = op->kind == HISTORY_CREATE || op->kind == HISTORY_MKDIR || op->kind == HISTORY_SYMLINK
                  ? 0
                  : n->number;
    op->entry_count = 0;
    for (unsigned i = 0; i < HISTORY_NAMES; i++) {
        const struct tree_inode *below = &t->inode[n->entry[i]];
        if (n->entry[i] != TREE_NONE) {
            op->nlink += below->type == HISTORY_DIRECTORY ? 1 : 0;
            op->entry[op->entry_count++] =
                (struct history_entry){(uint8_t)i, (enum history_type)below->type, below->number};
        }
    }
}

/* One step of one operation; true: it has ended. */
static bool run_step(struct run *r, size_t at)
{
    static const int errors[] = {ENOENT, EEXIST, ENOTDIR, EISDIR, EINVAL, ENOTEMPTY, ELOOP, EPERM};
    struct history_op *op = &r->h.op[at];
    unsigned slot = (unsigned)at;
    for (unsigned i = 0; i < ARRAY_COUNT(errors); i++) {
        struct tree copy = r->tree;
        op->outcome = HISTORY_FAILED;
        op->error = errors[i];
        if (tree_step(&copy, op, slot) == 1 && tree_has_ended(&copy, slot)) {
            r->tree = copy;
            return true;
        }
    }
    op->error = 0;
    fill_answer(r, op, &r->tree.walker[slot]);
    CHECK_EQ(tree_step(&r->tree, op, slot), 1);
    return tree_has_ended(&r->tree, slot);
}

static void run_some(struct run *r, unsigned process)
{
    size_t at = r->under_way[process];
    if (at == 0) {
        if (r->begun < RUN_OPS) {
            random_op(r, process);
        }
        return;
    }
    struct history_op *op = &r->h.op[at - 1];
    if (!tree_has_ended(&r->tree, (unsigned)at - 1)) {
        enum history_outcome before = op->outcome;
        if (!run_step(r, at - 1)) {
            op->outcome = before;
        }
    } else if (rand_chance(&r->rand, 1, 12)) {
        op->outcome = HISTORY_OPEN; /* its client ends before it hears of it */
        r->under_way[process] = RUN_OPS + 1;
    } else {
        op->end_ns = clock_ns(&r->h);
        CHECK_OK(history_end(&r->h, at - 1));
        r->under_way[process] = 0;
    }
}

static bool run_is_over(const struct run *r)
{
    for (unsigned i = 0; i < RUN_PROCESSES; i++) {
        if (r->under_way[i] != RUN_OPS + 1 && (r->under_way[i] != 0 || r->begun < RUN_OPS)) {
            return false;
        }
    }
    return true;
}

static void run_new(struct run *r, uint64_t seed)
{
    static const char *const names[] = {"a", "b", "c"};
    *r = (struct run){.begun = 0};
    history_init(&r->h);
    for (unsigned i = 0; i < ARRAY_COUNT(names); i++) {
        CHECK_EQ(history_name(&r->h, names[i], 1), (int)i);
    }
    rand_seed(&r->rand, seed);
    tree_init(&r->tree);
    for (unsigned i = 0; !run_is_over(r); i++) {
        CHECK_TRUE(i < 10000);
        unsigned process = (unsigned)rand_below(&r->rand, RUN_PROCESSES);
        if (r->under_way[process] != RUN_OPS + 1) {
            run_some(r, process);
        }
    }
}

/* Another answer to one of the operations. */
static void flip(struct run *r)
{
    static const int errors[] = {0, ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY};
    struct history_op *op = &r->h.op[rand_below(&r->rand, r->h.op_count)];
    if (op->outcome == HISTORY_OPEN) {
        return;
    }
    switch (rand_below(&r->rand, 4)) {
    case 0:
        op->got = (uint32_t)rand_below(&r->rand, 4);
        op->got_mode = (uint32_t)rand_below(&r->rand, 3);
        break;
    case 1:
        op->nlink = (uint32_t)rand_below(&r->rand, 4);
        op->entry_count -= op->entry_count > 0 ? 1 : 0;
        break;
    default:
        op->error = errors[rand_below(&r->rand, ARRAY_COUNT(errors))];
        op->outcome = op->error == 0 ? HISTORY_OK : HISTORY_FAILED;
        break;
    }
}

TEST(says_the_same_as_trying_all_orders)
{
    unsigned refused = 0;
    for (uint64_t i = 0; i < 4000; i++) {
        struct run *r = mem_zalloc(sizeof *r);
        struct check_report good, bad;
        CHECK_TRUE(r != NULL);
        run_new(r, testing_seed() + i);
        CHECK_OK(check_history(&r->h, 0, &good));
        CHECK_EQ(good.verdict, CHECK_LINEARIZABLE);
        flip(r);
        CHECK_OK(check_history(&r->h, 0, &bad));
        int forced = check_by_force(&r->h);
        CHECK_TRUE(forced >= 0);
        CHECK_EQ(bad.verdict, forced == 1 ? CHECK_LINEARIZABLE : CHECK_NOT_LINEARIZABLE);
        refused += forced == 0 ? 1 : 0;
        history_fini(&r->h);
        mem_free(r);
    }
    CHECK_TRUE(refused > 1000);
}

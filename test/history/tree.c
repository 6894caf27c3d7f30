/* history/tree.c -- see tree.h. */
#include "tree.h"

#include "base/text.h"

#include <string.h>

/* What a step needs to know. */
struct step {
    struct tree *t;
    const struct history_op *op;
    struct tree_walker *walker;
};

static bool is_dir(const struct tree *t, unsigned i)
{
    return t->inode[i].type == HISTORY_DIRECTORY;
}

void tree_init(struct tree *t)
{
    memset(t, 0, sizeof *t);
    t->inode[0].type = HISTORY_DIRECTORY;
    t->inode[0].names = 1;
    t->inode[0].mode = 0755;
}

void tree_begin(struct tree *t, unsigned slot)
{
    t->walker[slot] = (struct tree_walker){0};
}

bool tree_has_ended(const struct tree *t, unsigned slot)
{
    return t->walker[slot].steps == TREE_ENDED;
}

/* ---- Ends ---- */

/* The operation ends with this; does that fit? */
static int end(const struct step *s, int error)
{
    const struct history_op *op = s->op;
    if (op->outcome == HISTORY_OPEN) {
        if (error != 0) {
            return 0; /* as if it had never happened */
        }
    } else if (error == 0 ? op->outcome != HISTORY_OK
                          : op->outcome != HISTORY_FAILED || op->error != error) {
        return 0;
    }
    s->walker->steps = TREE_ENDED;
    s->walker->at[0] = s->walker->at[1] = 0;
    return 1;
}

/* The client was told this number of this inode: always the same, and nobody else's. */
static bool know(struct tree *t, unsigned inode, uint32_t number)
{
    if (number == 0 || t->inode[inode].number != 0) {
        return number == 0 || t->inode[inode].number == number;
    }
    for (unsigned i = 0; i < TREE_INODES; i++) {
        if (t->inode[i].type != HISTORY_NOTHING && t->inode[i].number == number) {
            return false;
        }
    }
    t->inode[inode].number = number;
    return true;
}

static int end_knowing(const struct step *s, unsigned inode)
{
    bool told = s->op->outcome == HISTORY_OK;
    return told && !know(s->t, inode, s->op->ino) ? 0 : end(s, 0);
}

/* ---- Walking ---- */

static bool leads_to_inode(enum history_kind kind)
{
    return kind == HISTORY_LINK || kind == HISTORY_CHMOD || kind == HISTORY_WRITE ||
           kind == HISTORY_LIST || kind == HISTORY_READLINK || kind == HISTORY_READ;
}

/* Errors of the last name of a path, by what it stands for. */
static int last_error(enum history_kind kind, uint8_t type)
{
    if (kind == HISTORY_LIST && type != HISTORY_DIRECTORY) {
        return type == HISTORY_FILE ? ENOTDIR : ENOENT; /* links lead nowhere */
    }
    if (kind == HISTORY_READLINK && type != HISTORY_LINK_TO) {
        return EINVAL;
    }
    if ((kind == HISTORY_READ || kind == HISTORY_WRITE) && type != HISTORY_FILE) {
        return type == HISTORY_DIRECTORY ? EISDIR : ELOOP;
    }
    return 0;
}

/* One component: from the directory in `at` to what the name stands for. */
static int walk(const struct step *s, uint8_t *at, uint8_t name, bool last)
{
    const struct tree *t = s->t;
    unsigned to = t->inode[*at].entry[name];
    if (to == TREE_NONE) {
        return end(s, ENOENT);
    }
    uint8_t type = t->inode[to].type;
    int error = last                        ? last_error(s->op->kind, type)
                : type == HISTORY_DIRECTORY ? 0
                : type == HISTORY_FILE      ? ENOTDIR
                                            : ENOENT;
    if (error != 0) {
        return end(s, error);
    }
    *at = (uint8_t)to;
    s->walker->steps++;
    return 1;
}

/* ---- Changes ---- */

static int find_free(const struct tree *t)
{
    for (unsigned i = 1; i < TREE_INODES; i++) {
        if (t->inode[i].type == HISTORY_NOTHING) {
            return (int)i;
        }
    }
    return -E2BIG;
}

static int make(const struct step *s, enum history_type type)
{
    struct tree *t = s->t;
    const struct history_path *p = &s->op->path;
    uint8_t dir = s->walker->at[0], name = p->name[p->depth - 1];
    if (t->inode[dir].names == 0) {
        return end(s, ENOENT);
    }
    if (t->inode[dir].entry[name] != TREE_NONE) {
        return end(s, EEXIST);
    }
    int at = find_free(t);
    if (at < 0) {
        return at;
    }
    t->inode[at] = (struct tree_inode){.type = (uint8_t)type,
                                       .names = 1,
                                       .parent = type == HISTORY_DIRECTORY ? dir : 0,
                                       .mode = type == HISTORY_LINK_TO ? 0 : (uint16_t)s->op->mode,
                                       .content = s->op->data};
    t->inode[dir].entry[name] = (uint8_t)at;
    return end_knowing(s, (unsigned)at);
}

static bool is_empty(const struct tree_inode *n)
{
    for (unsigned i = 0; i < HISTORY_NAMES; i++) {
        if (n->entry[i] != TREE_NONE) {
            return false;
        }
    }
    return true;
}

static int remove_name(const struct step *s)
{
    struct tree *t = s->t;
    const struct history_path *p = &s->op->path;
    uint8_t *entry = &t->inode[s->walker->at[0]].entry[p->name[p->depth - 1]];
    bool rmdir = s->op->kind == HISTORY_RMDIR;
    if (*entry == TREE_NONE) {
        return end(s, ENOENT);
    }
    struct tree_inode *n = &t->inode[*entry];
    if ((n->type == HISTORY_DIRECTORY) != rmdir) {
        return end(s, rmdir ? ENOTDIR : EISDIR);
    }
    if (rmdir && !is_empty(n)) {
        return end(s, ENOTEMPTY);
    }
    n->names--;
    *entry = TREE_NONE;
    return end(s, 0);
}

/* Is `at` the same as `top`, or below it? */
static bool is_below(const struct tree *t, unsigned at, unsigned top)
{
    for (unsigned i = 0; i < TREE_INODES && at != top && at != 0; i++) {
        at = t->inode[at].parent;
    }
    return at == top;
}

static int rename_error(const struct tree *t, const struct history_op *op, const uint8_t dir[2],
                        const uint8_t what[2])
{
    bool exchange = op->flags == HISTORY_EXCHANGE;
    if (what[0] == TREE_NONE) {
        return ENOENT;
    }
    if (what[1] != TREE_NONE && op->flags == HISTORY_NOREPLACE) {
        return EEXIST;
    }
    if (what[1] == TREE_NONE && exchange) {
        return ENOENT;
    }
    if (what[0] == what[1]) {
        return 0;
    }
    if (is_dir(t, what[0]) && is_below(t, dir[1], what[0])) {
        return EINVAL;
    }
    if (what[1] == TREE_NONE) {
        return 0;
    }
    if (exchange) {
        return is_dir(t, what[1]) && is_below(t, dir[0], what[1]) ? EINVAL : 0;
    }
    if (is_dir(t, what[0]) != is_dir(t, what[1])) {
        return is_dir(t, what[1]) ? EISDIR : ENOTDIR;
    }
    return is_dir(t, what[1]) && !is_empty(&t->inode[what[1]]) ? ENOTEMPTY : 0;
}

static void put(struct tree *t, uint8_t dir, uint8_t name, uint8_t what)
{
    t->inode[dir].entry[name] = what;
    if (is_dir(t, what)) {
        t->inode[what].parent = dir;
    }
}

static int rename_it(const struct step *s)
{
    struct tree *t = s->t;
    const struct history_op *op = s->op;
    uint8_t name[2] = {op->path.name[op->path.depth - 1], op->to.name[op->to.depth - 1]};
    const uint8_t *dir = s->walker->at;
    if (t->inode[dir[0]].names == 0 || t->inode[dir[1]].names == 0) {
        return end(s, ENOENT);
    }
    uint8_t what[2] = {t->inode[dir[0]].entry[name[0]], t->inode[dir[1]].entry[name[1]]};
    int error = rename_error(t, op, dir, what);
    if (error != 0) {
        return end(s, error);
    }
    if (what[0] == what[1]) {
        return end(s, 0); /* two names of one file: both stay */
    }
    if (what[1] != TREE_NONE && op->flags != HISTORY_EXCHANGE) {
        t->inode[what[1]].names--;
        what[1] = TREE_NONE;
    }
    t->inode[dir[0]].entry[name[0]] = TREE_NONE;
    if (what[1] != TREE_NONE) {
        put(t, dir[0], name[0], what[1]);
    }
    put(t, dir[1], name[1], what[0]);
    return end(s, 0);
}

static int link_it(const struct step *s)
{
    struct tree *t = s->t;
    const struct history_path *p = &s->op->to;
    uint8_t what = s->walker->at[0], dir = s->walker->at[1], name = p->name[p->depth - 1];
    if (t->inode[dir].names == 0) {
        return end(s, ENOENT);
    }
    if (t->inode[dir].entry[name] != TREE_NONE) {
        return end(s, EEXIST);
    }
    if (is_dir(t, what)) {
        return end(s, EPERM);
    }
    t->inode[dir].entry[name] = what;
    t->inode[what].names++;
    return end_knowing(s, what);
}

static int change_mode(const struct step *s)
{
    struct tree_inode *n = &s->t->inode[s->walker->at[0]];
    if (n->type == HISTORY_LINK_TO) { /* systems differ; nobody sees it */
        bool told = s->op->outcome == HISTORY_FAILED && s->op->error == EOPNOTSUPP;
        return end(s, told ? EOPNOTSUPP : 0);
    }
    n->mode = (uint16_t)s->op->mode;
    return end_knowing(s, s->walker->at[0]);
}

/* ---- Questions ---- */

static unsigned links_of(const struct tree *t, unsigned i)
{
    unsigned n = is_dir(t, i) ? 2 : t->inode[i].names;
    for (unsigned k = 0; k < HISTORY_NAMES; k++) {
        unsigned below = t->inode[i].entry[k];
        n += below != TREE_NONE && is_dir(t, below) ? 1 : 0;
    }
    return n;
}

static int stat_it(const struct step *s)
{
    struct tree *t = s->t;
    const struct history_op *op = s->op;
    unsigned at = 0;
    if (op->path.depth > 0) {
        at = t->inode[s->walker->at[0]].entry[op->path.name[op->path.depth - 1]];
        if (at == TREE_NONE) {
            return end(s, ENOENT);
        }
    }
    const struct tree_inode *n = &t->inode[at];
    bool same = n->type == op->type && op->nlink == links_of(t, at) &&
                (n->type == HISTORY_LINK_TO || n->mode == op->got_mode);
    return op->outcome == HISTORY_OK && !same ? 0 : end_knowing(s, at);
}

static int list_it(const struct step *s)
{
    struct tree *t = s->t;
    const struct history_op *op = s->op;
    const struct tree_inode *n = &t->inode[s->walker->at[0]];
    unsigned next = 0;
    for (unsigned i = 0; i < HISTORY_NAMES; i++) {
        const struct history_entry *e = &op->entry[next];
        bool told = next < op->entry_count && e->name == i;
        uint8_t what = n->entry[i];
        if (told != (what != TREE_NONE) ||
            (told && (e->type != t->inode[what].type || !know(t, what, e->ino)))) {
            return 0;
        }
        next += told ? 1 : 0;
    }
    return end(s, 0);
}

static int content(const struct step *s)
{
    struct tree_inode *n = &s->t->inode[s->walker->at[0]];
    if (s->op->kind == HISTORY_WRITE) {
        n->content = s->op->data;
    } else if (s->op->outcome == HISTORY_OK && s->op->got != n->content) {
        return 0;
    }
    return end(s, 0);
}

static int act(const struct step *s)
{
    switch (s->op->kind) {
    case HISTORY_CREATE:
        return make(s, HISTORY_FILE);
    case HISTORY_MKDIR:
        return make(s, HISTORY_DIRECTORY);
    case HISTORY_SYMLINK:
        return make(s, HISTORY_LINK_TO);
    case HISTORY_UNLINK:
    case HISTORY_RMDIR:
        return remove_name(s);
    case HISTORY_RENAME:
        return rename_it(s);
    case HISTORY_LINK:
        return link_it(s);
    case HISTORY_CHMOD:
        return change_mode(s);
    case HISTORY_STAT:
        return stat_it(s);
    case HISTORY_LIST:
        return list_it(s);
    case HISTORY_READLINK:
    case HISTORY_READ:
    case HISTORY_WRITE:
        return content(s);
    case HISTORY_KIND_COUNT:
        break;
    }
    return 0;
}

int tree_step(struct tree *t, const struct history_op *op, unsigned slot)
{
    struct step s = {.t = t, .op = op, .walker = &t->walker[slot]};
    unsigned at = s.walker->steps, first = op->path.depth, second = op->to.depth;
    bool to_inode = leads_to_inode(op->kind);
    first -= first > 0 && !to_inode ? 1 : 0;
    second -= second > 0 ? 1 : 0;
    CHECK(at != TREE_ENDED);
    if (at >= first + second) {
        return act(&s);
    }
    if (at < first) {
        return walk(&s, &s.walker->at[0], op->path.name[at], to_inode && at + 1 == first);
    }
    return walk(&s, &s.walker->at[1], op->to.name[at - first], false);
}

/* ---- Numbering ---- */

struct numbering {
    uint8_t to[TREE_INODES], order[TREE_INODES];
    unsigned count;
};

static void give_number(struct numbering *n, uint8_t inode)
{
    if (n->to[inode] == TREE_INODES) {
        n->to[inode] = (uint8_t)n->count;
        n->order[n->count++] = inode;
    }
}

static void give_below(struct numbering *n, const struct tree *t, unsigned from)
{
    for (unsigned i = from; i < n->count; i++) {
        const struct tree_inode *d = &t->inode[n->order[i]];
        for (unsigned k = 0; k < HISTORY_NAMES; k++) {
            if (d->entry[k] != TREE_NONE) {
                give_number(n, d->entry[k]);
            }
        }
    }
}

void tree_normalize(struct tree *t)
{
    struct numbering n = {.count = 0};
    struct tree old = *t;
    memset(n.to, TREE_INODES, sizeof n.to);
    give_number(&n, 0);
    give_below(&n, &old, 0);
    for (unsigned i = 0; i < TREE_SLOTS; i++) { /* removed ones that somebody has got hold of */
        give_number(&n, old.walker[i].at[0]);
        give_number(&n, old.walker[i].at[1]);
    }
    memset(t->inode, 0, sizeof t->inode);
    for (unsigned i = 0; i < n.count; i++) {
        struct tree_inode *to = &t->inode[i];
        *to = old.inode[n.order[i]];
        for (unsigned k = 0; k < HISTORY_NAMES; k++) {
            to->entry[k] = to->entry[k] == TREE_NONE ? TREE_NONE : n.to[to->entry[k]];
        }
        to->parent = to->names == 0 ? 0 : n.to[to->parent];
    }
    for (unsigned i = 0; i < TREE_SLOTS; i++) {
        t->walker[i].at[0] = n.to[t->walker[i].at[0]];
        t->walker[i].at[1] = n.to[t->walker[i].at[1]];
    }
}

/* ---- For people ---- */

static void entries_to_text(const struct tree_inode *n, const struct history *h, struct text *out)
{
    for (unsigned k = 0; k < HISTORY_NAMES; k++) {
        if (n->entry[k] != TREE_NONE) {
            text_add(out, " %s=%u", h->name[k], n->entry[k]);
        }
    }
}

void tree_to_text(const struct tree *t, const struct history *h, struct text *out)
{
    for (unsigned i = 0; i < TREE_INODES; i++) {
        const struct tree_inode *n = &t->inode[i];
        if (n->type == HISTORY_NOTHING) {
            continue;
        }
        text_add(out, "%u: %s mode %o", i, history_type_name((enum history_type)n->type), n->mode);
        if (n->type == HISTORY_DIRECTORY) {
            entries_to_text(n, h, out);
        } else {
            text_add(out, " names %u content %u", n->names, n->content);
        }
        text_add(out, n->number == 0 ? "; " : " ino %u; ", n->number);
    }
}

/*
 * namespace/model_rename_priv.h -- for model_test.c: the operation that moves and exchanges names.
 */
#pragma once

#include "namespace/model_entry_priv.h"

static inline bool is_below(const struct model *m, size_t node, size_t top)
{
    while (node != top && node != 0) {
        node = m->node[node].parent;
    }
    return node == top;
}

/* A directory that changes its parent. */
static inline bool check_moved(struct model *m, const struct node *n, size_t from, size_t to)
{
    return from == to || !is_dir(n) || check_rights(m, n, 2);
}

static inline bool check_loop(struct model *m, size_t what, size_t from, size_t to)
{
    return fails(m, from != to && is_dir(&m->node[what]) && is_below(m, to, what), -EINVAL);
}

static inline void check_rename(struct model *m, size_t d2, const struct entry *e,
                                const struct entry *v, bool exchange)
{
    size_t d1 = e->parent;
    const struct node *a = &m->node[e->node], *b = v == NULL ? NULL : &m->node[v->node];
    (void)check_loop(m, e->node, d1, d2);
    if (b != NULL && exchange) {
        (void)check_loop(m, v->node, d2, d1);
    }
    if (m->expect != 0 || a == b || !check_removal(m, &m->node[d1], a)) {
        return;
    }
    if (b == NULL) {
        (void)check_rights(m, &m->node[d2], 2);
    } else if (check_removal(m, &m->node[d2], b) && !exchange) {
        (void)fails(m, is_dir(a) && !is_dir(b), -ENOTDIR);
        (void)fails(m, !is_dir(a) && is_dir(b), -EISDIR);
    }
    if (m->expect == 0 && check_moved(m, a, d1, d2) && exchange) {
        (void)check_moved(m, b, d2, d1);
    }
    (void)fails(m, b != NULL && !exchange && b->entries > 0, -ENOTEMPTY);
}

static inline void do_rename(struct model *m, struct entry *e, struct entry *v, size_t d2,
                             size_t name2, bool exchange)
{
    size_t what = e->node, d1 = e->parent, name1 = e->name;
    if (v != NULL && v->node == what) {
        return;
    }
    touch_dir(m, &m->node[d1]);
    touch_dir(m, &m->node[d2]);
    touch(m, &m->node[what]);
    drop_entry(m, e);
    if (v != NULL) {
        size_t other = v->node;
        touch(m, &m->node[other]);
        drop_entry(m, v);
        if (exchange) {
            add_entry(m, d1, name1, other);
        } else {
            drop_name(m, &m->node[other], d2, false);
        }
    }
    add_entry(m, d2, name2, what);
}

static inline void step_rename(struct model *m, unsigned kind)
{
    static const uint32_t ways[] = {0, 0, 0, PROTO_RENAME_NOREPLACE, PROTO_RENAME_EXCHANGE};
    size_t d1 = any_dir(m), d2 = any_dir(m);
    size_t name1 = (size_t)rand_below(&m->rand, NAMES), name2 = (size_t)rand_below(&m->rand, NAMES);
    uint32_t flags = ways[rand_below(&m->rand, ARRAY_COUNT(ways))];
    bool exchange = (flags & PROTO_RENAME_EXCHANGE) != 0;
    struct entry *e = find_entry(m, d1, name1), *v = find_entry(m, d2, name2);
    if (check_search(m, &m->node[d1]) && check_search(m, &m->node[d2])) {
        (void)fails(m, e == NULL, -ENOENT);
        (void)fails(m, v != NULL && (flags & PROTO_RENAME_NOREPLACE) != 0, -EEXIST);
        (void)fails(m, v == NULL && exchange, -ENOENT);
    }
    if (m->expect == 0 && e != NULL) {
        check_rename(m, d2, e, v, exchange);
    }
    int rc = RIG_OP(&m->rig, rename, .parent = m->node[d1].ino, .name = name_of(name1),
                    .new_parent = m->node[d2].ino, .new_name = name_of(name2), .flags = flags);
    if (settle(m, kind, rc) && e != NULL) {
        do_rename(m, e, v, d2, name2, exchange);
    }
}

/*
 * namespace/model_bin_priv.h -- for model_test.c: operations on what is in the trash.
 */
#pragma once

#include "namespace/model_attr_priv.h"

static inline void step_keep(struct model *m, unsigned kind)
{
    static const uint32_t times[] = {0, 50, 100, PROTO_RETENTION_NONE};
    struct node *n = &m->node[rand_chance(&m->rand, 1, 4) ? any_node(m) : any_dir(m)];
    uint32_t s = times[rand_below(&m->rand, ARRAY_COUNT(times))];
    (void)fails(m, n->gone, -ENOENT);
    (void)fails(m, !is_dir(n), -ENOTDIR);
    (void)check_change(m, n);
    (void)fails(m, !is_owner(m, n), -EPERM);
    int rc = RIG_OP(&m->rig, setattr, .ino = n->ino, .mask = PROTO_SET_RETENTION, .retention_s = s);
    if (settle(m, kind, rc)) {
        n->retention_s = s;
        touch(m, n);
    }
}

/* Mostly one that is in the trash. */
static inline size_t any_trash(struct model *m)
{
    size_t i = any_node(m);
    for (int tries = 0; tries < 200 && !m->node[i].trash; tries++) {
        i = any_node(m);
    }
    return i;
}

static inline void step_restore(struct model *m, unsigned kind)
{
    size_t i = any_trash(m), d = any_dir(m), name = (size_t)rand_below(&m->rand, NAMES);
    struct node *n = &m->node[i], *dir = &m->node[d];
    (void)fails(m, !n->trash, -ENOENT);
    (void)fails(m, !is_owner(m, n), -EPERM);
    if (m->expect == 0 && check_search(m, dir)) {
        (void)fails(m, find_entry(m, d, name) != NULL, -EEXIST);
        (void)check_rights(m, dir, 2);
    }
    int rc =
        RIG_OP(&m->rig, trash_restore, .ino = n->ino, .parent = dir->ino, .name = name_of(name));
    if (settle(m, kind, rc)) {
        n->nlink = 1;
        n->trash = n->kept[0] = n->kept[1] = false;
        touch(m, n);
        touch_dir(m, dir);
        add_entry(m, d, name, i);
    }
}

static inline void step_purge(struct model *m, unsigned kind)
{
    uint64_t inos[2];
    size_t at[2] = {any_node(m), any_trash(m)};
    size_t count = m->node[at[0]].ino < m->node[at[1]].ino ? 2 : 1;
    for (size_t i = 0; i < count; i++) {
        const struct node *n = &m->node[at[i]];
        inos[i] = n->ino;
        (void)fails(m, n->trash && !is_owner(m, n), -EPERM);
    }
    int rc = RIG_OP(&m->rig, trash_purge, .inos = {.at = inos, .count = count});
    bool done = settle(m, kind, rc);
    for (size_t i = 0; done && i < count; i++) {
        trash_over(m, &m->node[at[i]]);
    }
}

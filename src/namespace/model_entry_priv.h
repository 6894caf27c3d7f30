/*
 * namespace/model_entry_priv.h -- for model_test.c: names of directories, what every operation on
 * them checks, and the choice of what to do it with.
 */
#pragma once

#include "namespace/model_trash_priv.h"

static inline struct entry *find_entry(struct model *m, size_t parent, size_t name)
{
    for (size_t i = 0; i < ENTRIES; i++) {
        struct entry *e = &m->entry[i];
        if (e->used && e->parent == parent && e->name == name) {
            return e;
        }
    }
    return NULL;
}

static inline void add_entry(struct model *m, size_t parent, size_t name, size_t node)
{
    size_t i = 0;
    while (m->entry[i].used) {
        i++;
        CHECK_TRUE(i < ENTRIES);
    }
    m->entry[i] = (struct entry){.used = true, .parent = parent, .name = name, .node = node};
    m->node[parent].entries++;
    if (is_dir(&m->node[node])) {
        m->node[parent].nlink++;
        m->node[node].parent = parent;
    }
}

static inline void drop_entry(struct model *m, struct entry *e)
{
    m->node[e->parent].entries--;
    m->node[e->parent].nlink -= is_dir(&m->node[e->node]) ? 1 : 0;
    e->used = false;
}

/* A name of it in `dir` is gone. */
static inline void drop_name(struct model *m, struct node *n, size_t dir, bool open)
{
    n->nlink = n->type == PROTO_INODE_DIRECTORY ? 0 : n->nlink - 1;
    n->kept[m->session] = n->nlink == 0 && open && n->type != PROTO_INODE_DIRECTORY;
    trash_put(m, n, dir);
    may_go(n);
}

/* Somebody looks for a name there. */
static inline bool check_search(struct model *m, const struct node *dir)
{
    (void)fails(m, dir->gone, -ENOENT);
    (void)fails(m, !is_dir(dir), -ENOTDIR);
    return m->expect == 0 && check_rights(m, dir, 1);
}

/* May this name be taken away? */
static inline bool check_removal(struct model *m, const struct node *dir, const struct node *n)
{
    bool sticky = (dir->special & 01000U) != 0;
    (void)check_rights(m, dir, 2);
    (void)fails(m, sticky && !is_owner(m, n) && !is_owner(m, dir), -EPERM);
    return fails(m, is_fixed(dir) || is_fixed(n), -EPERM);
}

/* The result is the expected one. True: it was done. */
static inline bool settle(struct model *m, unsigned kind, int rc)
{
    if (m->expect != rc) {
        (void)fprintf(stderr, "step %" PRIu64 " of kind %u: rc %d, expected %d\n", m->step, kind,
                      rc, m->expect);
    }
    CHECK_EQ(rc, m->expect);
    m->done[kind] += rc == 0 ? 1 : 0;
    m->failed[kind] += rc < 0 ? 1 : 0;
    return rc == 0;
}

static inline size_t any_node(struct model *m)
{
    return (size_t)rand_below(&m->rand, m->node_count);
}

/* Mostly directories that are there. */
static inline size_t any_dir(struct model *m)
{
    size_t i = any_node(m);
    for (int tries = 0; tries < 20 && (m->node[i].gone || !is_dir(&m->node[i])); tries++) {
        i = any_node(m);
    }
    return i;
}

/* Mostly a name that is there; else they stay as they are. */
static inline void any_name(struct model *m, size_t *dir, size_t *name)
{
    const struct entry *e = &m->entry[rand_below(&m->rand, ENTRIES)];
    for (int tries = 0; tries < 100 && !e->used; tries++) {
        e = &m->entry[rand_below(&m->rand, ENTRIES)];
    }
    if (e->used) {
        *dir = e->parent;
        *name = e->name;
    }
}

static inline uint32_t any_mode(struct model *m)
{
    return (uint32_t)rand_below(&m->rand, 010000) | (rand_chance(&m->rand, 3, 4) ? 0700U : 0) |
           (rand_chance(&m->rand, 1, 2) ? 0011U : 0);
}

/*
 * chunk/extent_salvage.c -- the `extent` engine, while a store is made anew: the files. Before:
 * what is left of the index, as one that can be opened. Behind: the new one takes its place, at
 * once, and a journal that ends before it goes.
 */
#include "chunk/extent_rebuild_priv.h"

#include "base/env.h"
#include "tree/rebuild.h"
#include "tree/tree.h"

#include <string.h>

static int salvage_now(const struct chunk_store *s, enum disk_op op, const char *path,
                       const char *path_to)
{
    struct disk_req req = {.op = op, .path = path, .path_to = path_to};
    int64_t rc = disk_now(s->disk, &req);
    return rc < 0 ? (int)rc : 0;
}

static int salvage_remove(const struct chunk_store *s, const char *path)
{
    int rc = salvage_now(s, DISK_REMOVE, path, NULL);
    return rc == -ENOENT ? 0 : rc;
}

/* ---- Before ---- */

struct salvage {
    struct chunk_store *s;
    char *index, *out;
};

static void salvage_found(void *arg, const struct tree_finding *f)
{
    struct chunk_rebuild *r = arg;
    if (f->severity == TREE_FINDING_DAMAGE && r->index != NULL) {
        r->index(r, f);
    }
}

/* They are told when the copy is made. */
static void salvage_passed(void *arg, const struct tree_finding *f)
{
    (void)arg;
    (void)f;
}

/* It is there, and all of it can be read. */
static bool salvage_sound(const struct salvage *v)
{
    struct tree_check_result result = {0};
    const struct tree_check_options opt = {.disk = v->s->disk,
                                           .path = v->index,
                                           .level = TREE_CHECK_LEVEL_MAX,
                                           .found = salvage_passed};
    return tree_check(&opt, &result, NULL) == 0 && result.damages == 0;
}

static int salvage_copy(const struct salvage *v, struct err *e)
{
    struct chunk_rebuild *r = v->s->opt.rebuild;
    struct tree_rebuild_result result = {0};
    const struct tree_rebuild_options opt = {.disk = v->s->disk,
                                             .path = v->index,
                                             .out = v->out,
                                             .owner = v->s->super.target.bytes,
                                             .found = salvage_found,
                                             .arg = r};
    int rc = tree_rebuild(&opt, &result, e);
    r->index_losses = result.losses;
    if (rc == -ENOENT || err_is(rc, ERR_corrupt)) { /* nothing of it is left */
        const struct tree_options empty =
            chunk_extent_index_options(&v->s->opt, v->out, &v->s->super.target);
        r->index_gone = true;
        rc = salvage_remove(v->s, v->out);
        rc = rc < 0 ? rc : tree_create(&empty, e);
    }
    return rc;
}

int chunk_salvage_index(struct chunk_extent *x, char **ret_path, struct err *e)
{
    struct chunk_store *s = x->s;
    CLEANUP(mem_freep) char *made = mem_printf("%s/" CHUNK_INDEX_MADE, s->directory);
    struct salvage v = {.s = s,
                        .index = mem_printf("%s/index", s->directory),
                        .out = mem_printf("%s/" CHUNK_INDEX_LEFT, s->directory)};
    int rc = made == NULL || v.index == NULL || v.out == NULL ? -ENOMEM : 0;
    s->super.lossy = true; /* stable with the end of the open */
    rc = rc < 0 ? rc : salvage_remove(s, made);
    rc = rc < 0 ? rc : salvage_remove(s, v.out);
    s->opt.rebuild->index_sound = rc == 0 && salvage_sound(&v);
    if (rc == 0 && !s->opt.rebuild->index_sound) {
        rc = salvage_copy(&v, e);
    }
    bool sound = s->opt.rebuild->index_sound;
    if (rc == 0) {
        *ret_path = sound ? v.index : v.out;
    }
    mem_free(rc == 0 && sound ? v.out : v.index);
    if (rc < 0) {
        mem_free(v.out);
    }
    return rc;
}

/* ---- Behind ---- */

/* The newest first: what is left, should this end early, is the beginning of a journal that is too
 * short, which a start refuses. */
static int salvage_drop_journal(const struct chunk_store *s)
{
    CLEANUP(mem_freep) char *directory = mem_printf("%s/journal", s->directory);
    struct disk_req list = {.op = DISK_LIST, .path = directory};
    int64_t rc = directory == NULL ? -ENOMEM : disk_now(s->disk, &list);
    if (rc == -ENOENT) {
        return salvage_now(s, DISK_MKDIR, directory, NULL);
    }
    if (rc < 0) {
        return (int)rc;
    }
    int bad = 0;
    for (size_t i = list.names->count; i > 0 && bad == 0; i--) {
        CLEANUP(mem_freep) char *path = mem_printf("%s/%s", directory, list.names->name[i - 1]);
        bad = path == NULL ? -ENOMEM : salvage_remove(s, path);
    }
    mem_free(list.names);
    return bad < 0 ? bad : salvage_now(s, DISK_SYNC_DIR, directory, NULL);
}

/* Who died may have left bytes to the kernel alone: what was read is there, and must stay. */
static int salvage_sync(const struct chunk_extent *x)
{
    int64_t rc = 0;
    for (size_t i = 0; i < x->container_count && rc >= 0; i++) {
        struct disk_req req = {.op = DISK_SYNC_ALL, .file = x->container[i]->file};
        rc = disk_now(x->s->disk, &req);
    }
    return rc < 0 ? (int)rc : 0;
}

int chunk_salvage_finish(struct chunk_extent *x, bool drop_journal)
{
    struct chunk_store *s = x->s;
    CLEANUP(mem_freep) char *made = mem_printf("%s/" CHUNK_INDEX_MADE, s->directory);
    CLEANUP(mem_freep) char *left = mem_printf("%s/" CHUNK_INDEX_LEFT, s->directory);
    CLEANUP(mem_freep) char *index = mem_printf("%s/index", s->directory);
    if (made == NULL || left == NULL || index == NULL) {
        return -ENOMEM;
    }
    int rc = salvage_sync(x);
    rc = rc < 0 ? rc : salvage_now(s, DISK_RENAME, made, index);
    rc = rc < 0 ? rc : salvage_now(s, DISK_SYNC_DIR, s->directory, NULL);
    rc = rc < 0 || !drop_journal ? rc : salvage_drop_journal(s);
    return rc < 0 ? rc : salvage_remove(s, left);
}

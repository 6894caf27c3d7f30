/* sim/model.c -- see model.h. */
#include "model.h"

#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CELL 4096u

static void content_set(struct model_content *c, const struct model_content *from)
{
    if (c->bytes == NULL) {
        c->bytes = mem_zalloc(MODEL_FILE_MAX);
        CHECK(c->bytes != NULL);
    }
    if (from != NULL) {
        memcpy(c->bytes, from->bytes, MODEL_FILE_MAX);
        c->len = from->len;
    }
}

struct model_node *model_new(enum model_type type, uint32_t mode)
{
    struct model_node *n = mem_zalloc(sizeof *n);
    CHECK(n != NULL);
    n->type = type;
    n->mode = mode;
    n->nlink = 1;
    if (type == MODEL_FILE) {
        content_set(&n->now, NULL);
    }
    return n;
}

static void past_free(struct model_node *n)
{
    for (unsigned i = 0; i < n->past_count; i++) {
        mem_free(n->past[i].bytes);
    }
    n->past_count = 0;
}

void model_unref(struct model_node *n)
{
    if (n != NULL && --n->nlink == 0) {
        past_free(n);
        mem_free(n->now.bytes);
        mem_free(n);
    }
}

void model_init(struct model *m)
{
    m->root = model_new(MODEL_DIRECTORY, 0755);
}

void model_fini(struct model *m)
{
    /* Depth first by hand: MODEL_DEPTH levels at most. */
    struct model_node *stack[MODEL_DEPTH + 1] = {m->root};
    unsigned at[MODEL_DEPTH + 1] = {0}, depth = 0;
    for (;;) {
        struct model_node *n = stack[depth];
        if (n->type == MODEL_DIRECTORY && at[depth] < MODEL_NAMES) {
            struct model_node *below = n->entry[at[depth]++];
            if (below != NULL && below->type == MODEL_DIRECTORY) {
                CHECK(depth < MODEL_DEPTH);
                stack[++depth] = below;
                at[depth] = 0;
            } else {
                model_unref(below);
            }
            continue;
        }
        model_unref(n);
        if (depth-- == 0) {
            return;
        }
    }
}

/* On the way to a name. Symbolic links are followed, to where nothing is. */
static int not_a_directory(const struct model_node *n)
{
    return n->type == MODEL_SYMLINK ? -ENOENT : -ENOTDIR;
}

struct model_node *model_find(const struct model *m, const struct model_place *at, int *ret_rc)
{
    struct model_node *n = m->root;
    *ret_rc = 0;
    for (unsigned i = 0; i < at->depth; i++) {
        if (n->type != MODEL_DIRECTORY) {
            *ret_rc = not_a_directory(n);
            return NULL;
        }
        n = n->entry[at->name[i]];
        if (n == NULL) {
            *ret_rc = -ENOENT;
            return NULL;
        }
    }
    return n;
}

struct model_node *model_parent(const struct model *m, const struct model_place *at, int *ret_rc)
{
    CHECK(at->depth > 0);
    struct model_place above = *at;
    above.depth--;
    struct model_node *n = model_find(m, &above, ret_rc);
    if (n != NULL && n->type != MODEL_DIRECTORY) {
        *ret_rc = not_a_directory(n);
        return NULL;
    }
    return n;
}

void model_path(const struct model_place *at, const char *prefix, char out[MODEL_PATH])
{
    int len = snprintf(out, MODEL_PATH, "%s", prefix);
    for (unsigned i = 0; i < at->depth; i++) {
        len += snprintf(out + len, MODEL_PATH - (size_t)len, "/%c", 'a' + (int)at->name[i]);
    }
}

bool model_is_empty(const struct model_node *n)
{
    for (unsigned i = 0; i < MODEL_NAMES; i++) {
        if (n->entry[i] != NULL) {
            return false;
        }
    }
    return true;
}

bool model_is_below(const struct model_place *below, const struct model_place *above)
{
    return below->depth >= above->depth &&
           memcmp(below->name, above->name, above->depth * sizeof above->name[0]) == 0;
}

/* ---- Contents ---- */

/* Before a change: what was is remembered, as it may come back. */
static void remember(struct model_node *n)
{
    if (n->past_count == MODEL_PAST_MAX) {
        n->wild = true; /* callers sync often enough, but syncs fail, or come after a loss */
        n->settled = false;
        return;
    }
    n->past[n->past_count].bytes = NULL;
    content_set(&n->past[n->past_count], &n->now);
    n->past_count++;
}

void model_write(struct model_node *n, uint64_t offset, const uint8_t *bytes, size_t len)
{
    CHECK(offset + len <= MODEL_FILE_MAX);
    remember(n);
    memcpy(n->now.bytes + offset, bytes, len);
    n->now.len = base_max(n->now.len, offset + len);
}

void model_truncate(struct model_node *n, size_t len)
{
    CHECK(len <= MODEL_FILE_MAX);
    remember(n);
    memset(n->now.bytes + len, 0, MODEL_FILE_MAX - len);
    n->now.len = len;
}

void model_blur(struct model_node *n)
{
    n->vague = n->was_vague = true;
}

bool model_len_possible(const struct model_node *n, size_t len)
{
    size_t least = n->now.len, most = n->now.len;
    for (unsigned i = 0; i < n->past_count; i++) {
        least = base_min(least, n->past[i].len);
        most = base_max(most, n->past[i].len);
    }
    return len == n->now.len || n->wild || (n->vague && len >= least && len <= most);
}

void model_synced(struct model_node *n, uint64_t losses)
{
    n->settled = true;
    if (n->vague || n->wild) {
        return; /* what is stable now shows when it is read */
    }
    if (n->past_count > 0 && n->loss_seen != losses) {
        return; /* what was lost before the sync stays lost; reading tells what it was */
    }
    past_free(n);
    n->loss_seen = losses;
}

static bool byte_is_possible(const struct model_node *n, const uint8_t *byte, size_t at)
{
    bool found = *byte == n->now.bytes[at];
    for (unsigned i = 0; i < n->past_count && !found; i++) {
        found = *byte == n->past[i].bytes[at];
    }
    return found;
}

/* One of the states; or, when a part of the cell was written after a loss that nobody has seen yet,
 * that part on top of an older state: then each byte was there once. */
static bool cell_is_possible(const struct model_node *n, const uint8_t *cell, size_t at, size_t len)
{
    bool possible = true;
    for (size_t i = 0; i < len && possible; i++) {
        possible = byte_is_possible(n, cell + i, at + i);
    }
    return possible;
}

/* What was seen stays. */
static void take_over(struct model_node *n, const uint8_t *bytes, size_t len, uint64_t losses)
{
    memcpy(n->now.bytes, bytes, len);
    memset(n->now.bytes + len, 0, MODEL_FILE_MAX - len);
    n->now.len = len;
    n->vague = false;
    if (n->wild && n->settled) {
        n->wild = false;
        past_free(n);
        n->loss_seen = losses;
    }
}

bool model_check(struct model_node *n, const uint8_t *bytes, size_t len, uint64_t losses)
{
    if (!model_len_possible(n, len)) {
        return false; /* lengths are metadata: never lost once acknowledged */
    }
    bool same = len == n->now.len && memcmp(bytes, n->now.bytes, len) == 0;
    if (!same && !n->vague && !n->wild && (n->past_count == 0 || n->loss_seen == losses)) {
        return false;
    }
    for (size_t at = 0; at < len && !same && !n->wild; at += CELL) {
        if (!cell_is_possible(n, bytes + at, at, base_min(CELL, len - at))) {
            return false;
        }
    }
    take_over(n, bytes, len, losses);
    return true;
}

/* ---- Names ---- */

/* NULL with *ret_rc where nothing new may be. */
static struct model_node **place_for_new(struct model *m, const struct model_place *at, int *ret_rc)
{
    struct model_node *parent = model_parent(m, at, ret_rc);
    if (parent == NULL) {
        return NULL;
    }
    struct model_node **slot = &parent->entry[at->name[at->depth - 1]];
    *ret_rc = *slot == NULL ? 0 : -EEXIST;
    return *slot == NULL ? slot : NULL;
}

int model_mkdir(struct model *m, const struct model_place *at, uint32_t mode)
{
    int rc = 0;
    struct model_node **slot = place_for_new(m, at, &rc);
    if (slot != NULL) {
        *slot = model_new(MODEL_DIRECTORY, mode);
    }
    return rc;
}

int model_create(struct model *m, const struct model_place *at, uint32_t mode, const uint8_t *bytes,
                 size_t len, uint64_t losses)
{
    int rc = 0;
    struct model_node **slot = place_for_new(m, at, &rc);
    if (slot != NULL) {
        *slot = model_new(MODEL_FILE, mode);
        memcpy((*slot)->now.bytes, bytes, len);
        (*slot)->now.len = len;
        (*slot)->loss_seen = losses;
    }
    return rc;
}

int model_symlink(struct model *m, const struct model_place *at, const char *target)
{
    int rc = 0;
    struct model_node **slot = place_for_new(m, at, &rc);
    if (slot != NULL) {
        *slot = model_new(MODEL_SYMLINK, 0777);
        snprintf((*slot)->target, sizeof(*slot)->target, "%s", target);
    }
    return rc;
}

int model_link(struct model *m, const struct model_place *from, const struct model_place *to)
{
    int rc = 0;
    struct model_node *n = model_find(m, from, &rc);
    if (n == NULL) {
        return rc;
    }
    struct model_node **slot = place_for_new(m, to, &rc);
    if (slot == NULL) {
        return rc;
    }
    rc = n->type == MODEL_DIRECTORY ? -EPERM : 0;
    if (rc == 0) {
        n->nlink++;
        *slot = n;
    }
    return rc;
}

int model_unlink(struct model *m, const struct model_place *at)
{
    int rc = 0;
    struct model_node *n = model_find(m, at, &rc);
    if (n == NULL) {
        return rc;
    }
    if (n->type == MODEL_DIRECTORY) {
        return -EISDIR;
    }
    struct model_node *parent = model_parent(m, at, &rc);
    parent->entry[at->name[at->depth - 1]] = NULL;
    model_unref(n);
    return 0;
}

int model_rmdir(struct model *m, const struct model_place *at)
{
    int rc = 0;
    struct model_node *n = model_find(m, at, &rc);
    if (n == NULL) {
        return rc;
    }
    if (n->type != MODEL_DIRECTORY) {
        return -ENOTDIR;
    }
    if (!model_is_empty(n)) {
        return -ENOTEMPTY;
    }
    struct model_node *parent = model_parent(m, at, &rc);
    parent->entry[at->name[at->depth - 1]] = NULL;
    model_unref(n);
    return 0;
}

static int rename_over(const struct model_node *n, const struct model_node *victim)
{
    if (victim == NULL) {
        return 0;
    }
    if (n->type == MODEL_DIRECTORY && victim->type != MODEL_DIRECTORY) {
        return -ENOTDIR;
    }
    if (n->type != MODEL_DIRECTORY && victim->type == MODEL_DIRECTORY) {
        return -EISDIR;
    }
    return victim->type == MODEL_DIRECTORY && !model_is_empty(victim) ? -ENOTEMPTY : 0;
}

int model_rename(struct model *m, const struct model_place *from, const struct model_place *to)
{
    int rc = 0; /* as in the kernel: both parents before the name itself */
    struct model_node *parent = model_parent(m, from, &rc);
    parent = parent == NULL ? NULL : model_parent(m, to, &rc);
    struct model_node *n = parent == NULL ? NULL : model_find(m, from, &rc);
    if (n == NULL) {
        return rc;
    }
    struct model_node **slot = &parent->entry[to->name[to->depth - 1]];
    if (*slot == n) {
        return 0; /* two names of one file, or the same name */
    }
    if (n->type == MODEL_DIRECTORY && model_is_below(to, from)) {
        return -EINVAL;
    }
    rc = rename_over(n, *slot);
    if (rc < 0) {
        return rc;
    }
    model_unref(*slot);
    *slot = n;
    model_parent(m, from, &rc)->entry[from->name[from->depth - 1]] = NULL;
    return 0;
}

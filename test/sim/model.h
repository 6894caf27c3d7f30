/*
 * sim/model.h -- what one client's part of the tree must look like: a file system of a few lines.
 *
 * Every client works below a directory of its own and does one thing after the other, so each
 * result is known exactly, whatever happens to servers in between: a retry that took effect twice,
 * or an acknowledged change that got lost, shows as a difference. Contents that were written but
 * not synced may go back to an older state where the world says that so many machines lost power
 * that it is allowed; then each byte must be one that was there since the last sync. The same
 * holds, and for the length too, when a change failed for want of space or its client was killed:
 * until it is read for the first time.
 */
#pragma once

#include "base/base.h"

#define MODEL_NAMES 10u
#define MODEL_DEPTH 4u
#define MODEL_PATH 96u
#define MODEL_FILE_MAX (384u << 10)
#define MODEL_PAST_MAX 8u

struct model_content {
    uint8_t *bytes; /* MODEL_FILE_MAX, zeros behind `len` */
    size_t len;
};
enum model_type { MODEL_FILE, MODEL_DIRECTORY, MODEL_SYMLINK };
struct model_node {
    enum model_type type;
    uint32_t mode, nlink;
    uint32_t xattr;                        /* value of its extended attribute; 0: it has none */
    struct model_node *entry[MODEL_NAMES]; /* of a directory: by number of name */
    struct model_content now;
    struct model_content past[MODEL_PAST_MAX]; /* since the last sync, the synced one first */
    unsigned past_count;
    uint64_t loss_seen; /* count of possible losses when it was synced */
    bool vague;         /* a change has failed or was broken off: it is there, or not, or in part */
    bool was_vague; /* ever: an error was told, and with it what was to be synced is forgotten */
    bool wild, settled; /* too many states to remember: anything may be there; and it is stable */
    char target[MODEL_PATH];
};
struct model {
    struct model_node *root;
};
struct model_place {
    unsigned name[MODEL_DEPTH];
    unsigned depth; /* 0: the root */
};

void model_init(struct model *m);
void model_fini(struct model *m);
struct model_node *model_new(enum model_type type, uint32_t mode);
void model_unref(struct model_node *n); /* one name less */

/* The node at a place. *ret_rc: 0, -ENOENT, -ENOTDIR. */
struct model_node *model_find(const struct model *m, const struct model_place *at, int *ret_rc);
/* The directory that holds the place's last name; NULL with *ret_rc. */
struct model_node *model_parent(const struct model *m, const struct model_place *at, int *ret_rc);
void model_path(const struct model_place *at, const char *prefix, char out[MODEL_PATH]);
bool model_is_empty(const struct model_node *n);
/* Is `below` the same as, or below, `above`? */
bool model_is_below(const struct model_place *below, const struct model_place *above);

/* Contents. */
void model_write(struct model_node *n, uint64_t offset, const uint8_t *bytes, size_t len);
void model_truncate(struct model_node *n, size_t len);
void model_blur(struct model_node *n); /* the last changes may have happened in part */
/* Its length, as far as it is known. */
bool model_len_possible(const struct model_node *n, size_t len);
/* All that is there now is stable; not what a loss has taken before. */
void model_synced(struct model_node *n, uint64_t losses);
/* Is what was read possible? Takes it over as the present one when it is an older state. `losses`:
 * how often data could have been lost so far. */
bool model_check(struct model_node *n, const uint8_t *bytes, size_t len, uint64_t losses);

/* POSIX, as far as it is needed: do it if it may be done, and say what the answer must be. */
int model_mkdir(struct model *m, const struct model_place *at, uint32_t mode);
int model_create(struct model *m, const struct model_place *at, uint32_t mode, const uint8_t *bytes,
                 size_t len, uint64_t losses);
int model_symlink(struct model *m, const struct model_place *at, const char *target);
int model_link(struct model *m, const struct model_place *from, const struct model_place *to);
int model_unlink(struct model *m, const struct model_place *at);
int model_rmdir(struct model *m, const struct model_place *at);
int model_rename(struct model *m, const struct model_place *from, const struct model_place *to);

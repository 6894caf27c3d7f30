/*
 * disk/sim_priv.h -- the parts of a simulated machine's file system. One thread; all memory is
 * outside of process domains, except what requests hand to their callers.
 *
 * Everything exists twice: *live* is what processes see (the page cache), *durable* what a power
 * cut leaves (the medium). A modification changes live at once and is kept as a change; a sync
 * applies changes to durable, a crash applies what the seed picks. Nothing is ever looked up by
 * address.
 */
#pragma once

#include "base/rand.h"
#include "disk/request_priv.h"
#include "disk/share_priv.h"
#include "disk/sim.h"
#include "loop/sim.h"

#define SIM_PAGE 4096u
#define SIM_SECTOR 512u
#define SIM_LEAF_PAGES 256u
#define SIM_FILE_MAX (UINT64_C(1) << 44) /* as ext4 */
#define SIM_NAME_MAX 255u
#define SIM_FAULTS 16u
/* Live and durable share a page until one of them changes. */
struct sim_page {
    uint32_t refs;
    uint8_t bytes[SIM_PAGE];
};
struct sim_leaf {
    uint64_t index;                       /* of 1 MiB of the file */
    bool dirty;                           /* live has changed since it was last equal to durable */
    uint64_t cached[SIM_LEAF_PAGES / 64]; /* a bit per page that the page cache has: sim_cache.c */
    uint64_t stuck[SIM_LEAF_PAGES / 64];  /* a bit per page: see disk_sim_stick() */
    struct sim_page *live[SIM_LEAF_PAGES], *durable[SIM_LEAF_PAGES];
};

enum sim_change_kind { SIM_WRITE, SIM_TRUNCATE, SIM_PUNCH, SIM_ALLOCATE };
struct sim_change { /* of the contents of a file, not synced yet */
    struct list node;
    enum sim_change_kind kind;
    bool keep_size, direct; /* direct: no page of the cache has it */
    uint64_t seq, offset, len;
    uint8_t bytes[]; /* of SIM_WRITE */
};

struct sim_entry { /* exists while live, durable or pending says so */
    struct sim_node *live, *durable;
    unsigned pending; /* name changes that point here */
    char name[];
};

struct sim_contents {
    uint64_t live_size, durable_size, live_pages;
    struct sim_leaf **leaf; /* sorted by index */
    size_t leaf_count, leaf_capacity;
    struct list changes;
    size_t change_count;
    uint64_t change_bytes;
    bool diverged;   /* a failed sync has dropped changes: durable lacks them for good */
    bool told;       /* somebody has heard of the last of: */
    uint64_t errors; /* writebacks that failed: see disk_sim_hear() */
};

struct sim_names {
    struct sim_entry **entry; /* sorted by name */
    size_t entry_count, entry_capacity;
};

struct sim_node {     /* a file or directory */
    struct list node; /* of the machine, in order of creation; or of its dead */
    struct disk_sim *machine;
    unsigned refs; /* entries (live and durable count apart), name changes, open files */
    unsigned links, opens;
    bool directory;
    uint64_t mtime_ns;
    struct disk_file *locked_by;
    struct sim_contents file;
    struct sim_names dir;
};

/* One atomic change of names: `from` loses its name, `to` becomes `target`; one may be absent. */
struct sim_end {
    struct sim_node *dir;
    struct sim_entry *entry;
};
struct sim_name_change {
    struct list node;
    uint64_t seq;
    bool create; /* of a file: durable with DISK_SYNC_ALL of it */
    bool chosen;
    struct sim_node *target;
    struct sim_end from, to;
};

struct sim_fault {
    enum disk_op op;
    bool any_path;
    char path_part[64];
    uint64_t nth, count; /* count 0: for ever */
    int rc;
};

struct disk_sim {
    struct loop_sim *sim;
    struct rand rand;
    struct sim_page *zero; /* stands for reserved space everywhere */
    struct sim_node *root;
    struct list nodes, dead, name_changes, views;
    size_t name_change_count;
    uint64_t seq; /* of the last change */
    uint64_t capacity_bytes, used_bytes, min_ns, max_ns, extra_ns;
    enum disk_sim_crash_mode mode;
    enum disk_sim_cache_mode cache;
    bool no_direct, holds;
    uint32_t writes_one_of, fails_one_of; /* disk_sim_writeback() */
    struct sim_fault fault[SIM_FAULTS];
    size_t fault_count;
    uint64_t begun[DISK_SCRUBBING + 1]; /* by lane */
};

struct sim_view { /* a process's struct disk */
    struct disk base;
    struct disk_sim *machine;
    struct list node; /* of the machine */
    struct loop_sim_death death;
    struct list files, flights, refused;
    struct disk_share share;
    struct loop_task report;
    size_t in_flight;
    struct mem_domain *caller; /* domain of the process while one of its calls runs */
};

struct sim_file {
    struct disk_file base;
    struct list node; /* of the view */
    struct sim_node *inode;
    uint64_t heard; /* of inode->file.errors */
    char path[];    /* as opened, for faults */
};

/* ---- sim_file.c: contents. 0 or bytes, -ENOMEM, -ENOSPC, -EFBIG ---- */
void disk_sim_contents_init(struct sim_node *n);
void disk_sim_contents_fini(struct sim_node *n);
/* Nobody can reach the live contents any more; the durable ones stay for a crash. */
void disk_sim_contents_forget(struct sim_node *n);
size_t disk_sim_read(const struct sim_node *n, uint64_t offset, void *to, size_t len);
/* The first `limit` bytes of a DISK_WRITE. */
NODISCARD int64_t disk_sim_write(struct sim_node *n, const struct disk_req *req, uint64_t limit);
/* DISK_TRUNCATE, DISK_PUNCH, DISK_ALLOCATE. */
NODISCARD int64_t disk_sim_reshape(struct sim_node *n, const struct disk_req *req);
NODISCARD int disk_sim_corrupt_byte(struct sim_node *n, uint64_t offset, uint8_t xor_with);
NODISCARD int disk_sim_rot_byte(struct sim_node *n, uint64_t offset, uint8_t xor_with);
/* Makes changes up to `mark` durable. */
NODISCARD int disk_sim_sync(struct sim_node *n, uint64_t mark);
/* Applies one change to the durable side; without memory it may be in part. Torn: each sector of a
 * write by the toss of a coin. */
int disk_sim_settle(struct sim_node *n, const struct sim_change *c);
void disk_sim_settle_torn(struct sim_node *n, const struct sim_change *c);
void disk_sim_change_free(struct sim_node *n, struct sim_change *c);
/* Live becomes what durable is. */
void disk_sim_contents_revert(struct sim_node *n);

/* ---- sim_names.c: directories ---- */
struct sim_place {
    struct sim_node *dir;  /* NULL: the path is the root */
    struct sim_node *node; /* NULL: no such name */
    const char *name;
    size_t name_len;
    bool passed; /* the path leads through the node that was asked about */
};
NODISCARD struct sim_node *disk_sim_node_new(struct disk_sim *m, bool directory);
struct sim_node *disk_sim_node_ref(struct sim_node *n);
void disk_sim_node_unref(struct sim_node *n);
void disk_sim_node_closed(struct sim_node *n); /* one open file less */
void disk_sim_reap(struct disk_sim *m);        /* frees what nothing refers to */
NODISCARD int disk_sim_walk(struct disk_sim *m, const char *path, const struct sim_node *about,
                            struct sim_place *ret);
NODISCARD int disk_sim_create(struct disk_sim *m, const struct sim_place *at, bool directory,
                              struct sim_node **ret);
NODISCARD int disk_sim_rename(struct disk_sim *m, const char *path, const char *path_to);
NODISCARD int disk_sim_link(struct disk_sim *m, const char *path, const char *path_to);
NODISCARD int disk_sim_remove(struct disk_sim *m, const char *path);
/* Names one behind the other in fresh memory; count or -ENOMEM. */
NODISCARD int64_t disk_sim_list(const struct sim_node *dir, char **ret_text, size_t *ret_len);
void disk_sim_sync_dir(struct disk_sim *m, const struct sim_node *dir, uint64_t mark);
void disk_sim_sync_create(struct disk_sim *m, const struct sim_node *file, uint64_t mark);
/* Each pending change of names becomes durable `keep` times of 1,000, the rest is lost. */
void disk_sim_names_crash(struct disk_sim *m, unsigned keep);
void disk_sim_names_revert(struct sim_node *dir);
void disk_sim_names_fini(struct sim_node *dir);

/* ---- sim_ops.c: one request ---- */
int64_t disk_sim_execute(struct sim_view *v, struct disk_req *req, uint64_t mark);
/* What is left behind by a request that fails with an injected error. */
int64_t disk_sim_execute_failing(struct sim_view *v, struct disk_req *req, uint64_t mark, int rc);
/* The process died during the request: it happened, in part, or not. */
void disk_sim_execute_orphan(struct sim_view *v, const struct disk_req *req, uint64_t mark);
void disk_sim_file_close(struct sim_file *f);

uint64_t disk_sim_capacity_bytes(const struct disk_sim *m); /* sim.c */

/* chunk/parts_priv.h -- what the parts of a store offer each other; by file. */
#pragma once

#include "chunk/store_priv.h"

static inline struct chunk_entry *chunk_entry_of(struct chunk_item *item)
{
    return item == NULL ? NULL : container_of(item, struct chunk_entry, item);
}

/* ---- entry.c ---- */
NODISCARD struct chunk_entry *chunk_entry_get(struct chunk_store *s, struct chunk_key key,
                                              bool make);
/* The entry, if there is a chunk, else NULL; or -ERR_need, -ERR_busy, -ENOMEM, class EIO. */
NODISCARD int chunk_entry_know(struct chunk_store *s, struct chunk_key key,
                               struct chunk_entry **ret);
void chunk_entry_chain(struct chunk_store *s, struct chunk_entry *e, uint32_t chain);
void chunk_entry_settle(struct chunk_store *s, struct chunk_entry *e); /* frees it when unused */
void chunk_entry_free(struct chunk_store *s, struct chunk_entry *e);
void chunk_entry_changed(struct chunk_store *s, struct chunk_entry *e); /* change + 1, dirty */
void chunk_entry_clean(struct chunk_store *s, struct chunk_entry *e);
void chunk_entry_account(struct chunk_store *s, struct chunk_entry *e);
void chunk_entry_gone(struct chunk_store *s, struct chunk_entry *e); /* the chunk, not the entry */
void chunk_entry_damage(struct chunk_store *s, struct chunk_entry *e); /* flags, tells the user */
void chunk_entry_set(struct chunk_store *s, struct chunk_entry *e, struct chunk_version **place,
                     struct chunk_version *v); /* takes the reference; keeps the counts */
void chunk_entry_touch(struct chunk_store *s, struct chunk_entry *e); /* newest of the LRU */
void chunk_entry_info(const struct chunk_entry *e, struct chunk_info *ret);
void chunk_rest_add(struct chunk_store *s, struct chunk_entry *e, uint64_t block, uint32_t count,
                    uint64_t change);
void chunk_entry_lets_go(struct chunk_entry *e, uint64_t block, uint32_t count); /* these blocks */
/* Blocks of `v`, from cell *at on, that none of `other` (each may be NULL) has in the same cell (a
 * block never moves to another): those that lie one behind the other. False: there are no more. */
#define CHUNK_OTHERS 3u
struct chunk_run {
    uint64_t block;
    uint32_t count;
};
bool chunk_run_next(const struct chunk_version *v, const struct chunk_version *const *other,
                    uint32_t *at, struct chunk_run *ret);
/* All blocks of `old` that `other` (may be NULL) does not have. Those of an engine with an index
 * that nobody was ever sent only wait until it knows that nobody has them (s->unsent). */
void chunk_rest_version(struct chunk_store *s, struct chunk_entry *e, struct chunk_version *old,
                        const struct chunk_version *other);
/* The first of it may be given back: stable, no pin is older, and long enough ago. */
bool chunk_rest_due(const struct chunk_store *s, const struct chunk_entry *e);
/* Its engine may give back what has rested. */
void chunk_entry_rested(struct chunk_store *s, struct chunk_entry *e);
void chunk_entry_change(struct chunk_work *w); /* w->captured: the change that it makes */
struct chunk_version *chunk_version_new(uint32_t cells, unsigned recent_count);
struct chunk_version *chunk_version_ref(struct chunk_version *v); /* NULL is fine */
void chunk_version_unref(struct chunk_version *v);
void chunk_version_count(struct chunk_version *v);
/* It is committed. Has it come damaged? That is said of its chunk from now on. */
bool chunk_version_told(struct chunk_version *v);
uint32_t chunk_version_own(const struct chunk_version *v, const struct chunk_version *base);
/* Memory for cells, all zero; and without. */
NODISCARD int chunk_version_room(struct chunk_version *v, uint32_t cells);
void chunk_version_cool(struct chunk_version *v);
void chunk_file_unref(struct chunk_file *f);
NODISCARD struct chunk_file *chunk_file_new(struct chunk_store *s, struct disk_file *file);
uint32_t chunk_directory(const struct chunk_store *s, struct chunk_key key);
NODISCARD char *chunk_directory_path(const struct chunk_store *s, uint32_t dir);
NODISCARD char *chunk_path(const struct chunk_store *s, struct chunk_key key);
void chunk_store_fail(struct chunk_store *s, int rc, const char *reason);

/* ---- work.c ---- */
NODISCARD struct chunk_work *chunk_work_new(struct chunk_store *s);
void chunk_work_enqueue(struct chunk_work *w, struct chunk_entry *e); /* takes its turn */
void chunk_work_ready(struct chunk_work *w);       /* begin() soon, in no queue */
void chunk_work_leave(struct chunk_work *w);       /* the next one of the entry begins */
void chunk_work_end(struct chunk_work *w, int rc); /* leaves, finish(), then freed */
void chunk_work_free(struct chunk_work *w);
void chunk_work_io(struct chunk_work *w, struct disk_req *req,
                   void (*step)(struct chunk_work *w, int64_t rc));
/* The same, but whoever calls it submits the request soon, or has its `done` called otherwise. */
void chunk_work_prepare(struct chunk_work *w, struct disk_req *req,
                        void (*step)(struct chunk_work *w, int64_t rc));
/* The state of an entry, as a record holds it. */
struct chunk_state {
    struct chunk_version *committed, *pending;
    uint64_t last_ver;
    uint32_t chain;
    bool damaged;
};
struct chunk_state chunk_state_of(const struct chunk_entry *e);
void chunk_refuse(struct chunk_store *s); /* soon tells those of s->refused */
void chunk_works_run(struct loop_task *t);

/* ---- super.c ---- */
void chunk_super_save(struct chunk_store *s, struct chunk_work *w); /* w may be NULL; it ends */
NODISCARD int chunk_super_open(struct chunk_store *s, struct err *e);
NODISCARD int chunk_super_save_now(struct chunk_store *s);
/* Of a file that is written on: disk_refresh(), if the life before did not end in order and the
 * machine was not started anew since. Blocks. */
NODISCARD int chunk_file_fresh(const struct chunk_store *s, struct disk_file *file);

/* ---- dead.c ---- */
NODISCARD int chunk_dead_open(struct chunk_store *s, struct err *e);
void chunk_dead_append(struct chunk_store *s, struct chunk_work *w);   /* then w->next */
bool chunk_dead_stable(const struct chunk_store *s, uint64_t data_id); /* that it is dead */
void chunk_dead_shorten(struct chunk_store *s);                        /* if it is worth it */
struct disk_file *chunk_dead_copy_free(struct chunk_dead_copy *x);     /* to be closed, or NULL */

/* ---- medium.c: DISK_READ of what the medium has, in whole blocks, into aligned memory ---- */
struct disk_req chunk_medium_read(const struct chunk_store *s, struct disk_file *file,
                                  uint64_t offset, uint8_t *to, size_t len);
/* True: it cannot be read so on this disk, and is submitted once more, as it is now: through the
 * page cache. */
NODISCARD bool chunk_medium_cannot(struct chunk_store *s, struct disk_req *req, int64_t got);
/* Blocks; `len` bytes at most, or fewer at the end of the file. */
NODISCARD int64_t chunk_medium_now(struct chunk_store *s, struct disk_file *file, uint64_t offset,
                                   uint8_t *to, size_t len);

/* ---- sync.c ---- */
void chunk_sync_submit(struct chunk_store *s, struct chunk_sync *c);
void chunk_sync_wake(struct chunk_entry *e, int rc); /* those that wait for what is stable */
void chunk_tick(struct loop_timer *t);
void chunk_stop_check(struct chunk_store *s);
void chunk_look(struct chunk_store *s); /* at the free space, in the background */
/* True: what is known of it is old; w->begin() when it is not any more. */
bool chunk_look_wait(struct chunk_store *s, struct chunk_work *w);

/* ---- read.c ---- */
void chunk_pin_begin(struct chunk_store *s, struct chunk_pin *p, struct chunk_entry *e,
                     struct chunk_version *v);

/* ---- store.c ---- */
void chunk_store_low(struct chunk_store *s, uint64_t total_bytes); /* sets low_bytes */
void chunk_store_started(struct chunk_store *s, int rc);           /* by the engine, also at once */
void chunk_store_destroy(struct chunk_store *s);
/* A request of its own has come back; false: to a store that is freed, and goes with the last. */
bool chunk_came_back(struct chunk_store *s);

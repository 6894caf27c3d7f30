/*
 * chunk/extent_priv.h -- the parts of the `extent` engine: see engine_priv.h for what they do,
 * doc/format/extent.md for what they keep.
 *
 * An update writes its cells, then appends to the journal what has changed; then it is done. A
 * round makes all that is done stable (containers, then journal) and tells the index, which so
 * never knows what a power cut could take back. Checkpoints of the index let the journal be
 * trimmed. Small contents that are synced soon are in the journal, too: then a light round, of the
 * journal alone, is enough for a sync.
 */
#pragma once

#include "chunk/engine_priv.h"
#include "chunk/extent_format.h"
#include "chunk/extent_steps_priv.h"
#include "tree/space.h"

#define CHUNK_CONTAINER_UNITS (UINT64_C(1) << 24)
#define CHUNK_GROW_UNITS ((UINT64_C(64) << 20) / CHUNK_UNIT)
#define CHUNK_STEP_UNITS ((UINT64_C(8) << 20) / CHUNK_UNIT) /* least step */
#define CHUNK_ALL_UNITS UINT64_MAX
#define CHUNK_HEADER_OWNER 8u

struct chunk_container {
    struct chunk_extent *x;
    struct disk_file *file;
    uint64_t begins; /* at that offset of the file: a device has one after the other */
    struct disk_req sync;
    bool dirty; /* written since the last sync of it began */
    bool late;  /* the same, of what the journal has, too */
};

struct chunk_extent {
    struct chunk_store *s;
    struct tree_space *space;
    struct chunk_container **container;
    size_t container_count, container_capacity;
    uint64_t units;                /* that the containers have */
    struct tree_space *asleep;     /* what its start found free and nobody may use yet; or NULL */
    uint64_t wake_ns;              /* then they may */
    bool reborn;                   /* the machine runs on since a life that did not end in order */
    struct tree_space_extent open; /* in use, for the next small contents */
    struct disk_file *device;      /* that has all of them; NULL: each is a file */
    struct disk_req grow;
    uint64_t grow_units;
    bool reckoned;           /* what is free on the disk, since the containers grew */
    bool growing, grow_made; /* made: allocated, its length is being made stable */
    int grow_rc;             /* why what was begun is given up */
    char *grow_path;
    uint8_t *header;
    struct list growers; /* works that wait for units */
    struct list gather;  /* works whose write is put together with others; counted as under way */
    struct loop_task gather_task;
    struct list rested;      /* chunk_rest, of entries that were forgotten */
    struct list readings;    /* chunk_reading */
    struct chunk_page *page; /* what a walk has read last */
    struct chunk_damage_read damage;
    struct chunk_rewrite *rewrite; /* NULL: there was nothing to do yet */
    struct chunk_release release;
    struct kv *index;
    struct journal *journal;
    struct journal_user user;
    uint64_t journal_most_bytes;  /* then updates wait */
    struct list appending, flips; /* chunk_append; entries with a commit that no record tells of */
    size_t flip_count;
    uint64_t lists, lists_done; /* of commits: appended, and those that are done */
    int lists_rc;               /* of those that failed since a round began */
    struct chunk_round round;
    struct chunk_carry carry;
    struct chunk_backlog backlog;
    struct list admits; /* works that wait until there is less of it */
    struct kv_checkpoint checkpoint;
    bool checkpointing, checkpoint_due, checkpointed;
    uint64_t checkpoint_ns, bytes_since; /* of journal, since the last one began */
    uint64_t bytes_round;                /* the same since the last round did */
    bool hurried;                        /* the one under way is no longer spread */
    uint64_t older, newer;               /* indexes of the checkpoints that are kept */
    struct chunk_loading *loading;       /* while it starts */
    bool loaded;                         /* rounds may begin */
    struct kv_stop kv_stop;
    struct journal_stop journal_stop;
    bool ending, kv_ended, journal_ended;
    uint64_t wrong;  /* what the start found that should not be */
    bool index_full; /* its newest checkpoint found no room */
};

/* `carried`: the journal has it, too. */
static inline void chunk_container_wrote(struct chunk_container *c, bool carried)
{
    c->dirty = c->dirty || !carried;
    c->late = c->late || carried;
    c->x->carry.raw = c->x->carry.raw || !carried;
}

/* ---- extent_space.c ---- */
NODISCARD int chunk_space_open(struct chunk_extent *x, struct err *e);
void chunk_space_close(struct chunk_extent *x);
NODISCARD int chunk_space_claim(struct chunk_extent *x, uint64_t unit, uint32_t count);
/* At a start: nobody has it any more. False: not all of it was claimed; nothing is done. */
NODISCARD bool chunk_space_unclaim(struct chunk_extent *x, uint64_t unit, uint32_t count);
struct chunk_container *chunk_space_container(const struct chunk_extent *x, uint64_t unit);
uint64_t chunk_space_offset(const struct chunk_extent *x, uint64_t unit); /* in its file */
void chunk_space_release(struct chunk_extent *x); /* what has rested long enough */
/* At the end of a start: what is free rests if the life before may still be sending from it. */
NODISCARD int chunk_space_sleep(struct chunk_extent *x);
/* Nobody has it, nor can be reading it: free at once. */
void chunk_space_give(struct chunk_extent *x, uint64_t unit, uint32_t count);
NODISCARD bool chunk_journal_full(const struct chunk_extent *x);
void chunk_extent_reserve(struct chunk_work *w, chunk_next *next);
void chunk_extent_unreserve(struct chunk_work *w);
void chunk_extent_rested(struct chunk_store *s, struct chunk_entry *e);

/* ---- extent_memory.c ---- */
/* No more can be known that the index does not know yet; a round begins before that. */
NODISCARD bool chunk_memory_full(struct chunk_store *s);
void chunk_backlog_init(struct chunk_extent *x);
/* A record of the journal tells of it; what it says may follow. */
void chunk_backlog_named(struct chunk_extent *x, struct chunk_entry *e, uint64_t index);
void chunk_backlog_begin(struct chunk_extent *x); /* of a checkpoint */
void chunk_backlog_over(struct chunk_extent *x);  /* it is durable */
/* No more may be named than a start can take; a checkpoint is made before that. */
NODISCARD bool chunk_backlog_full(struct chunk_extent *x);
void chunk_backlog_replayed(struct chunk_extent *x); /* what a start has taken */
void chunk_extent_admit(struct chunk_work *w, chunk_next *next);
void chunk_admits_again(struct chunk_extent *x); /* those that wait look again */

/* ---- extent_gather.c ---- */
void chunk_gather_init(struct chunk_extent *x);
/* w->io is submitted when the round of the loop ends, with its neighbours. */
void chunk_gather_write(struct chunk_work *w, void (*step)(struct chunk_work *w, int64_t rc));

/* ---- extent_carry.c ---- */
/* `bytes` of it are about to be written: will its record have them? Then plan->carried_bytes. */
void chunk_carry_look(struct chunk_work *w, uint64_t bytes);
void chunk_carry_recorded(struct chunk_extent *x, uint64_t bytes);
void chunk_carry_asked(struct chunk_extent *x); /* for a sync */
void chunk_carry_trim(struct chunk_extent *x);  /* the index was told: may the journal be cut? */

/* ---- extent_write.c ---- */
void chunk_extent_write(struct chunk_work *w, chunk_next *next);
void chunk_extent_waste(struct chunk_work *w, int rc);

/* ---- extent_record.c ---- */
void chunk_extent_record(struct chunk_work *w, const struct chunk_state *st, chunk_next *next);
void chunk_extent_remove(struct chunk_work *w, chunk_next *next);
void chunk_extent_committed(struct chunk_store *s, struct chunk_entry *e);
void chunk_extent_damaged(struct chunk_store *s, struct chunk_entry *e);
/* Records of the commits that no record tells of yet. 0, -ENOMEM. */
NODISCARD int chunk_extent_flush_flips(struct chunk_extent *x);
/* What records up to `index` describe is stable; ends with chunk_extent_synced(). */
void chunk_extent_append_stable(struct chunk_extent *x, uint64_t index);
void chunk_extent_journal_failed(struct journal_user *u, int rc, const char *reason);

/* ---- extent_round.c ---- */
void chunk_extent_sync(struct chunk_store *s, struct chunk_work *w);
void chunk_extent_removed(struct chunk_store *s, struct chunk_work *w);
void chunk_extent_round(struct chunk_store *s);
/* It begins again when the next round, one that tells the index, is over; w->kept says how. */
void chunk_round_join(struct chunk_work *w, void (*begin)(struct chunk_work *w));
void chunk_extent_synced(struct chunk_extent *x, int rc);
void chunk_extent_flips_done(struct chunk_extent *x); /* another list of commits is over */
void chunk_extent_grown(struct chunk_extent *x);      /* no container is made longer now */
void chunk_extent_checkpoint(struct chunk_extent *x);
void chunk_extent_hurry(struct chunk_extent *x); /* a checkpoint that takes no time off */
void chunk_extent_pace(struct chunk_extent *x);  /* contents come: is the journal getting long? */
void chunk_extent_tick(struct chunk_store *s);

/* ---- extent_start.c ---- */
void chunk_extent_start(struct chunk_store *s);
void chunk_start_rebuilt(struct chunk_extent *x, int rc); /* it was made anew, or not */
void chunk_start_over(struct chunk_extent *x, int rc);    /* its round, or its checkpoint */
bool chunk_start_doubts(const struct chunk_extent *x); /* records that no checkpoint has passed */
void chunk_start_stable(struct chunk_extent *x);       /* its round says what is: it may be over */

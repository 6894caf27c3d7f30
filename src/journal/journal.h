/*
 * journal/journal.h -- a segmented append-only log with checksums and group commit.
 *
 * Records get consecutive indexes. Everything that is queued when the disk is free becomes one
 * batch: one write and, if anyone asked for it, one fdatasync, both as one request when the disk is
 * idle. A write goes on while a sync is under way. Segments are created, allocated, filled with
 * zeros and made durable before they are needed. Layout and the rule that tells a torn tail from
 * lost data: doc/format/journal.md.
 *
 * A failed write or sync makes the journal read-only for good: all that is queued or not yet stable
 * and all that comes later gets -ERR_failed_before, `failed` is called once with the error itself.
 * Nothing is retried: after a failed fdatasync nobody knows what the disk holds. The way on is to
 * stop it, to free it and to open it again.
 *
 * Thread: the loop of env. Request objects are caller-owned; `done` is called exactly once, on that
 * loop, never from inside the call that submitted it; it may submit more. Only journal_open() and
 * journal_free() block. The directory is the journal's alone; keeping other processes out of it is
 * the owner's business (DISK_LOCK).
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "base/list.h"

#include <sys/uio.h>

struct env;
struct journal;
struct loop_task;

#define JOURNAL_OWNER_BYTES 16u
#define JOURNAL_IOV_MAX 16u
#define JOURNAL_KEEP_MAX 8u

struct journal_record {
    uint64_t index;
    uint16_t type;        /* the owner's */
    const uint8_t *bytes; /* lent for the call, 8-aligned */
    size_t len;
};

/* What the owner hears; every op is mandatory. */
struct journal_user {
    const struct journal_user_ops *ops;
};
struct journal_user_ops {
    /* During journal_open(), in order of index; a negative result ends the open with that error. */
    int (*record)(struct journal_user *u, const struct journal_record *r);
    /* During journal_open(): a journal_cut() was here: records from `index` on are void, and the
     * next one will have `index` (which may also be above the last: then all before are void). */
    int (*cut)(struct journal_user *u, uint64_t index);
    /* Once, when the journal became read-only, after the requests concerned have heard of it. */
    void (*failed)(struct journal_user *u, int rc, const char *reason);
};

struct journal_options {
    const struct env *env;
    const char *directory; /* exists; copied */
    const char *name;      /* of the statistics group; NULL: "journal" */
    struct journal_user *user;
    uint8_t owner[JOURNAL_OWNER_BYTES]; /* whose journal it is: another's is refused */
    uint64_t segment_bytes;             /* 0: 64 MiB; changes affect new segments only */
    uint64_t least_bytes;    /* where there is no room for a whole segment: one of half of the room,
                                if that is so much at least. 0: none */
    unsigned keep_segments;  /* trimmed ones that are kept to be used again, so that no new space
                                is needed then; at most JOURNAL_KEEP_MAX. 0: they are removed */
    size_t max_record_bytes; /* 0: 1 MiB + 4 KiB; at most a quarter of segment_bytes */
    size_t queue_bytes;      /* not yet done; 0: 16 MiB */
    size_t queue_records;    /* not yet done; 0: 4,096 */
    uint64_t first_index;    /* of a new journal; 0: 1 */
    bool sparse;  /* do not allocate ahead: for tests. What a failed sync left may be lost */
    bool salvage; /* what follows a damage is given up instead of ending the open: journal_info
                     says `gave_up`. For tools: whoever was told that it is stable is not told */
    struct loop_task *room; /* may be NULL; deferred when the next segment is ready, or is not to be
                               had: for an owner that looks at room_bytes before it appends */
};

/*
 * Replays what is there and gets ready to append. Start-up only: blocks. A directory without
 * segments is a new journal. What was replayed is on stable storage when this returns (also what a
 * killed process had only handed to the kernel).
 * -ERR_corrupt class: damage to data that had been synced, or a foreign file; `e` names file and
 * offset. A torn tail (damage that no later batch contradicts) is dropped silently.
 * -ERR_wrong_cluster: the owner differs. -EINVAL: options. Else -errno of the disk.
 */
NODISCARD int journal_open(const struct journal_options *opt, struct journal **ret, struct err *e);
/* Closes at once; blocks for close(2) only. Nothing may be in progress: call journal_stop() first,
 * also when it has failed, unless the loop has not run since journal_open(). NULL is fine; returns
 * NULL. */
struct journal *journal_free(struct journal *j);
DEFINE_FREEP(journal)

enum journal_durability {
    JOURNAL_WRITTEN, /* done when the kernel has it: survives the process, not the machine */
    JOURNAL_STABLE,  /* done when it is on stable storage */
};

/* One record. Zero-initialise; set the first block. */
struct journal_append {
    void (*done)(struct journal_append *a, int rc);
    const struct iovec *iov; /* array and bytes are lent until done; up to JOURNAL_IOV_MAX pieces */
    unsigned iov_count;
    uint16_t type;
    enum journal_durability durability;
    uint64_t index; /* out, set by journal_append(); 0 when it was refused at once */
    /* the journal's */
    struct list node;
    size_t len;
    uint64_t ticket, queued_ns;
    uint8_t kind;
    int rc;
};
/*
 * Refused at once (done comes later all the same): -ERR_busy (queue full), -EMSGSIZE, -EINVAL (too
 * many pieces), -ERR_failed_before, -ERR_shutting_down. -ENOSPC: there is no room for the next
 * segment; everything queued behind it fails with it and its indexes will be given again; the
 * journal stays usable and tries again with the next append.
 */
void journal_append(struct journal *j, struct journal_append *a);

/* Done when everything appended before this call is stable. */
struct journal_sync {
    void (*done)(struct journal_sync *s, int rc);
    struct list node;
    uint64_t ticket;
    int rc;
};
void journal_sync(struct journal *j, struct journal_sync *s);

/* Discards the records from `index` on, also queued ones' effects: ordered with appends as
 * submitted. The next record appended gets `index`. Above the next index: discards everything
 * before (a new beginning after an installed snapshot). Done when stable. */
struct journal_cut {
    void (*done)(struct journal_cut *c, int rc);
    uint64_t index;
    struct journal_append append; /* the journal's */
};
void journal_cut(struct journal *j, struct journal_cut *c);

/* Records below `index` are not needed any more: whole segments of them are removed (or kept for
 * reuse) in the background, the oldest first. The last segment with records stays. Never fails;
 * what was not removed before a crash is replayed again. */
void journal_trim(struct journal *j, uint64_t index);

/* Takes no more, writes and syncs what is queued, seals the end (so that later damage anywhere is
 * recognised) and waits for background work. `done` may call journal_free(). rc: the first error.
 */
struct journal_stop {
    void (*done)(struct journal_stop *s, int rc);
};
void journal_stop(struct journal *j, struct journal_stop *s);

struct journal_info {
    uint64_t next_index;   /* of the next record to be appended */
    uint64_t stable_index; /* records below are on stable storage */
    uint64_t size_bytes;   /* of the batches in all segments: what a replay reads */
    uint64_t room_bytes; /* that are certainly there for more batches: rest of the segment and, when
                            it is ready, the next one. 0 when read-only */
    int spare_rc; /* why the next segment is not there, of the last attempt; 0: it is, or is being
                     made */
    uint64_t segment_bytes; /* of the one that is written to; 0: there is none yet */
    uint32_t segment_count;
    uint32_t kept_count; /* that wait to be used again */
    uint32_t queued_records;
    bool gave_up; /* `salvage`: records were lost */
    int failed;   /* 0, or the error that made it read-only */
};
void journal_info(const struct journal *j, struct journal_info *ret);
/* "journal dir: next 100, stable below 100, 2 segments, 12345 bytes" */
void journal_to_text(const struct journal *j, char *out, size_t size);

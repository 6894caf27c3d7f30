/*
 * journal/journal_priv.h -- the parts of a journal and how its files share them.
 *
 * Two counters run through it: a *ticket* numbers requests in the order of submission (what waiters
 * wait for), a *sequence* numbers batches (what is on disk). At most one write and one sync are in
 * flight; a segment becomes current only when all before it is written.
 */
#pragma once

#include "base/env.h"
#include "base/stats.h"
#include "disk/disk.h"
#include "journal/journal.h"
#include "journal/journal_format.h"
#include "loop/loop.h"

#define JOURNAL_PATH_SIZE 1024u
#define JOURNAL_BATCH_TARGET (1u << 20) /* a batch takes no more records beyond this */
#define JOURNAL_STAGING_BYTES (128u << 10)
#define JOURNAL_SMALL_BYTES 512u /* payloads up to this are copied into the staging buffer */
#define JOURNAL_BATCH_IOV 512u
#define JOURNAL_ZERO_PIECES 8u       /* of one write, 64 KiB each */
#define JOURNAL_RETRY_NS 1000000000u /* after no room for the next segment */

struct journal_segment {
    struct list node;
    struct disk_file *file; /* NULL: closed */
    uint64_t number;
    uint64_t size_bytes;  /* how far batches may go */
    uint64_t whole_bytes; /* of its file, from the start, that were written: they can be written
                             again without new space */
    uint64_t used_bytes;  /* end of the batches */
    uint64_t last_sequence, last_ticket; /* written; 0: no batch yet */
    uint64_t end_index;                  /* above all indexes that were ever in it; 0: no records */
    uint64_t next_index;                 /* of the record after its last batch */
    uint32_t crc;
};

enum journal_prepare_step {
    PREPARE_IDLE,
    PREPARE_OPEN,
    PREPARE_TRUNCATE,
    PREPARE_ROOM, /* is there enough? An attempt would take all there is for a while, from others */
    PREPARE_ALLOCATE,
    PREPARE_ZERO, /* many times: a sync of blocks never written also commits the file system's log
                   */
    PREPARE_HEADER,
    PREPARE_SYNC,
    PREPARE_RENAME,
    PREPARE_SYNC_DIR,
    PREPARE_UNDO_CLOSE, /* it failed: nothing of it stays */
    PREPARE_UNDO_REMOVE,
};

/* Getting the next segment ready. */
struct journal_prepare {
    enum journal_prepare_step step;
    struct disk_req req;
    struct journal_segment *segment;
    uint8_t *header; /* JOURNAL_DATA_OFFSET bytes */
    uint64_t zeroed; /* bytes from the start of the segment */
    struct iovec zeros[JOURNAL_ZERO_PIECES];
    char path[JOURNAL_PATH_SIZE], path_to[JOURNAL_PATH_SIZE];
    int rc;         /* of the attempt that is being undone */
    bool blocked;   /* appends wait for it and fail with it */
    bool reuses;    /* one that was kept: */
    uint64_t taken; /* its number, while it is called so; 0: none */
    struct loop_timer retry;
};

enum journal_trim_step {
    TRIM_IDLE,
    TRIM_NAME, /* it goes, or gets another one */
    TRIM_SYNC_DIR,
    TRIM_SURPLUS, /* one of those that were kept goes for it */
};

/* Removing the oldest segments, or keeping them under another name. */
struct journal_trimmer {
    enum journal_trim_step step;
    bool keeps; /* the one that goes now */
    bool given_up;
    uint64_t index; /* records below are not needed */
    struct disk_req req;
    char path[JOURNAL_PATH_SIZE], path_to[JOURNAL_PATH_SIZE];
};

/* A trimmed segment that can be used again. */
struct journal_kept {
    uint64_t number, bytes;
};

/* Closing segments that will not be written again. */
struct journal_closer {
    struct journal_segment *segment; /* NULL: idle */
    struct disk_req req;
};

struct journal_counters {
    struct stats *group;
    struct stats_counter records, bytes, batches, syncs, segments, refused;
    struct stats_gauge queued;
    struct stats_histogram sync_time, stable_time;
};

struct journal {
    struct env env;
    struct journal_user *user;
    char *directory;
    uint8_t owner[JOURNAL_OWNER_BYTES];
    uint64_t segment_bytes, least_bytes;
    size_t max_record_bytes, queue_bytes, queue_records;
    struct loop_task *room; /* the owner's */
    bool sparse, salvage, gave_up;

    /* segments, the oldest first; `current` is the last of the list, `spare` in none */
    struct list segments;
    struct journal_segment *current, *spare;
    uint32_t segment_count;
    uint64_t next_number;
    struct journal_prepare prepare;
    struct journal_trimmer trim;
    struct journal_closer closer;
    struct journal_kept kept[JOURNAL_KEEP_MAX + 1]; /* one too many while it is being removed */
    unsigned kept_count, keep_segments;

    /* the chain of batches */
    uint64_t next_index; /* of the next append */
    uint64_t sequence, stable_sequence;
    uint64_t ticket, written_ticket, stable_ticket;
    uint64_t written_index, stable_index; /* next index as of what is written, stable */
    uint32_t crc;
    bool sealed; /* the last batch is a seal */

    struct list queue;    /* not yet in a batch */
    struct list writing;  /* in the batch under way */
    struct list unstable; /* written, wait for a sync; in order of tickets */
    struct list syncs;    /* journal_sync requests, in order of tickets */
    struct list done;     /* to be completed by the task */
    struct list syncs_done;
    size_t used_bytes, used_records; /* of requests not yet done */
    uint64_t queue_size_bytes;       /* on disk, of those in `queue` */

    struct disk_req write, sync;
    struct journal_batch batch; /* under way */
    uint64_t batch_bytes, batch_ticket, batch_index;
    struct journal_segment *syncing; /* NULL: no sync in flight */
    uint64_t sync_sequence, sync_ticket, sync_index, sync_started_ns;
    bool write_active, write_syncs; /* that write also makes stable */
    uint8_t *staging;
    size_t staged;
    struct iovec iov[JOURNAL_BATCH_IOV];
    unsigned iov_count;

    struct loop_task task;
    struct journal_stop *stop;
    bool stop_sealed;
    int failed;
    int refusing; /* what appends are told until all that failed have been told; 0: nothing */
    bool told;    /* `failed` of the user was called */
    bool begun;   /* the first segment is being prepared, or was */
    char reason[240];
    struct journal_counters stats;
};

/* journal.c */
void journal_wake(struct journal *j); /* the task runs soon */
COLD void journal_fail(struct journal *j, int rc, const char *fmt, ...) PRINTF_LIKE(3, 4);
void journal_fail_queue(struct journal *j, int rc); /* all that is not in a batch yet */

/* segment.c */
struct journal_segment *journal_segment_new(uint64_t number);
struct journal_segment *journal_segment_free(struct journal_segment *s);
int journal_segment_path(const struct journal *j, uint64_t number, const char *suffix,
                         char out[JOURNAL_PATH_SIZE]);
/* Makes room for `bytes`: true when the current segment has it; else rolls if the next one is
 * ready, or sees to it that it will be. */
bool journal_segment_room(struct journal *j, uint64_t bytes);
uint64_t journal_segment_left(const struct journal *j); /* bytes for batches in the current one */
/* After progress of stability: closes and trims what may be. */
void journal_segment_synced(struct journal *j);
void journal_prepare_start(struct journal *j);
void journal_trim_start(struct journal *j);
bool journal_segment_busy(const struct journal *j); /* background work is under way */
void journal_segment_fini(struct journal *j);       /* blocks for close */
#define JOURNAL_SUFFIX ".journal"
#define JOURNAL_SUFFIX_NEW ".new"
#define JOURNAL_SUFFIX_OLD ".old"

/* keep.c */
uint64_t journal_keep_most(const struct journal *j); /* bytes of the largest; 0: there is none */
struct journal_kept journal_keep_take(struct journal *j); /* the largest; there is one */
/* What a segment of so many bytes would be kept as: whole units; 0: it is too small. */
uint64_t journal_keep_bytes(const struct journal *j, uint64_t bytes);
bool journal_keep_wants(const struct journal *j, uint64_t number, uint64_t bytes);
/* True: that is one too many; *ret_surplus, the smallest, is not kept any more. */
bool journal_keep_add(struct journal *j, uint64_t number, uint64_t bytes, uint64_t *ret_surplus);

/* open.c */
NODISCARD int journal_replay(struct journal *j, uint64_t first_index, struct err *e);

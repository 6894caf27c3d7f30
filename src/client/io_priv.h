/*
 * client/io_priv.h -- an operation on an open file: a small state machine that looks again whenever
 * something about the file has changed.
 */
#pragma once

#include "client/op_priv.h"
#include "client/scan_priv.h"
#include "client/update_priv.h"
#include "opendfs/sparse.h"

#define CLIENT_PARTS 8u /* of one large read, under way */

enum client_io_kind {
    IO_READ,
    IO_READ_LENT,
    IO_WRITE,
    IO_WRITE_LENT,
    IO_SYNC,
    IO_TRUNCATE,
    IO_ALLOCATE, /* fallocate: allocate, punch, zero */
    IO_STAT,
    IO_SEEK,
    IO_FLUSH,      /* as close, but handle and authority stay */
    IO_LAST_FLUSH, /* the same, and they probably end now */
    IO_CLOSE,
    IO_RECALL, /* nobody's: the leader wants the write authority shared */
};
enum client_io_phase {
    PHASE_BEGIN,
    PHASE_FLUSH,  /* updates before `barrier` */
    PHASE_STABLE, /* SYNC to the chains */
    PHASE_STABLE_WAIT,
    PHASE_COMMIT,
    PHASE_TURN_END, /* an append to a shared file: the turn goes back, with the new size */
    PHASE_ATTR,     /* truncate, close: setattr */
    PHASE_CUT,      /* truncate: chunks behind the new end */
    PHASE_RETURN,
    PHASE_CALL, /* a call of the metadata service is under way; then `after` */
    PHASE_END,
};
struct client_part {
    struct client_fetch fetch;
    struct client_io *io;
    uint64_t at; /* file offset of what is wanted of it */
    size_t len;
    bool active;
};
struct client_io {
    struct opendfs_op *op; /* NULL: internal */
    struct client_inode *inode;
    struct opendfs_file *file;
    struct list node; /* of inode.waiting */
    enum client_io_kind kind;
    enum client_io_phase phase, after;
    uint64_t barrier;
    int rc;
    bool stable;       /* SYNC is wanted */
    bool parks;        /* the authority goes back with its commit */
    bool early;        /* times may be told while its updates are under way */
    bool committed;    /* its newest commit has succeeded */
    bool placed;       /* an append: `offset` is the end of the file; */
    uint64_t turn;     /* not 0: it is ours until append_done (mode S) */
    bool asked;        /* whether a quota lets the file become so large (room.c) */
    char *why;         /* owned: a server's words for rc, or NULL */
    uint64_t sent_end; /* of a shared file, as the commit has it */
    int64_t sent_taken;
    uint8_t *sent; /* owned: small contents as the commit has them, or NULL */
    /* reading and writing */
    uint8_t *to;
    const uint8_t *from;
    uint64_t offset, size; /* truncate: the new size, and what it was */
    size_t len, pos;
    uint64_t cut_index;       /* truncate: the next chunk, */
    uint32_t tgen;            /* and the generation of it */
    struct client_seek *seek; /* owned: of seek.c */
    struct client_scan *scan; /* owned: a page of the chunks that there are; NULL: none */
    size_t scan_at;           /* the next of them */
    enum { SPACE_UNKNOWN, SPACE_ASKED, SPACE_KNOWN } space; /* allocate: is there as much? */
    uint64_t wanted, available;
    bool zeroed, punched; /* what has to become zeros is on its way; it was in chunks */
    uint32_t stored_tgen; /* write: the oldest generation with which a part was stored */
    size_t parts_active;
    bool streams; /* reading in order, of a large file */
    bool waited;  /* for a block: if that has become old meanwhile it does without */
    enum { IO_STALE, IO_ASKED, IO_FRESH } fresh; /* the attributes that it looks at, in mode S */
    struct client_held held;
    struct client_part *part; /* CLIENT_PARTS, allocated when they are needed */
    struct slice lent;
    /* setattr of close and truncate */
    const struct opendfs_stat *values;
    uint32_t mask;
    void (*then)(void *context, int rc); /* internal: instead of an op */
    void *context;
    struct client_call call;
    union {
        struct proto_commit_request commit;
        struct proto_setattr_request setattr;
        struct proto_release_request release;
        struct proto_lease_return_request lease_return;
        struct proto_append_turn_request append_turn;
        struct proto_append_done_request append_done;
        struct proto_wopen_request wopen;
        struct proto_statfs_request statfs;
    } request;
    uint64_t keep;
};
int client_io_fits(const struct client_inode *i, uint64_t offset, uint64_t len); /* or -EFBIG */
/* Small contents become an update like any other. 1: done, 0: wait. */
int client_io_spill(struct client_inode *i);
void client_io_written(const struct client_io *io, uint64_t end);
bool client_allocate_step(struct client_io *io); /* allocate.c; true: it has ended */
/* append.c. True: the write may go on, io->offset is where. */
bool client_append_place(struct client_io *io);
bool client_append_end_step(struct client_io *io); /* PHASE_TURN_END */
/* sync.c: phases from FLUSH on. */
bool client_io_call_busy(struct client_io *io);
void client_io_called(struct client_io *io, const struct peer_reply *r);
void client_io_mutate(struct client_io *io, uint16_t opcode, enum client_io_phase after,
                      void (*done)(struct client_call *c, const struct peer_reply *r));
uint64_t client_io_allocated(const struct client_inode *i);
bool client_io_finish_step(struct client_io *io);
/* chunks.c: the next page of the chunks from `first` on that there are, into io->scan. 1: it is
 * there; 0: wait; or an error. */
int client_io_chunks(struct client_io *io, uint64_t first, uint64_t end);
void client_io_chunks_over(struct client_io *io);
bool client_io_cut_step(struct client_io *io); /* PHASE_CUT */
/* seek.c */
bool client_seek_step(struct client_io *io); /* true: it has ended */
void client_seek_free(struct client_io *io);
/* rewrite.c. True: it is written once more. */
bool client_io_rewrites(struct client_io *io);
bool client_io_writes_before(const struct client_io *io); /* a write waits that began before it */
/* room.c: may the file become so large? 1: yes; 0: asked, wait; or -EDQUOT. */
int client_io_room(struct client_io *io, uint64_t size);
void client_io_end(struct client_io *io, int64_t rc);

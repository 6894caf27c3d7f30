#include "client/io_priv.h"
#include "client/share_priv.h"

/*
 * The second half of operations that wait: updates stored, stable, sizes and times published, the
 * authority given back. Each phase goes on to the next one by itself when there is nothing to do.
 */

bool client_io_call_busy(struct client_io *io)
{
    if (io->inode->meta_busy) {
        return true; /* one mutation of a file at a time: its end wakes us */
    }
    io->inode->meta_busy = true;
    return false;
}

void client_io_called(struct client_io *io, const struct peer_reply *r)
{
    io->inode->meta_busy = false;
    if (r->rc == -EDQUOT && r->failure != NULL && io->rc == 0 && io->why == NULL) {
        char text[OPENDFS_ERROR_SIZE]; /* which directory, which limit */
        proto_bytes_to_c(r->failure->text, text, sizeof text);
        io->why = mem_strdup(text); /* NULL: then without */
    }
    io->rc = io->rc == 0 && r->rc < 0 ? r->rc : io->rc;
    io->phase = io->after;
    client_inode_wake(io->inode);
}

void client_io_mutate(struct client_io *io, uint16_t opcode, enum client_io_phase after,
                      void (*done)(struct client_call *c, const struct peer_reply *r))
{
    io->phase = PHASE_CALL;
    io->after = after;
    io->call.done = done;
    client_mutate(io->inode->fs, &io->call, opcode, &io->request);
}

/* --- commit -------------------------------------------------------------------------------------
 */

static void attr_take(struct client_inode *i, const struct proto_attr *a)
{
    if (a->type != 0) {
        i->attr = *a;
    } else { /* answered once more (L7), and removed since: what was known of it last */
        i->attr.nlink = 0;
        i->attr.size = i->size;
    }
}

static void commit_done(struct client_call *c, const struct peer_reply *r)
{
    struct client_io *io = container_of(c, struct client_io, call);
    struct client_inode *i = io->inode;
    i->releasing = i->committing = false;
    io->committed = r->rc == 0;
    if (r->rc == 0) {
        const struct proto_commit_reply *m = r->body;
        i->taken -= io->sent_taken;
        attr_take(i, &m->attr);
        i->data_version = m->data_version;
        i->small_version = m->attr.version;
        i->limited = m->limited;
        i->size_limit = m->size_limit;
        if (m->layout.data_id != 0) {
            i->layout = m->layout;
        }
        client_inode_take_size(i, i->attr.size);
        if ((io->request.commit.flags & PROTO_COMMIT_RELEASE) != 0) {
            i->mode = PROTO_OPEN_NONE;
            i->wait_shared = false;
            i->parked = io->kind == IO_FLUSH;
        }
    } else {
        i->dirty = true;
        i->kill_priv = (io->request.commit.flags & PROTO_COMMIT_KILL_PRIV) != 0;
        i->outsider = (io->request.commit.flags & PROTO_COMMIT_OUTSIDER) != 0;
        i->chunked = i->chunked || io->request.commit.allocated > 0;
        i->shared_end = base_max(i->shared_end, io->sent_end);
        if (r->rc == -ERR_session_expired || r->rc == -ESTALE) {
            i->dead = -ERR_session_expired;
        }
    }
    client_io_called(io, r);
}

/* What is on record, and what was stored and freed since: bytes that are written over count twice,
 * but no file takes more than its whole length. */
uint64_t client_io_allocated(const struct client_inode *i)
{
    bool chunks = i->chunked || (!i->in_line && i->attr.allocated > 0);
    uint64_t most = base_max(base_align_up(i->stored_end, PROTO_CELL_BYTES), PROTO_CELL_BYTES);
    int64_t taken = (int64_t)i->attr.allocated + i->taken;
    uint64_t least = PROTO_CELL_BYTES; /* 0 would say nothing */
    return !chunks ? 0 : taken < (int64_t)least ? least : base_min((uint64_t)taken, most);
}

/* Mtime that a close sets comes with the commit. */
static void commit_fold_times(struct client_io *io)
{
    if (io->kind == IO_CLOSE && (io->mask & OPENDFS_SET_MTIME) != 0) {
        io->inode->mtime_ns = io->values->mtime_ns;
        io->inode->dirty = true;
        io->inode->told = false;
        io->mask &= ~(uint32_t)OPENDFS_SET_MTIME;
    }
}

/* A call keeps bytes of its own until it has an answer: while it waits, or is sent anew, a recall
 * may move the small contents into chunks. False: no memory. */
static bool commit_copies(struct client_io *io)
{
    const struct client_inode *i = io->inode;
    mem_free(io->sent);
    io->sent = NULL;
    if (!i->in_line || i->small_len == 0) {
        return true;
    }
    io->sent = mem_alloc(i->small_len);
    if (io->sent == NULL) {
        return false;
    }
    memcpy(io->sent, i->small, i->small_len);
    return true;
}

/* Not the end of what is only here: who dies would leave zeros in its place. Nor, of a file that
 * others write, a size that was heard of: they may have truncated it since. */
static uint64_t commit_size(const struct client_inode *i)
{
    uint64_t known = base_max(i->attr.size, base_max(i->stored_end, i->set_size));
    if (i->mode == PROTO_OPEN_S) {
        return i->shared_end;
    }
    return client_update_beyond(i, known) ? base_min(known, i->size) : i->size;
}

static bool commit_step(struct client_io *io, enum client_io_phase after)
{
    struct client_inode *i = io->inode;
    bool writer = io->file != NULL && (io->file->flags & OPENDFS_WRITE) != 0;
    bool ends = io->kind == IO_CLOSE || (io->parks && i->mode == PROTO_OPEN_W && i->torn == 0);
    bool last = ends && writer && i->writers == 1 && i->opening == 0;
    bool alive = i->mode != PROTO_OPEN_NONE && i->dead == 0;
    if (alive && i->committing && !i->dirty) {
        return false; /* what it tells is not durable yet, and if it fails we tell it; its end wakes
                       */
    }
    if (alive && i->setting > 0 && (i->dirty || last)) {
        return false; /* the times that are set are newer than ours; its end wakes */
    }
    if (i->mode == PROTO_OPEN_NONE || i->dead < 0 || (!i->dirty && !last)) {
        io->phase = after;
        return true;
    }
    if (!commit_copies(io)) {
        client_inode_starve(i);
        return false;
    }
    if (client_io_call_busy(io)) {
        return false;
    }
    commit_fold_times(io);
    struct proto_commit_request *m = &io->request.commit;
    *m = (struct proto_commit_request){.ino = i->ino,
                                       .cap_epoch = i->cap_epoch,
                                       .size = commit_size(i),
                                       .mtime_ns = i->mtime_ns,
                                       .ctime_ns = (int64_t)loop_wall_ns(i->fs->loop),
                                       .data_version = i->data_version,
                                       .flags = (last ? PROTO_COMMIT_RELEASE : 0) |
                                                (i->told    ? PROTO_COMMIT_TOLD
                                                 : i->dirty ? PROTO_COMMIT_TIMES
                                                            : 0) |
                                                (i->kill_priv ? PROTO_COMMIT_KILL_PRIV : 0) |
                                                (i->outsider ? PROTO_COMMIT_OUTSIDER : 0),
                                       .allocated = client_io_allocated(i)};
    if (i->in_line && i->dirty) {
        m->flags |= i->mode == PROTO_OPEN_W ? PROTO_COMMIT_HAS_DATA : 0;
        m->data = proto_bytes_of(io->sent, i->small_len);
    }
    if (i->torn < 0) {
        m->size = i->attr.size;
        m->allocated = 0;
        m->flags |= PROTO_COMMIT_TORN;
        io->rc = io->rc == 0 ? i->torn : io->rc;
    }
    if (last && io->parks) {
        m->flags |= PROTO_COMMIT_OPEN;
        i->granted = true;
    }
    i->dirty = i->mode == PROTO_OPEN_W && i->torn == 0 && m->size < i->size;
    i->chunked = false;
    io->sent_end = i->shared_end;
    io->sent_taken = m->allocated > 0 ? i->taken : 0;
    i->shared_end = 0;
    i->releasing = last;
    i->committing = true;
    i->kill_priv = i->outsider = false;
    client_io_mutate(io, PROTO_OP_commit, after, commit_done);
    return false;
}

/* --- giving back --------------------------------------------------------------------------------
 */

static void returned(struct client_call *c, const struct peer_reply *r)
{
    struct client_io *io = container_of(c, struct client_io, call);
    struct client_inode *i = io->inode;
    i->recalled = i->committing = false;
    if (r->rc == 0) {
        i->mode = i->writers > 0 ? PROTO_OPEN_S : PROTO_OPEN_NONE;
        i->dirty = false;
        client_share_returned(i);
    } else if (r->rc == -ERR_session_expired || r->rc == -ESTALE) {
        i->dead = -ERR_session_expired;
    } else {
        client_inode_owe(i);
    }
    client_io_called(io, r);
}

static bool return_step(struct client_io *io)
{
    struct client_inode *i = io->inode;
    if (i->mode == PROTO_OPEN_NONE || i->dead < 0) {
        i->recalled = false;
        io->phase = PHASE_END;
        return true;
    }
    if (i->dirty && (i->in_line || i->chunked)) { /* its commit has failed: not yet */
        i->recalled = false;
        client_inode_owe(i);
        io->phase = PHASE_END;
        return true;
    }
    if (i->setting > 0 || client_io_call_busy(io)) {
        return false;
    }
    io->keep = i->ino;
    i->committing = true;
    io->request.lease_return = (struct proto_lease_return_request){
        .keep = {.at = &io->keep, .count = i->writers > 0 ? 1 : 0},
        .has_final = true,
        .ino = i->ino,
        .cap_epoch = i->cap_epoch,
        .size = i->torn < 0 ? i->attr.size : i->size,
        .mtime_ns = i->mtime_ns,
        .ctime_ns = i->mtime_ns,
        .atime_ns = i->attr.atime_ns,
        .torn = i->torn < 0,
        .told = i->told};
    client_io_mutate(io, PROTO_OP_lease_return, PHASE_END, returned);
    return false;
}

/* --- attributes ---------------------------------------------------------------------------------
 */

static void attr_done(struct client_call *c, const struct peer_reply *r)
{
    struct client_io *io = container_of(c, struct client_io, call);
    struct client_inode *i = io->inode;
    if (r->rc == 0) {
        const struct proto_setattr_reply *m = r->body;
        attr_take(i, &m->attr);
        if (io->kind == IO_TRUNCATE) {
            i->size = io->offset;
            i->set_size = 0;
            i->writes++;
            io->tgen = m->attr.tgen;
        }
    }
    client_io_called(io, r);
}

static bool truncate_attr_step(struct client_io *io)
{
    struct client_inode *i = io->inode;
    if (client_io_writes_before(io)) {
        return false; /* it may have to be written once more: its end wakes us */
    }
    if (io->rc < 0) {
        io->phase = PHASE_END;
        return true;
    }
    if (client_io_call_busy(io)) {
        return false;
    }
    const struct opendfs_stat v = {.size_bytes = io->offset};
    io->size = base_max(i->size, i->stored_end);
    client_setattr_fill(&io->request.setattr, i->ino, &v, OPENDFS_SET_SIZE);
    io->request.setattr.cap_epoch = i->cap_epoch;
    io->request.setattr.mask |= io->file->unprivileged ? PROTO_SET_KILL_PRIV : 0;
    io->cut_index = io->offset / i->layout.chunk_size;
    client_io_mutate(io, PROTO_OP_setattr, PHASE_CUT, attr_done);
    return false;
}

static bool close_attr_step(struct client_io *io)
{
    struct client_inode *i = io->inode;
    if (io->mask == 0) {
        io->phase = PHASE_END;
        return true;
    }
    if (client_io_call_busy(io)) {
        return false;
    }
    client_setattr_fill(&io->request.setattr, i->ino, io->values,
                        io->mask & ~(uint32_t)OPENDFS_SET_SIZE);
    client_io_mutate(io, PROTO_OP_setattr, PHASE_END, attr_done);
    return false;
}

/* --- phases -------------------------------------------------------------------------------------
 */

/* True: the commit of this sync tells times alone. All else must not be told before the bytes are
 * stable: a size, that there are chunks, or that contents are no longer in the metadata. */
static bool commit_tells_times(const struct client_io *io)
{
    const struct client_inode *i = io->inode;
    bool data = i->in_line || i->spilled || i->torn < 0 || i->size != i->attr.size ||
                client_io_allocated(i) > i->attr.allocated;
    return io->kind == IO_SYNC && i->mode == PROTO_OPEN_W && i->dirty && !data;
}

static bool flush_step(struct client_io *io)
{
    struct client_inode *i = io->inode;
    bool write = io->kind == IO_WRITE || io->kind == IO_WRITE_LENT;
    bool ranged = write || io->kind == IO_ALLOCATE;
    bool done = ranged ? client_update_range_done(i, io->barrier, io->offset, io->offset + io->len)
                       : client_update_all_done(i, io->barrier);
    if (!done && io->early && commit_tells_times(io) && !i->meta_busy) { /* both at once */
        io->early = false;
        return commit_step(io, PHASE_FLUSH);
    }
    if (!done) {
        return false;
    }
    bool good = write && io->pos > 0 && io->rc == 0 && io->file->sync_error == 0;
    if (good && io->turn == 0) { /* what others say may have been less meanwhile */
        uint64_t end = io->offset + io->len;
        i->shared_end = i->mode == PROTO_OPEN_S ? base_max(i->shared_end, end) : i->shared_end;
        i->size = base_max(i->size, end);
    }
    /* A commit takes the contents out of the metadata, where they were stable: first they must be
     * stable in chunks. A lent write alone commits nothing. */
    bool alone = io->kind == IO_WRITE_LENT || io->kind == IO_ALLOCATE;
    bool drops = i->spilled && !(alone && i->mode == PROTO_OPEN_W);
    bool unsynced = (io->stable || drops) && i->unsynced_count > 0;
    bool past = io->stable && (i->unknown_past || i->syncs > 0 || i->sync_unread);
    bool told = io->committed; /* what came since is not ours */
    io->phase = (unsynced || past) && i->dead == 0 ? PHASE_STABLE : told ? PHASE_END : PHASE_COMMIT;
    return true;
}

static bool stable_step(struct client_io *io)
{
    struct client_inode *i = io->inode;
    if (i->syncs > 0 || i->sync_unread) {
        return false; /* an older one, which may not cover ours */
    }
    client_sync_start(i);
    i->sync_unread = true;
    io->phase = PHASE_STABLE_WAIT;
    if (!io->committed && commit_tells_times(io) && !i->meta_busy) { /* both at once */
        return commit_step(io, PHASE_STABLE_WAIT);
    }
    return i->syncs == 0;
}

static bool stable_wait_step(struct client_io *io)
{
    if (io->inode->syncs > 0) {
        return false;
    }
    io->rc = io->rc == 0 ? io->inode->sync_rc : io->rc;
    io->inode->unknown_past = io->inode->unknown_past || io->inode->sync_rc < 0;
    io->inode->spilled = false; /* or it is told: the outcome of this operation is an error */
    io->inode->sync_unread = false;
    client_inode_wake(io->inode);                         /* for who waits to begin one */
    io->phase = io->committed ? PHASE_END : PHASE_COMMIT; /* what came since is not ours */
    return true;
}

/* Of an authority that is lost: the chains were not asked, or have failed before. */
static void unstable_told(struct client_io *io)
{
    const struct client_inode *i = io->inode;
    bool unstable = i->unsynced_count > 0 || i->unknown_past;
    io->rc = io->rc == 0 && io->stable && i->dead < 0 && unstable ? i->dead : io->rc;
}

static bool io_commit(struct client_io *io)
{
    struct client_inode *i = io->inode;
    unstable_told(io);
    if (io->turn != 0) {
        io->phase = PHASE_TURN_END;
        return true;
    }
    switch (io->kind) {
    case IO_CLOSE:
    case IO_TRUNCATE:
        return commit_step(io, PHASE_ATTR);
    case IO_RECALL:
        /* Contents travel by commit only, and that they are in chunks now. */
        if (i->dirty && (i->in_line || i->chunked)) {
            return commit_step(io, PHASE_RETURN);
        }
        io->phase = PHASE_RETURN;
        return true;
    case IO_ALLOCATE:
        if (i->mode == PROTO_OPEN_W) {
            io->phase = PHASE_END;
            return true;
        }
        return commit_step(io, PHASE_END);
    case IO_WRITE_LENT:
        if (i->mode == PROTO_OPEN_W && !io->stable) {
            io->phase = PHASE_END; /* sizes are published by sync and close */
            return true;
        }
        return commit_step(io, PHASE_END);
    case IO_FLUSH:
    case IO_LAST_FLUSH:
    case IO_WRITE:
    case IO_SYNC:
    case IO_READ:
    case IO_READ_LENT:
    case IO_STAT:
    case IO_SEEK:
        break;
    }
    return commit_step(io, PHASE_END);
}

/* Errors of delayed writes: once at fsync of each handle, also of those that only read, and once at
 * close of those that write. A write that was waited for tells its own. */
static int64_t io_outcome(struct client_io *io)
{
    struct opendfs_file *f = io->file;
    int rc = io->rc;
    if (f == NULL) {
        return io->rc;
    }
    if (io->kind == IO_CLOSE || io->kind == IO_FLUSH) {
        rc = f->close_error < 0 ? f->close_error : rc;
        f->close_error = 0;
    } else if (io->kind == IO_SYNC || io->kind == IO_WRITE || io->kind == IO_WRITE_LENT ||
               io->kind == IO_ALLOCATE) {
        rc = f->sync_error < 0 ? f->sync_error : rc;
        f->sync_error = io->kind == IO_SYNC ? 0 : f->sync_error;
    }
    bool write = io->kind == IO_WRITE || io->kind == IO_WRITE_LENT;
    return rc < 0 ? rc : write ? (int64_t)io->len : 0;
}

/* One phase. False: it has to wait. */
static bool phase_step(struct client_io *io)
{
    switch (io->phase) {
    case PHASE_FLUSH:
        return flush_step(io);
    case PHASE_STABLE:
        return stable_step(io);
    case PHASE_STABLE_WAIT:
        return stable_wait_step(io);
    case PHASE_COMMIT:
        return io_commit(io);
    case PHASE_TURN_END:
        return client_append_end_step(io);
    case PHASE_ATTR:
        return io->kind == IO_TRUNCATE ? truncate_attr_step(io) : close_attr_step(io);
    case PHASE_CUT:
        return client_io_cut_step(io);
    case PHASE_RETURN:
        return return_step(io);
    case PHASE_BEGIN:
    case PHASE_CALL:
    case PHASE_END:
        break;
    }
    return false;
}

bool client_io_finish_step(struct client_io *io)
{
    while (io->phase != PHASE_END && phase_step(io)) {
    }
    if (io->phase != PHASE_END || client_io_rewrites(io)) {
        return false;
    }
    client_io_end(io, io_outcome(io));
    return true;
}

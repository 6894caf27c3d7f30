#include "client/io_priv.h"
#include "client/share_priv.h"

/*
 * O_APPEND (coherence.md section 6.1). Who writes alone knows where the file ends. Who shares it
 * waits for a turn: then nobody else appends, the data goes through to the chains, and with the
 * end of the turn the size moves. A turn in which something failed moves nothing: what had been
 * written is behind the end, and the next one writes over it.
 */

static void turn_got(struct client_call *c, const struct peer_reply *r)
{
    struct client_io *io = container_of(c, struct client_io, call);
    struct client_inode *i = io->inode;
    if (r->rc == 0) {
        const struct proto_append_turn_reply *m = r->body;
        io->turn = m->turn;
        io->offset = m->end;
        client_inode_take(i, &m->attr, &m->layout);
        i->stored_end = base_max(i->stored_end, m->end);
    } else if (r->rc == -ERR_session_expired || r->rc == -ESTALE) {
        i->dead = -ERR_session_expired;
    }
    client_io_called(io, r);
}

bool client_append_place(struct client_io *io)
{
    struct client_inode *i = io->inode;
    bool append = io->file != NULL && (io->file->flags & OPENDFS_APPEND) != 0;
    bool fails = i->dead < 0 || (append && (io->file->flags & OPENDFS_WRITE) == 0);
    if (!append || io->placed || fails || io->len == 0) {
        return true; /* an error is told by whoever writes */
    }
    if (i->mode != PROTO_OPEN_S) {
        io->offset = i->size;
        io->placed = true;
        return true;
    }
    if (client_io_call_busy(io)) {
        return false;
    }
    io->placed = true;
    io->request.append_turn = (struct proto_append_turn_request){
        .ino = i->ino, .cap_epoch = i->cap_epoch, .wanted = io->len};
    client_io_mutate(io, PROTO_OP_append_turn, PHASE_BEGIN, turn_got);
    return false;
}

static void turn_ended(struct client_call *c, const struct peer_reply *r)
{
    struct client_io *io = container_of(c, struct client_io, call);
    struct client_inode *i = io->inode;
    if (r->rc == 0) {
        const struct proto_append_done_reply *m = r->body;
        i->attr = m->attr;
        i->layout = m->layout.data_id != 0 ? m->layout : i->layout;
        i->data_version = m->data_version;
        i->taken = io->request.append_done.allocated > 0 ? 0 : i->taken; /* it was told */
        client_inode_take_size(i, m->attr.size);
        i->mtime_ns = m->attr.mtime_ns;
        i->writes++;
    } else if (r->rc == -ERR_session_expired || r->rc == -ESTALE) {
        i->dead = -ERR_session_expired;
    }
    io->turn = 0;
    client_io_called(io, r);
}

bool client_append_end_step(struct client_io *io)
{
    struct client_inode *i = io->inode;
    bool good = io->rc == 0 && i->torn == 0 && io->file->sync_error == 0;
    if (i->dead < 0) {
        io->rc = i->dead;
        io->turn = 0;
        io->phase = PHASE_END;
        return true;
    }
    if (client_io_call_busy(io)) {
        return false;
    }
    io->request.append_done =
        (struct proto_append_done_request){.ino = i->ino,
                                           .cap_epoch = i->cap_epoch,
                                           .turn = io->turn,
                                           .size = good ? io->offset + io->len : 0,
                                           .mtime_ns = (int64_t)loop_wall_ns(i->fs->loop),
                                           .allocated = good ? client_io_allocated(i) : 0};
    client_io_mutate(io, PROTO_OP_append_done, PHASE_END, turn_ended);
    return false;
}

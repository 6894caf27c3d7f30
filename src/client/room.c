#include "client/io_priv.h"
#include "client/share_priv.h"

/*
 * Quotas and writers: with the authority to write comes how large the file may become. Who wants to
 * go beyond asks first, with the size, because others may have made room meanwhile; what has been
 * written is never refused later.
 */

static void room_asked(struct client_call *c, const struct peer_reply *r)
{
    struct client_io *io = container_of(c, struct client_io, call);
    if (r->rc == 0) {
        client_inode_take_mode(io->inode, r->body);
    }
    client_io_called(io, r);
}

int client_io_room(struct client_io *io, uint64_t size)
{
    const struct client_inode *i = io->inode;
    bool grows = size > i->size && (io->len > 0 || io->kind == IO_TRUNCATE);
    bool may = (io->file->flags & OPENDFS_WRITE) != 0;
    if (!i->limited || !may || !grows || size <= i->size_limit || i->dead < 0 || io->turn != 0) {
        return 1; /* a turn to append was given with the question */
    }
    if (io->asked && io->phase == PHASE_BEGIN && io->after == PHASE_BEGIN) {
        return i->wait_shared ? 1 : -EDQUOT; /* it was smaller again before our turn */
    }
    if (client_io_call_busy(io)) {
        return 0; /* its end wakes us */
    }
    io->request.wopen = (struct proto_wopen_request){.ino = i->ino, .want_size = size};
    io->asked = true;
    client_io_mutate(io, PROTO_OP_wopen, PHASE_BEGIN, room_asked);
    return 0;
}

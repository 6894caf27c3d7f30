#include "client/io_priv.h"

/*
 * Writes to a file that another client truncates. What was stored with the generation of before a
 * truncation may be cut by it, while the commit comes after it: the file would have the size, and
 * zeros in place of the bytes. The answer of the commit says which truncations came before it, as a
 * commit beyond a cut that is pending waits for that. Then the bytes are written once more, with
 * the new generation; until the end of the operation they are the caller's. A truncation that is
 * logged after the commit comes after the write.
 */

static bool is_write(const struct client_io *io)
{
    return io->kind == IO_WRITE || io->kind == IO_WRITE_LENT;
}

static bool overlaps(const struct client_io *io, uint64_t from, uint64_t to)
{
    return io->offset < to && io->offset + io->len > from;
}

void client_io_stored(struct client_inode *i, uint64_t from, uint64_t to, uint32_t tgen)
{
    LIST_FOR_EACH(at, &i->waiting)
    {
        struct client_io *io = LIST_ENTRY(at, struct client_io, node);
        if (is_write(io) && io->pos > 0 && overlaps(io, from, to)) {
            io->stored_tgen = (uint32_t)base_min(io->stored_tgen, tgen);
        }
    }
}

bool client_io_writes_before(const struct client_io *io)
{
    LIST_FOR_EACH(at, &io->inode->waiting)
    {
        const struct client_io *before = LIST_ENTRY(at, struct client_io, node);
        if (before == io) {
            break;
        }
        if (is_write(before)) {
            return true;
        }
    }
    return false;
}

/* What began later stays later, where it touches the same bytes. */
static void rewrite_later(struct client_io *io)
{
    for (struct list *at = io->node.next; at != &io->inode->waiting; at = at->next) {
        struct client_io *later = LIST_ENTRY(at, struct client_io, node);
        bool same = is_write(later) && overlaps(later, io->offset, io->offset + io->len);
        later->stored_tgen = same && later->pos > 0 ? 0 : later->stored_tgen;
    }
}

bool client_io_rewrites(struct client_io *io)
{
    struct client_inode *i = io->inode;
    bool cut = is_write(io) && io->pos > 0 && io->stored_tgen < i->attr.tgen;
    if (!cut || io->rc < 0 || i->dead < 0 || i->mode == PROTO_OPEN_NONE || i->fs->freeing) {
        return false;
    }
    stats_count(&i->fs->counters.rewrites, 1);
    rewrite_later(io);
    io->pos = 0;
    io->committed = false;
    io->phase = PHASE_BEGIN;
    client_inode_wake(i);
    return true;
}

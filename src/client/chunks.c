#include "client/io_priv.h"

/*
 * Operations that go over the chunks of a file: pages of those that there are, never one after the
 * other of those that there could be.
 */

void client_io_chunks_over(struct client_io *io)
{
    io->scan = client_scan_free(io->scan);
}

int client_io_chunks(struct client_io *io, uint64_t first, uint64_t end)
{
    if (io->scan != NULL) {
        return client_scan_state(io->scan);
    }
    io->scan = mem_zalloc(sizeof *io->scan);
    if (io->scan == NULL) {
        return -ENOMEM;
    }
    io->scan_at = 0;
    io->scan->inode = io->inode;
    io->scan->first = first;
    io->scan->end = end;
    return client_scan_start(io->scan);
}

/* --- cutting ------------------------------------------------------------------------------------
 */

/* 1: those of the page are on their way; 0: some end first. */
static int cut_page(struct client_io *io)
{
    struct client_inode *i = io->inode;
    uint64_t chunk = i->layout.chunk_size;
    for (; io->scan_at < io->scan->count; io->scan_at++) {
        const struct client_scan_chunk *c = &io->scan->chunk[io->scan_at];
        uint64_t first = c->index * chunk;
        uint32_t length = io->offset > first ? (uint32_t)base_min(io->offset - first, chunk) : 0;
        bool cuts = c->length > 0 && length < chunk;
        if (cuts && client_update_cut(i, c->index, length, io->tgen) <= 0) {
            return 0;
        }
    }
    return 1;
}

static int cut_all(struct client_io *io)
{
    const struct client_inode *i = io->inode;
    uint64_t end = (io->size + i->layout.chunk_size - 1) / i->layout.chunk_size;
    while (io->cut_index < end) {
        int rc = client_io_chunks(io, io->cut_index, end);
        rc = rc == 1 ? cut_page(io) : rc;
        if (rc <= 0) {
            return rc;
        }
        io->cut_index = io->scan->upto;
        client_io_chunks_over(io);
    }
    return 1;
}

/* The boundary chunk loses its end, later ones everything, before anything is written behind it:
 * old bytes must not show there again. The metadata server does the same; twice does no harm. */
bool client_io_cut_step(struct client_io *io)
{
    struct client_inode *i = io->inode;
    bool in_line = (i->attr.flags & PROTO_INODE_INLINE) != 0;
    bool none = in_line && !i->chunked && i->stored_end == 0;
    bool longer = io->size <= io->offset; /* than it was, and than what may be stored */
    if (io->rc < 0 || none) {
        io->phase = PHASE_END;
        return true;
    }
    int rc = longer ? 1 : cut_all(io);
    if (rc == 0) {
        return false; /* some end first */
    }
    if (rc < 0) { /* what is written behind it says so (`uncut`), and waits for the server */
        i->uncut_tgen = io->tgen;
        client_inode_fail(i, rc);
    }
    i->stored_end = base_min(i->stored_end, io->offset);
    if (!client_update_all_done(i, i->next_number)) {
        return false;
    }
    if (io->tgen == i->cut_tgen + 1 && io->tgen != i->uncut_tgen) {
        i->cut_tgen = io->tgen;
    }
    io->phase = PHASE_END;
    return true;
}

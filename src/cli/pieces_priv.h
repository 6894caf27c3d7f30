/*
 * cli/pieces_priv.h -- what put, get and cp share: the contents of a file, in pieces of whole
 * chunks.
 *
 * Up to COPY_PIECES_PER_FILE of a file are under way, and COPY_BUFFERED_BYTES of all together; a
 * file that gets no room for its first one waits in line. i->size_bytes is where the pieces end,
 * which may turn out on the way.
 */
#pragma once

#include "cli/tree_priv.h"

/* Begins as many pieces as there is room for; the end of all is ops->all_pieces(). */
void cli_pieces_fill(struct tree_item *i);
/* Room for a piece: false: not now. Give it back when the piece is done. */
NODISCARD bool cli_pieces_take(struct tree *t, size_t len);
void cli_pieces_give(struct tree *t, size_t len);
/* A piece of the item is done, its room given back. */
void cli_pieces_done(struct tree_item *i);

/* A piece that is read from i->in: the library lends it. */
struct tree_piece {
    struct tree_item *item;
    struct cli_job read, write; /* the bytes belong to `read` until cli_piece_stored() */
    uint64_t offset;
    size_t len;
};
/* tree_ops.begin_piece: what comes goes to ops->store(). */
bool cli_pieces_read(struct tree_item *i);
/* What has come of it was stored, unless the item has failed: goes on with the rest. */
void cli_piece_stored(struct tree_piece *x);

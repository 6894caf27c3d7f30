/* cli/pieces.c -- see pieces_priv.h. */
#include "cli/pieces_priv.h"

#include "base/mem.h"

#include <string.h>

/* ---- Room ---- */

bool cli_pieces_take(struct tree *t, size_t len)
{
    if (t->piece_bytes > 0 && t->piece_bytes + len > COPY_BUFFERED_BYTES) {
        return false;
    }
    t->piece_bytes += len;
    return true;
}

void cli_pieces_give(struct tree *t, size_t len)
{
    CHECK(len <= t->piece_bytes);
    t->piece_bytes -= len;
}

void cli_pieces_fill(struct tree_item *i)
{
    const struct tree_ops *ops = i->tree->ops;
    while (!i->failed && i->offset < i->size_bytes && i->pieces < COPY_PIECES_PER_FILE) {
        if (!ops->begin_piece(i)) {
            if (i->pieces == 0) {
                list_push_back(&i->tree->waiting, &i->node);
                return;
            }
            break;
        }
    }
    if (i->pieces == 0 && (i->failed || i->offset >= i->size_bytes)) {
        ops->all_pieces(i);
    }
}

void cli_pieces_done(struct tree_item *i)
{
    struct tree *t = i->tree;
    struct list line; /* who gets no room again comes to the end of the line, once */
    list_init(&line);
    i->pieces--;
    cli_pieces_fill(i);
    list_splice_back(&line, &t->waiting);
    for (struct list *n; (n = list_pop_front(&line)) != NULL;) {
        cli_pieces_fill(container_of(n, struct tree_item, node));
    }
}

/* ---- Pieces that the library lends ---- */

static void piece_read(struct cli_job *j);

static void ask(struct tree_piece *x)
{
    struct tree_item *i = x->item;
    cli_job_prepare(i->tree->c, &x->read, piece_read);
    opendfs_async_pread_lent(i->tree->c->fs, &x->read.op, i->in, x->len, x->offset);
}

bool cli_pieces_read(struct tree_item *i)
{
    size_t len = (size_t)base_min(i->size_bytes - i->offset, COPY_PIECE_BYTES);
    if (!cli_pieces_take(i->tree, len)) {
        return false;
    }
    struct tree_piece *x = mem_zalloc(sizeof *x);
    if (x == NULL) {
        cli_pieces_give(i->tree, len);
        cli_tree_item_fail(i, i->local, -ENOMEM);
        return true;
    }
    x->item = i;
    x->offset = i->offset;
    x->len = len;
    i->offset += len;
    i->pieces++;
    ask(x);
    return true;
}

static void piece_end(struct tree_piece *x)
{
    struct tree_item *i = x->item;
    cli_pieces_give(i->tree, x->len);
    mem_free(x);
    cli_pieces_done(i);
}

void cli_piece_stored(struct tree_piece *x)
{
    struct tree *t = x->item->tree;
    size_t len = x->read.op.data_len;
    opendfs_async_release(t->c->fs, &x->read.op);
    t->copy.bytes += x->item->failed ? 0 : len;
    if (x->item->failed || len == x->len) {
        piece_end(x);
        return;
    }
    cli_pieces_give(t, len);
    x->offset += len;
    x->len -= len;
    ask(x);
}

static bool only_zeros(const uint8_t *bytes, size_t len)
{
    return len > 0 && bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

static void piece_read(struct cli_job *j)
{
    struct tree_piece *x = container_of(j, struct tree_piece, read);
    struct tree_item *i = x->item;
    size_t len = j->op.result < 0 ? 0 : j->op.data_len;
    if (j->op.result < 0) {
        cli_tree_item_fail_source(i, &j->op);
    } else if (len == 0) { /* the file has become shorter meanwhile */
        i->size_bytes = base_min(i->size_bytes, x->offset);
    }
    if (i->failed || len == 0) {
        opendfs_async_release(i->tree->c->fs, &j->op);
        piece_end(x);
    } else if (only_zeros(j->op.data, len)) { /* holes stay holes */
        cli_piece_stored(x);
    } else {
        i->tree->ops->store(x, j->op.data, len);
    }
}

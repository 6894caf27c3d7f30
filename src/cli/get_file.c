/*
 * cli/get_file.c -- the data of files: pieces of whole chunks, several under way, written where
 * they belong as they come; to standard output in order.
 */
#include "cli/get_priv.h"

#include "base/mem.h"

/* ---- To a file ---- */

static void closed(struct cli_job *j)
{
    struct tree_item *base = container_of(j, struct tree_item, job);
    struct get_item *i = container_of(base, struct get_item, base);
    base->in = NULL;
    if (j->op.result < 0) {
        cli_tree_item_fail_op(base, &j->op);
    }
    int rc = disk_local_close(i->file);
    i->file = NULL;
    if (rc < 0) {
        cli_tree_item_fail(base, base->local, rc);
    }
    if (base->failed) {
        cli_tree_item_end(base);
    } else {
        cli_get_item_finish(i);
    }
}

void cli_get_file_all_pieces(struct tree_item *base)
{
    struct get_item *i = container_of(base, struct get_item, base);
    struct cli *c = base->tree->c;
    int rc = base->failed ? 0 : disk_local_set_size(i->file, base->size_bytes); /* ends in a hole */
    if (rc < 0) {
        cli_tree_item_fail(base, base->local, rc);
    }
    cli_job_prepare(c, &base->job, closed);
    opendfs_async_close(c->fs, &base->job.op, base->in, NULL, 0);
}

void cli_get_file_store(struct tree_piece *x, const void *bytes, size_t len)
{
    struct tree_item *base = x->item;
    struct get_item *i = container_of(base, struct get_item, base);
    int rc = disk_local_write(i->file, bytes, len, x->offset);
    if (rc < 0) {
        cli_tree_item_fail(base, base->local, rc);
    }
    cli_piece_stored(x);
}

static void opened(struct cli_job *j)
{
    struct tree_item *base = container_of(j, struct tree_item, job);
    struct get_item *i = container_of(base, struct get_item, base);
    if (j->op.result < 0) {
        cli_tree_item_fail_op(base, &j->op);
        cli_tree_item_end(base);
        return;
    }
    base->in = j->op.file;
    i->stat = j->op.stat; /* newer than that of the listing */
    base->size_bytes = i->stat.size_bytes;
    int rc = disk_local_create(i->temporary, &i->file);
    if (rc < 0) {
        cli_tree_item_fail(base, base->local, rc);
    }
    cli_pieces_fill(base);
}

void cli_get_file_start(struct get_item *i)
{
    struct cli *c = i->base.tree->c;
    cli_job_prepare(c, &i->base.job, opened);
    opendfs_async_open(c->fs, &i->base.job.op, i->base.path, OPENDFS_READ | OPENDFS_NOFOLLOW, 0);
}

/* ---- To standard output ---- */

struct stream_piece {
    struct cli_job job;
    struct stream_out *out;
    bool asked, came;
    uint64_t offset;
    size_t len;
};
/* A ring of pieces, written in order. */
struct stream_out {
    struct cli *c;
    struct opendfs_file *file;
    struct disk_local_file *to;
    const char *path;
    uint64_t size_bytes, asked, written;
    struct stream_piece ring[COPY_PIECES_PER_FILE];
    size_t head; /* the next to be written */
    int status;
};

static void stream_came(struct cli_job *j)
{
    struct stream_piece *x = container_of(j, struct stream_piece, job);
    x->came = true;
    loop_stop(x->out->c->loop, 0);
}

static void stream_ask(struct stream_out *s, struct stream_piece *x)
{
    x->out = s;
    x->asked = true;
    x->came = false;
    cli_job_prepare(s->c, &x->job, stream_came);
    opendfs_async_pread_lent(s->c->fs, &x->job.op, s->file, x->len, x->offset);
}

static void stream_fill(struct stream_out *s)
{
    for (size_t k = 0; k < COPY_PIECES_PER_FILE; k++) {
        struct stream_piece *x = &s->ring[(s->head + k) % COPY_PIECES_PER_FILE];
        if (!x->asked && s->asked < s->size_bytes && s->status == 0) {
            x->offset = s->asked;
            x->len = (size_t)base_min(s->size_bytes - s->asked, COPY_PIECE_BYTES);
            s->asked += x->len;
            stream_ask(s, x);
        }
    }
}

/* The piece at the head has come: writes it, asks for its rest, or steps on. */
static void stream_write(struct stream_out *s, struct stream_piece *x)
{
    const struct opendfs_op *op = &x->job.op;
    size_t got = op->result < 0 ? 0 : op->data_len;
    int rc = 0;
    if (op->result < 0) {
        s->status = cli_fail_op(s->c, op);
    } else if (got > 0) {
        rc = disk_local_write(s->to, op->data, got, 0);
        s->written += got;
    } else {
        s->asked = s->size_bytes = x->offset; /* shorter meanwhile */
    }
    opendfs_async_release(s->c->fs, &x->job.op);
    if (rc < 0) {
        s->status = cli_fail_path(s->c, "standard output", rc);
    }
    if (s->status == 0 && got > 0 && got < x->len) {
        x->offset += got;
        x->len -= got;
        stream_ask(s, x);
        return;
    }
    x->asked = false;
    s->head = (s->head + 1) % COPY_PIECES_PER_FILE;
}

static void stream_file(struct stream_out *s)
{
    for (;;) {
        stream_fill(s);
        struct stream_piece *x = &s->ring[s->head];
        if (!x->asked) {
            return;
        }
        while (!x->came) {
            loop_run(s->c->loop);
        }
        if (s->status == 0) {
            stream_write(s, x);
            continue;
        }
        opendfs_async_release(s->c->fs, &x->job.op);
        x->asked = false;
        s->head = (s->head + 1) % COPY_PIECES_PER_FILE;
    }
}

static int stream_path(struct cli *c, struct disk_local_file *to, const char *path)
{
    struct stream_out s = {.c = c, .to = to, .path = path};
    struct opendfs_stat st;
    if (opendfs_open(c->fs, path, OPENDFS_READ, 0, &s.file) < 0) {
        return cli_fail_op(c, NULL);
    }
    if (opendfs_fstat(s.file, &st) < 0) {
        s.status = cli_fail_op(c, NULL);
    } else {
        s.size_bytes = st.size_bytes;
        stream_file(&s);
    }
    (void)opendfs_close(s.file); /* read only: nothing can be lost */
    return s.status;
}

int cli_get_to_standard_output(struct cli *c, size_t count)
{
    struct disk_local_file *to = NULL;
    int rc = disk_local_standard(1, &to);
    if (rc < 0) {
        return cli_fail_path(c, "standard output", rc);
    }
    int status = 0;
    for (size_t i = 0; i < count; i++) {
        CLEANUP(mem_freep) char *path = cli_path(c, c->argument[i]);
        int one = path == NULL ? CLI_EXIT_USAGE : stream_path(c, to, path);
        status = one != 0 ? one : status;
    }
    rc = disk_local_close(to);
    return rc < 0 ? cli_fail_path(c, "standard output", rc) : status;
}

/*
 * cli/get_file.c -- the data of files: pieces of whole chunks, several under way, written where
 * they belong as they come; to standard output in order.
 */
#include "cli/get_priv.h"

#include "base/mem.h"

#include <string.h>

struct get_piece {
    struct cli_job job;
    struct get_item *item;
    uint64_t offset;
    size_t len;
};

/* ---- To a file ---- */

static void closed(struct cli_job *j)
{
    struct get_item *i = container_of(j, struct get_item, job);
    i->file = NULL;
    if (j->op.result < 0 && !i->failed) {
        i->failed = true;
        cli_tree_item_fail(&i->base, &j->op, 0);
    }
    int rc = disk_local_close(i->out);
    i->out = NULL;
    if (rc < 0 && !i->failed) {
        i->failed = true;
        cli_tree_item_fail(&i->base, NULL, rc);
    }
    if (i->failed) {
        cli_tree_item_end(&i->base, false);
    } else {
        cli_get_item_finish(i);
    }
}

static void all_here(struct get_item *i)
{
    int rc = i->failed ? 0 : disk_local_set_size(i->out, i->size_bytes); /* holes at the end */
    if (rc < 0) {
        i->failed = true;
        cli_tree_item_fail(&i->base, NULL, rc);
    }
    cli_job_prepare(i->g->tree.c, &i->job, closed);
    opendfs_async_close(i->g->tree.c->fs, &i->job.op, i->file, NULL, 0);
}

static void fill_waiting(struct get *g)
{
    struct list line;
    list_init(&line);
    list_splice_back(&line, &g->waiting);
    for (struct list *n; (n = list_pop_front(&line)) != NULL;) {
        cli_get_file_fill(container_of(n, struct get_item, base.node));
    }
}

static void ask(struct get_piece *x);

static bool only_zeros(const uint8_t *bytes, size_t len)
{
    return len > 0 && bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

/* Writes what came. Rest of the piece that is still to be asked for. */
static size_t store(struct get_item *i, struct get_piece *x)
{
    const struct opendfs_op *op = &x->job.op;
    if (op->result < 0) {
        i->failed = true;
        cli_tree_item_fail(&i->base, op, 0);
        return 0;
    }
    if (op->data_len == 0) { /* the file has become shorter meanwhile */
        i->size_bytes = base_min(i->size_bytes, x->offset);
        return 0;
    }
    bool hole = only_zeros(op->data, op->data_len);
    int rc = hole ? 0 : disk_local_write(i->out, op->data, op->data_len, x->offset);
    if (rc < 0) {
        i->failed = true;
        cli_tree_item_fail(&i->base, NULL, rc);
        return 0;
    }
    i->g->tree.copy.bytes += op->data_len;
    return x->len - op->data_len;
}

static void piece_came(struct cli_job *j)
{
    struct get_piece *x = container_of(j, struct get_piece, job);
    struct get_item *i = x->item;
    struct get *g = i->g;
    size_t rest = i->failed ? 0 : store(i, x);
    size_t got = x->len - rest;
    opendfs_async_release(g->tree.c->fs, &j->op);
    if (rest > 0 && !i->failed) {
        g->asked_bytes -= got;
        x->offset += got;
        x->len = rest;
        ask(x);
        return;
    }
    g->asked_bytes -= x->len;
    mem_free(x);
    i->pieces--;
    cli_get_file_fill(i);
    fill_waiting(g);
}

static void ask(struct get_piece *x)
{
    struct get_item *i = x->item;
    cli_job_prepare(i->g->tree.c, &x->job, piece_came);
    opendfs_async_pread_lent(i->g->tree.c->fs, &x->job.op, i->file, x->len, x->offset);
}

/* False: no room for another piece now. */
static bool ask_next(struct get_item *i)
{
    struct get *g = i->g;
    size_t len = (size_t)base_min(i->size_bytes - i->offset, COPY_PIECE_BYTES);
    if (g->asked_bytes > 0 && g->asked_bytes + len > COPY_BUFFERED_BYTES) {
        return false;
    }
    struct get_piece *x = mem_zalloc(sizeof *x);
    if (x == NULL) {
        i->failed = true;
        cli_tree_item_fail(&i->base, NULL, -ENOMEM);
        return true;
    }
    x->item = i;
    x->offset = i->offset;
    x->len = len;
    i->offset += len;
    i->pieces++;
    g->asked_bytes += len;
    ask(x);
    return true;
}

void cli_get_file_fill(struct get_item *i)
{
    while (!i->failed && i->offset < i->size_bytes && i->pieces < COPY_PIECES_PER_FILE) {
        if (!ask_next(i)) {
            if (i->pieces == 0) {
                list_push_back(&i->g->waiting, &i->base.node);
                return;
            }
            break;
        }
    }
    if (i->pieces == 0 && (i->failed || i->offset >= i->size_bytes)) {
        all_here(i);
    }
}

static void opened(struct cli_job *j)
{
    struct get_item *i = container_of(j, struct get_item, job);
    if (j->op.result < 0) {
        cli_tree_item_fail(&i->base, &j->op, 0);
        cli_tree_item_end(&i->base, false);
        return;
    }
    i->file = j->op.file;
    i->stat = j->op.stat; /* newer than that of the listing */
    i->size_bytes = i->stat.size_bytes;
    int rc = disk_local_create(i->temporary, &i->out);
    if (rc < 0) {
        i->failed = true;
        cli_tree_item_fail(&i->base, NULL, rc);
    }
    cli_get_file_fill(i);
}

void cli_get_file_start(struct get_item *i)
{
    cli_job_prepare(i->g->tree.c, &i->job, opened);
    opendfs_async_open(i->g->tree.c->fs, &i->job.op, i->base.path, OPENDFS_READ | OPENDFS_NOFOLLOW,
                       0);
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

/*
 * chunk/extent_gather.c -- the `extent` engine: small writes of one round of the loop that lie side
 * by side go to the disk as one. Chunks that are stored at the same time get neighbouring units, so
 * that of many small ones few writes are left. Each work has its own request under way all the
 * time; only who carries it differs.
 */
#include "chunk/extent_priv.h"

#include <string.h>

#define GATHER_WORKS 32u
#define GATHER_PIECES 64u
#define GATHER_BYTES ((uint64_t)128 << 10) /* what io_uring still takes */
#define GATHER_OWN_PIECES 16u              /* with more, or half of the bytes, it goes by itself */

struct chunk_gather {
    struct disk_req req;
    unsigned count, pieces;
    uint64_t bytes;
    struct chunk_work *work[GATHER_WORKS];
    struct iovec iov[GATHER_PIECES];
};

static uint64_t gather_bytes(const struct disk_req *req)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < req->iov_count; i++) {
        bytes += req->iov[i].iov_len;
    }
    return bytes;
}

/* What is behind the last bytes in their unit is nobody's. */
static uint64_t gather_gap(const struct chunk_gather *g)
{
    return base_align_up(g->bytes, CHUNK_UNIT) - g->bytes;
}

static bool gather_fits(const struct chunk_gather *g, const struct disk_req *req)
{
    return g->count == 0 ||
           (g->count < GATHER_WORKS && g->pieces + 1 + req->iov_count <= GATHER_PIECES &&
            g->bytes + CHUNK_UNIT + gather_bytes(req) <= GATHER_BYTES && g->req.file == req->file &&
            g->req.lane == req->lane && g->req.offset + g->bytes + gather_gap(g) == req->offset);
}

static void gather_add(struct chunk_gather *g, struct chunk_work *w)
{
    static const uint8_t zeros[CHUNK_UNIT];
    uint64_t gap = gather_gap(g);
    if (gap > 0) {
        g->iov[g->pieces++] = (struct iovec){.iov_base = (void *)zeros, .iov_len = gap};
        g->bytes += gap;
    }
    if (g->count == 0) {
        g->req = (struct disk_req){
            .op = DISK_WRITE, .file = w->io.file, .offset = w->io.offset, .lane = w->io.lane};
    }
    memcpy(g->iov + g->pieces, w->io.iov, w->io.iov_count * sizeof *g->iov);
    g->pieces += w->io.iov_count;
    g->bytes += gather_bytes(&w->io);
    g->work[g->count++] = w;
}

/* The store may go with the last one. */
static void gather_done(struct disk_req *req, int64_t rc)
{
    struct chunk_gather *g = container_of(req, struct chunk_gather, req);
    struct chunk_work *work[GATHER_WORKS];
    unsigned count = g->count;
    memcpy(work, g->work, count * sizeof(struct chunk_work *));
    mem_free(g);
    for (unsigned i = 0; i < count; i++) {
        work[i]->io.done(&work[i]->io, rc < 0 ? rc : (int64_t)gather_bytes(&work[i]->io));
    }
}

static struct chunk_work *gather_next(struct chunk_extent *x)
{
    return list_empty(&x->gather) ? NULL : LIST_ENTRY(x->gather.next, struct chunk_work, ready);
}

/* In the order in which they came, which is that of their units, nearly always. */
static void gather_run(struct loop_task *t)
{
    struct chunk_extent *x = container_of(t, struct chunk_extent, gather_task);
    struct disk *disk = x->s->disk;
    struct chunk_gather found = {0};
    for (struct chunk_work *w = gather_next(x); w != NULL; w = gather_next(x)) {
        found = (struct chunk_gather){0};
        for (; w != NULL && gather_fits(&found, &w->io); w = gather_next(x)) {
            list_remove(&w->ready);
            gather_add(&found, w);
        }
        struct chunk_gather *g = found.count > 1 ? mem_dup(&found, sizeof found) : NULL;
        for (unsigned i = 0; g == NULL && i < found.count; i++) {
            disk_submit(disk, &found.work[i]->io);
        }
        if (g != NULL) {
            g->req.iov = g->iov;
            g->req.iov_count = g->pieces;
            g->req.done = gather_done;
            disk_submit(disk, &g->req);
        }
    }
}

void chunk_gather_init(struct chunk_extent *x)
{
    list_init(&x->gather);
    x->gather_task.run = gather_run;
}

void chunk_gather_write(struct chunk_work *w, void (*step)(struct chunk_work *w, int64_t rc))
{
    struct chunk_extent *x = w->s->extent;
    if (w->io.iov_count > GATHER_OWN_PIECES || gather_bytes(&w->io) > GATHER_BYTES / 2) {
        chunk_work_io(w, &w->io, step);
        return;
    }
    chunk_work_prepare(w, &w->io, step);
    list_remove(&w->ready);
    list_push_back(&x->gather, &w->ready);
    loop_defer(w->s->loop, &x->gather_task);
}

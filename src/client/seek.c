#include "client/io_priv.h"

/*
 * SEEK_DATA and SEEK_HOLE. What was written here goes out first; then the chains say which chunks
 * there are, a few at first and more with each answer, and members where those have bytes that do
 * not have them everywhere. What nobody can tell counts as bytes.
 */

#define SPAN_FIRST 32u
#define SPAN_GROWTH 32u

struct client_seek {
    struct client_look look;
    bool asking, known, small; /* known: `run` is that of the chunk which is looked at */
    int rc;
    uint64_t size; /* of the file, when it began */
    uint64_t at;   /* all before it was looked at */
    uint64_t span; /* chunks to ask for */
    uint32_t run[PROTO_CELLS_MAX];
    size_t run_count;
};

void client_seek_free(struct client_io *io)
{
    CHECK(io->seek == NULL || !io->seek->asking);
    mem_free(io->seek);
    io->seek = NULL;
}

static void seek_all(struct client_seek *k, uint32_t length)
{
    k->run[0] = 0;
    k->run[1] = length;
    k->run_count = length == 0 ? 0 : 2;
}

static bool seek_good(const struct proto_extents_reply *m)
{
    uint32_t before = 0;
    for (size_t i = 0; i < m->runs.count; i++) {
        if (m->runs.at[i] < before || m->runs.at[i] > m->length) {
            return false;
        }
        before = m->runs.at[i];
    }
    return m->runs.count % 2 == 0;
}

static void seek_told(struct client_look *l, const struct peer_reply *r)
{
    struct client_seek *k = container_of(l, struct client_seek, look);
    const struct proto_extents_reply *m = r->body;
    bool lost = r->rc == -ERR_cancelled || err_is(r->rc, ERR_gone);
    k->asking = false;
    k->known = true;
    k->rc = r->rc == -ERR_cancelled ? -ECANCELED : lost ? r->rc : 0;
    if (r->rc == 0 && seek_good(m)) {
        k->run_count = base_min(m->runs.count, ARRAY_COUNT(k->run));
        for (size_t i = 0; i < k->run_count; i++) {
            k->run[i] = m->runs.at[i];
        }
    } /* else it is damaged, or of a version that does not say: bytes all over, as it was set */
}

/* Where the chunk has bytes. 1: known; 0: wait; or an error. */
static int seek_extents(struct client_io *io, const struct client_scan_chunk *c)
{
    struct client_seek *k = io->seek;
    if (k->known || k->asking) {
        return k->asking ? 0 : k->rc < 0 ? k->rc : 1;
    }
    seek_all(k, c->length);
    if (c->dense || c->length == 0) {
        k->known = true;
        return 1;
    }
    k->asking = true;
    k->look.inode = io->inode;
    k->look.done = seek_told;
    k->look.request.extents = (struct proto_extents_request){
        .chunk = {.data_id = io->inode->layout.data_id, .index = c->index}};
    client_look_extents(&k->look);
    return 0;
}

/* Whole cells: holes begin where blocks do. */
static uint64_t seek_run_end(const struct client_seek *k, size_t i)
{
    return base_align_up(k->run[i + 1], PROTO_CELL_BYTES);
}

/* In one chunk, from k->at on, which it moves. True: found, at k->at. */
static bool seek_in_chunk(struct client_seek *k, uint64_t first, uint64_t chunk, bool data)
{
    for (size_t i = 0; i < k->run_count; i += 2) {
        uint64_t from = first + k->run[i], to = first + seek_run_end(k, i);
        if (to <= k->at) {
            continue;
        }
        if (data) {
            k->at = base_max(k->at, from);
            return true;
        }
        if (k->at < from) {
            return true;
        }
        k->at = to;
    }
    bool hole = !data && k->at < first + chunk;
    k->at = data ? base_max(k->at, first + chunk) : k->at;
    return hole;
}

/* 2: found, at k->at; 1: not in this page; 0: wait; or an error. */
static int seek_in_page(struct client_io *io, bool data)
{
    struct client_seek *k = io->seek;
    uint64_t chunk = io->inode->layout.chunk_size;
    for (; io->scan_at < io->scan->count; io->scan_at++, k->known = false) {
        const struct client_scan_chunk *c = &io->scan->chunk[io->scan_at];
        uint64_t first = c->index * chunk;
        if (!data && k->at < first) {
            return 2; /* chunks before it are not there */
        }
        int rc = seek_extents(io, c);
        if (rc <= 0) {
            return rc;
        }
        if (seek_in_chunk(k, first, chunk, data)) {
            return 2;
        }
    }
    uint64_t end = io->scan->upto * chunk;
    bool hole = !data && k->at < end;
    k->at = data ? base_max(k->at, end) : k->at;
    return hole ? 2 : 1;
}

static int seek_look(struct client_io *io, bool data)
{
    struct client_seek *k = io->seek;
    uint64_t chunk = io->inode->layout.chunk_size, end = (k->size + chunk - 1) / chunk;
    while (k->at < k->size) {
        uint64_t first = k->at / chunk;
        int rc = client_io_chunks(io, first, base_min(end, first + k->span));
        rc = rc == 1 ? seek_in_page(io, data) : rc;
        if (rc != 1) {
            return rc;
        }
        k->span = base_min(k->span * SPAN_GROWTH, UINT32_MAX);
        client_io_chunks_over(io);
    }
    return 1;
}

static bool seek_end(struct client_io *io, int rc)
{
    uint64_t size = io->seek->size;
    bool data = io->mask == OPENDFS_SEEK_DATA, none = rc == 1 || io->seek->at >= size;
    client_io_end(io, rc < 0 ? rc : data && none ? -ENXIO : (int64_t)base_min(io->seek->at, size));
    return true;
}

static int seek_begin(struct client_io *io)
{
    struct client_inode *i = io->inode;
    if (io->mask != OPENDFS_SEEK_DATA && io->mask != OPENDFS_SEEK_HOLE) {
        return -EINVAL;
    }
    if (io->offset >= i->size) {
        return -ENXIO;
    }
    struct client_seek *k = mem_zalloc(sizeof *k);
    if (k == NULL) {
        return -ENOMEM;
    }
    k->at = io->offset;
    k->size = i->size;
    k->span = SPAN_FIRST;
    k->small = i->in_line || i->layout.data_id == 0 || i->layout.chunk_size == 0;
    io->seek = k;
    (void)client_update_flush(i, 0, UINT64_MAX);
    io->barrier = i->next_number;
    return 0;
}

bool client_seek_step(struct client_io *io)
{
    bool data = io->mask == OPENDFS_SEEK_DATA;
    int rc = io->seek == NULL ? seek_begin(io) : 0;
    if (rc < 0) {
        client_io_end(io, rc);
        return true;
    }
    if (io->seek->small) { /* bytes, as far as there are any */
        const struct client_inode *i = io->inode;
        seek_all(io->seek, i->in_line ? (uint32_t)i->small_len : 0);
        return seek_end(io, seek_in_chunk(io->seek, 0, io->seek->size, data) ? 2 : 1);
    }
    if (!client_update_all_done(io->inode, io->barrier)) {
        return false;
    }
    rc = seek_look(io, data);
    return rc != 0 && seek_end(io, rc);
}

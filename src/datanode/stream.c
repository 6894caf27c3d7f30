/*
 * datanode/stream.c -- see stream.h.
 *
 * A range is cut into parts from its start on. If it starts where a block does, parts are blocks:
 * each is found in the block cache, or read into a block of it, or, if the range has not all of
 * it or there is no room, into a buffer. A range that starts elsewhere is served by the cache if
 * that has all of it, else it is read as if there were none: more requests to the disk for the sake
 * of a part would cost more than that part.
 */
#include "datanode/stream.h"

#include "datanode/blocks.h"

#include <string.h>

struct stream_read {
    struct disk_req io;
    struct datanode_stream *stream;
    uint32_t wanted; /* the request is for whole units */
};

struct stream_part {
    struct slice slice;
    uint8_t *to;                 /* NULL: nothing is read */
    struct disk_cache_hold hold; /* at != NULL: of the block cache */
};

struct datanode_stream {
    struct datanode_stream_options opt; /* `piece` is gone */
    struct stream_part part[DATANODE_STREAM_PARTS];
    unsigned part_count, read_count, left;
    int rc; /* the first failure */
    struct stream_read read[DATANODE_STREAM_READS];
};

static uint32_t stream_block(const struct datanode_stream *s, unsigned part)
{
    return s->opt.pin->offset / DATANODE_STREAM_PART + part;
}

/* ---- Reads ---- */

static void stream_fill(struct datanode_stream *s)
{
    for (unsigned i = 0; i < s->part_count; i++) {
        struct stream_part *p = &s->part[i];
        if (p->hold.at != NULL && p->to != NULL) {
            datanode_blocks_fill(s->opt.blocks, s->opt.pin, stream_block(s, i), &p->hold);
        }
    }
}

static void stream_read_done(struct disk_req *req, int64_t rc)
{
    struct stream_read *r = container_of(req, struct stream_read, io);
    struct datanode_stream *s = r->stream;
    int failed = rc < 0 ? (int)rc : rc < (int64_t)r->wanted ? -ERR_short_msg : 0;
    if (failed == -EINVAL) {
        failed = -EOPNOTSUPP; /* opened, and refused then: some file systems do */
    }
    s->rc = s->rc == 0 ? failed : s->rc;
    CHECK(s->left > 0);
    if (--s->left == 0) {
        if (s->rc == 0) {
            stream_fill(s);
        }
        s->opt.done(s->opt.reader, s->rc);
    }
}

/* One piece, cut where parts meet. `at`: where it is in the range. */
static void stream_plan(struct datanode_stream *s, const struct chunk_piece *p, uint32_t at)
{
    for (uint32_t done = 0, len = 0; done < p->len; done += len) {
        uint32_t in = (at + done) % DATANODE_STREAM_PART;
        const struct stream_part *part = &s->part[(at + done) / DATANODE_STREAM_PART];
        len = (uint32_t)base_min(DATANODE_STREAM_PART - in, p->len - done);
        if (part->to == NULL) {
            continue;
        }
        if (p->file == NULL) {
            memset(part->to + in, 0, len);
            continue;
        }
        CHECK(s->read_count < DATANODE_STREAM_READS);
        s->read[s->read_count++] =
            (struct stream_read){.io = {.op = DISK_READ,
                                        .flags = DISK_PAST_CACHE,
                                        .file = p->file,
                                        .offset = p->offset + done,
                                        .buf = part->to + in,
                                        .len = base_align_up(len, CHUNK_CELL),
                                        .done = stream_read_done},
                                 .stream = s,
                                 .wanted = len};
    }
}

/* ---- Parts ---- */

static void stream_drop_parts(struct datanode_stream *s)
{
    for (unsigned i = 0; i < s->part_count; i++) {
        struct stream_part *p = &s->part[i];
        if (p->hold.at != NULL) {
            datanode_blocks_release(s->opt.blocks, &p->hold);
        }
        buf_slice_drop(&p->slice);
        *p = (struct stream_part){.to = NULL};
    }
    s->part_count = 0;
}

static bool stream_starts_block(const struct datanode_stream *s)
{
    return s->opt.pin->offset % DATANODE_STREAM_PART == 0;
}

/* What the cache has of the blocks that the range touches. True: all. */
static bool stream_find(struct datanode_stream *s)
{
    const struct chunk_pin *pin = s->opt.pin;
    uint64_t end = (uint64_t)pin->offset + pin->length;
    bool all = true;
    for (uint64_t from = pin->offset; from < end;) {
        struct stream_part *p = &s->part[s->part_count];
        uint64_t block = from / DATANODE_STREAM_PART;
        uint64_t to = base_min((block + 1) * DATANODE_STREAM_PART, end);
        bool found = datanode_blocks_get(s->opt.blocks, pin, (uint32_t)block, &p->hold);
        s->part_count++;
        p->slice.len = (size_t)(to - from);
        if (found) {
            p->slice.at = p->hold.at + from % DATANODE_STREAM_PART;
        }
        all = all && found;
        from = to;
    }
    return all;
}

/* All that the chunk has of its block is in the range. */
static bool stream_whole(const struct datanode_stream *s, unsigned part)
{
    uint64_t end = (uint64_t)s->opt.pin->offset + s->opt.pin->length;
    return stream_starts_block(s) &&
           (end == s->opt.pin->chunk_length || s->part[part].slice.len == DATANODE_STREAM_PART);
}

static int stream_take_memory(struct datanode_stream *s, unsigned part)
{
    struct stream_part *p = &s->part[part];
    if (s->opt.blocks != NULL && stream_whole(s, part) &&
        datanode_blocks_reserve(s->opt.blocks, s->opt.pin, stream_block(s, part), &p->hold) == 0) {
        p->to = p->hold.at;
        p->slice.at = p->to;
        return 0;
    }
    p->slice.buf = buf_get(s->opt.pool, base_align_up(p->slice.len, CHUNK_CELL));
    if (p->slice.buf == NULL) {
        return -ERR_busy;
    }
    p->to = p->slice.buf->at;
    p->slice.at = p->to;
    return 0;
}

static int stream_take_parts(struct datanode_stream *s)
{
    uint32_t length = s->opt.pin->length;
    if (s->opt.blocks != NULL && !stream_find(s) && !stream_starts_block(s)) {
        stream_drop_parts(s);
    }
    if (s->part_count == 0) {
        for (uint32_t at = 0; at < length; at += DATANODE_STREAM_PART) {
            s->part[s->part_count++].slice.len = base_min(DATANODE_STREAM_PART, length - at);
        }
    }
    for (unsigned i = 0; i < s->part_count; i++) {
        if (s->part[i].slice.at != NULL) {
            datanode_blocks_served(s->opt.blocks, s->part[i].slice.len);
            continue;
        }
        int rc = stream_take_memory(s, i);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

/* ---- Interface ---- */

int datanode_stream_start(const struct datanode_stream_options *opt, struct datanode_stream **ret)
{
    CHECK(opt->pin->length > 0 && opt->pin->length <= CHUNK_LENGTH_MAX &&
          datanode_way_reads(opt->piece, opt->count) > 0);
    struct datanode_stream *s = mem_zalloc(sizeof *s);
    if (s == NULL) {
        return -ERR_busy;
    }
    s->opt = *opt;
    int rc = stream_take_parts(s);
    if (rc < 0) {
        datanode_stream_free(s);
        return rc;
    }
    uint32_t at = 0;
    bool reads = false;
    for (unsigned i = 0; i < s->part_count; i++) {
        reads = reads || s->part[i].to != NULL;
    }
    for (unsigned i = 0; reads && i < opt->count; i++) {
        stream_plan(s, &opt->piece[i], at);
        at += opt->piece[i].len;
    }
    CHECK(!reads || at == opt->pin->length);
    s->opt.piece = NULL;
    s->left = s->read_count;
    *ret = s;
    if (s->left == 0) {
        stream_fill(s); /* holes */
        return 1;
    }
    for (unsigned i = 0; i < s->read_count; i++) {
        disk_submit(opt->disk, &s->read[i].io);
    }
    return 0;
}

unsigned datanode_stream_parts(const struct datanode_stream *s, struct slice *ret)
{
    for (unsigned i = 0; i < s->part_count; i++) {
        ret[i] = s->part[i].slice;
    }
    return s->part_count;
}

struct datanode_stream *datanode_stream_free(struct datanode_stream *s)
{
    if (s != NULL) {
        CHECK(s->left == 0);
        stream_drop_parts(s);
        mem_free(s);
    }
    return NULL;
}

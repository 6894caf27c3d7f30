/* datanode/stream.c -- see stream.h. */
#include "datanode/stream.h"

#include <string.h>

struct stream_read {
    struct disk_req io;
    struct datanode_stream *stream;
    uint32_t wanted; /* the request is for whole units */
};

struct datanode_stream {
    struct datanode_stream_options opt; /* `piece` is gone */
    struct slice part[DATANODE_STREAM_PARTS];
    unsigned part_count, read_count, left;
    int rc; /* the first failure */
    struct stream_read read[DATANODE_STREAM_READS];
};

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
        s->opt.done(s->opt.reader, s->rc);
    }
}

static int stream_take_buffers(struct datanode_stream *s)
{
    for (uint32_t at = 0; at < s->opt.length; at += DATANODE_STREAM_PART) {
        uint32_t len = (uint32_t)base_min(DATANODE_STREAM_PART, s->opt.length - at);
        struct buf *b = buf_get(s->opt.pool, base_align_up(len, CHUNK_CELL));
        if (b == NULL) {
            return -ERR_busy;
        }
        s->part[s->part_count++] = (struct slice){.buf = b, .at = b->at, .len = len};
    }
    return 0;
}

/* One piece, cut where parts meet. `at`: where it is in the range. */
static void stream_plan(struct datanode_stream *s, const struct chunk_piece *p, uint32_t at)
{
    for (uint32_t done = 0; done < p->len;) {
        uint32_t in = (at + done) % DATANODE_STREAM_PART;
        uint32_t len = (uint32_t)base_min(DATANODE_STREAM_PART - in, p->len - done);
        const struct slice *part = &s->part[(at + done) / DATANODE_STREAM_PART];
        if (p->file == NULL) {
            memset(part->buf->at + in, 0, len);
            done += len;
            continue;
        }
        CHECK(s->read_count < DATANODE_STREAM_READS);
        s->read[s->read_count++] =
            (struct stream_read){.io = {.op = DISK_READ,
                                        .flags = DISK_PAST_CACHE,
                                        .file = p->file,
                                        .offset = p->offset + done,
                                        .buf = part->buf->at + in,
                                        .len = base_align_up(len, CHUNK_CELL),
                                        .done = stream_read_done},
                                 .stream = s,
                                 .wanted = len};
        done += len;
    }
}

int datanode_stream_start(const struct datanode_stream_options *opt, struct datanode_stream **ret)
{
    CHECK(opt->length > 0 && opt->length <= CHUNK_LENGTH_MAX &&
          datanode_way_reads(opt->piece, opt->count) > 0);
    struct datanode_stream *s = mem_zalloc(sizeof *s);
    if (s == NULL) {
        return -ERR_busy;
    }
    s->opt = *opt;
    int rc = stream_take_buffers(s);
    if (rc < 0) {
        datanode_stream_free(s);
        return rc;
    }
    uint32_t at = 0;
    for (unsigned i = 0; i < opt->count; i++) {
        stream_plan(s, &opt->piece[i], at);
        at += opt->piece[i].len;
    }
    CHECK(at == opt->length);
    s->opt.piece = NULL;
    s->left = s->read_count;
    for (unsigned i = 0; i < s->read_count; i++) {
        disk_submit(opt->disk, &s->read[i].io);
    }
    *ret = s;
    return 0;
}

unsigned datanode_stream_parts(const struct datanode_stream *s, struct slice *ret)
{
    for (unsigned i = 0; i < s->part_count; i++) {
        ret[i] = s->part[i];
    }
    return s->part_count;
}

struct datanode_stream *datanode_stream_free(struct datanode_stream *s)
{
    if (s != NULL) {
        CHECK(s->left == 0);
        for (unsigned i = 0; i < s->part_count; i++) {
            buf_slice_drop(&s->part[i]);
        }
        mem_free(s);
    }
    return NULL;
}

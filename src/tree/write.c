/*
 * tree/write.c -- node versions to disk: see write.h.
 *
 * What lies in the extents that the block has in the live table may stay there. Those are also the
 * ones that a frozen table has, unless the block was written for a newer checkpoint since; then all
 * of it is written anew. Parts that are not in memory are not unpacked for that: their packed bytes
 * are read, checked, and put into the new extent, with its birth in their checksum. (Filters know
 * their place themselves, so those are unpacked, sealed and packed again.)
 *
 * A job packs straight into the buffer that is written: header first, whose length is known, then
 * pivots, filter and parts in the order of the table.
 */
#include "tree/write.h"

#include "tree/write_priv.h"

#include <inttypes.h>
#include <string.h>

#define WRITE_DEAD_PERCENT 30u
#define WRITE_GAP_MAX (64u << 10) /* read along rather than read twice */

enum node_how {
    NODE_STAYS,  /* in an older extent */
    NODE_PACKED, /* out of its bytes, pinned */
    NODE_COPIED, /* packed as it was */
};
struct node_part {
    uint8_t how;
    bool cold; /* packed with zstd */
    /* copied: */
    size_t at;                   /* in what was read */
    struct tree_part_place from; /* where it was then: the part's own is the loop's */
};
struct node_read {
    uint64_t block;
    struct tree_space_extent extent;
    uint32_t offset, len;
    size_t at;
};

struct node_packer {
    bool began;
    uint32_t next; /* partition */
    size_t at;     /* how far the buffer is filled */
    uint32_t header_len;
    uint64_t ns, bytes; /* of packing; */
    uint64_t all_ns;    /* and with all beside it */
};

struct node_job {
    struct writer_work work;
    struct tree_writer *writer;
    struct tree_node_write *req;
    struct tree_head *head; /* a reference */
    struct tree_codec codec;
    struct tree_node_header header; /* as it will be on disk; owns its arrays */
    struct node_part *part;         /* one for each of the head's */
    uint8_t older_count;            /* extents that the block will have besides */
    bool cold;                      /* it has parts that are */
    size_t bound, copied_len, scratch_len;
    uint8_t *buf, *copied, *scratch; /* scratch: a filter */
    struct node_read *read;
    size_t read_count, read_capacity, read_next;
    struct node_packer pack;
    uint64_t charged, write_ns, header_sum;
    int rc;
    struct err err;
    struct tree_file_read in;
    struct tree_file_write out;
};

/* ---- what goes where ---- */

/* The extents that the block has, if they may be used further. */
struct node_chain {
    struct tree_space_extent extent[TREE_APPEND_EXTENTS];
    size_t count; /* 0: they may not */
    uint64_t bytes;
};

static struct node_chain chain_of(const struct node_job *j)
{
    const struct tree_file *f = j->writer->options.file;
    struct node_chain c = {.count = 0};
    struct tree_file_place place;
    uint64_t block = j->req->node->block;
    if (tree_file_find(f, block, &place) < 0 || place.birth > j->req->birth) {
        return c;
    }
    c.extent[0] = place.extent;
    size_t older = tree_file_older(f, block, c.extent + 1, TREE_APPEND_EXTENTS - 1);
    c.count = older < TREE_APPEND_EXTENTS ? older + 1 : 0;
    for (size_t i = 0; i < c.count; i++) {
        c.bytes += tree_space_bytes(c.extent[i]);
    }
    return c;
}

/* Which of the chain's extents a part lies in; count: none of them. */
static size_t chain_find(const struct node_chain *c, const struct node_job *j,
                         const struct tree_part *p)
{
    const struct tree_part_place *at = &p->place;
    size_t i = 0;
    if (tree_part_is_dirty(p) || at->block != j->req->node->block) {
        return c->count;
    }
    while (i < c->count && (tree_space_offset(c->extent[i]) != at->extent ||
                            tree_space_bytes(c->extent[i]) != at->extent_len)) {
        i++;
    }
    return i;
}

static bool part_is_cold(const struct node_job *j, const struct tree_part *p)
{
    uint64_t after = j->writer->options.cold_checkpoints;
    bool basement = p->kind == TREE_PARTITION_LEAF && !tree_part_is_dirty(p);
    return after > 0 && basement && (p->place.cold || p->place.birth + after <= j->req->birth);
}

static bool node_appends(const struct node_job *j, const struct node_chain *c)
{
    uint64_t live = 0;
    bool absent = false;
    for (uint32_t i = 0; i < j->head->header.partition_count; i++) {
        const struct tree_part *p = j->head->part[i];
        if (chain_find(c, j, p) < c->count) {
            live += p->place.packed_len;
            absent = absent || tree_part_is_absent(p);
        }
    }
    /* Of each extent the last unit may be empty for the most part, whoever it is written for. */
    uint64_t spent = live + c->count * TREE_UNIT;
    uint64_t dead = c->bytes > spent ? c->bytes - spent : 0;
    bool saves = live >= TREE_UNIT || absent;
    return saves && dead * 100 <= c->bytes * WRITE_DEAD_PERCENT;
}

/* Reads the packed bytes of a part along with the one before, if that is near. */
static int node_add_read(struct node_job *j, const struct tree_part *p, struct node_part *to)
{
    const struct tree_part_place *at = &p->place;
    struct node_read *r = j->read_count == 0 ? NULL : &j->read[j->read_count - 1];
    uint64_t begin = base_align_down(at->offset, TREE_UNIT);
    uint64_t end = base_align_up((uint64_t)at->offset + at->packed_len, TREE_UNIT);
    CHECK(end <= at->extent_len);
    bool near = r != NULL && tree_space_offset(r->extent) == at->extent && begin >= r->offset &&
                begin <= (uint64_t)r->offset + r->len + WRITE_GAP_MAX;
    if (!near) {
        int rc = mem_grow(&j->read, &j->read_capacity, j->read_count + 1, sizeof *j->read);
        if (rc < 0) {
            return rc;
        }
        r = &j->read[j->read_count++];
        *r = (struct node_read){
            .block = at->block,
            .extent = {.unit = at->extent / TREE_UNIT, .count = at->extent_len / TREE_UNIT},
            .offset = (uint32_t)begin,
            .at = j->copied_len};
    }
    uint64_t len = base_max(r->len, end - r->offset);
    j->copied_len += len - r->len;
    r->len = (uint32_t)len;
    to->at = r->at + (at->offset - r->offset);
    return 0;
}

/* The index of an extent in the header, which it is put into when it is not there. */
static uint8_t node_extent(struct node_job *j, const struct tree_part_place *at)
{
    struct tree_node_header *n = &j->header;
    uint8_t i = 0;
    while (i < n->extent_count && n->extent[i].offset != at->extent) {
        i++;
    }
    if (i == n->extent_count) {
        n->extent[n->extent_count++] =
            (struct tree_extent){.offset = at->extent, .birth = at->birth, .len = at->extent_len};
    }
    return (uint8_t)(i + 1);
}

static int node_plan_part(struct node_job *j, const struct node_chain *c, uint32_t i)
{
    struct tree_part *p = j->head->part[i];
    struct node_part *to = &j->part[i];
    struct tree_partition *as = &j->header.partition[i];
    bool filter = p->kind == TREE_PARTITION_FILTER;
    if (c->count > 0 && chain_find(c, j, p) < c->count) {
        to->how = NODE_STAYS;
        as->extent = node_extent(j, &p->place);
        as->offset = p->place.offset;
        as->packed_len = p->place.packed_len;
        as->sum = p->place.sum;
        return 0;
    }
    to->cold = part_is_cold(j, p);
    j->cold = j->cold || to->cold;
    bool unpacks = filter || (to->cold && !p->place.cold);
    j->scratch_len = unpacks ? base_max(j->scratch_len, p->raw_len) : j->scratch_len;
    as->extent = 0;
    if (tree_part_pin(p)) {
        to->how = NODE_PACKED;
        j->bound += tree_codec_bound(p->raw_len);
        return 0;
    }
    CHECK(!tree_part_is_dirty(p));
    to->from = p->place;
    j->bound += unpacks ? tree_codec_bound(p->raw_len) : p->place.packed_len;
    int rc = node_add_read(j, p, to);
    to->how = rc < 0 ? NODE_STAYS : NODE_COPIED;
    return rc;
}

/* Arrays of its own, and what the job does not find out itself. */
static int node_header(struct node_job *j)
{
    const struct tree_head *h = j->head;
    const struct tree_shape *shape = j->writer->options.shape;
    struct tree_node_header *n = &j->header;
    uint32_t count = h->header.partition_count;
    *n = h->header;
    n->partition = mem_calloc(count + 1u, sizeof *n->partition);
    n->extent = mem_calloc(TREE_APPEND_EXTENTS, sizeof *n->extent);
    j->part = mem_calloc(count + 1u, sizeof *j->part);
    if (n->partition == NULL || n->extent == NULL || j->part == NULL) {
        return -ENOMEM;
    }
    if (count > 0) {
        memcpy(n->partition, h->header.partition, count * sizeof *n->partition);
    }
    memcpy(n->file_id, shape->file_id, sizeof n->file_id);
    n->block = j->req->node->block;
    n->version = j->req->node->version;
    n->birth = j->req->birth;
    n->codec = shape->codec;
    n->extent_count = 0;
    return 0;
}

/* Pins what is packed; what it will take in memory. */
static int node_plan(struct node_job *j)
{
    int rc = node_header(j);
    if (rc < 0) {
        return rc;
    }
    struct node_chain c = chain_of(j);
    j->req->appended = node_appends(j, &c);
    c.count = j->req->appended ? c.count : 0;
    j->older_count = (uint8_t)c.count;
    uint32_t count = j->header.partition_count;
    for (uint32_t i = 0; i < count && rc == 0; i++) {
        rc = node_plan_part(j, &c, i);
    }
    j->header.header_len = (uint32_t)(TREE_NODE_FIXED_BYTES + count * TREE_NODE_PARTITION_BYTES +
                                      j->header.extent_count * TREE_NODE_EXTENT_BYTES + 8);
    j->bound += j->header.header_len + tree_codec_bound(j->header.pivots.raw_len);
    j->bound = (size_t)base_align_up(j->bound + j->head->filter_len, TREE_UNIT);
    return rc;
}

/* ---- packing: any thread ---- */

static size_t pack_bytes_with(struct node_job *j, enum tree_codec_id codec, const uint8_t *raw,
                              size_t len)
{
    struct node_packer *k = &j->pack;
    uint8_t *out = j->buf + k->at;
    CHECK(tree_codec_bound(len) <= j->bound - k->at);
    uint64_t begin = tree_writer_now(j->writer);
    size_t packed = tree_codec_pack(&j->codec, codec, raw, len, out);
    k->ns += tree_writer_now(j->writer) - begin;
    k->bytes += len;
    k->at += packed;
    return packed;
}

static size_t pack_bytes(struct node_job *j, const uint8_t *raw, size_t len)
{
    return pack_bytes_with(j, (enum tree_codec_id)j->header.codec, raw, len);
}

static int pack_wrong(struct node_job *j, uint32_t i, int rc)
{
    const struct tree_part_place *at = &j->part[i].from;
    return err_set(&j->err, rc,
                   "node %" PRIu64 " at byte %" PRIu64 "+%" PRIu32 ", born %" PRIu64
                   ": a part of kind %u",
                   at->block, at->extent, at->offset, at->birth, j->header.partition[i].kind);
}

/* What was read of a part, checked. */
static int pack_checked(struct node_job *j, uint32_t i, const uint8_t **ret)
{
    const struct tree_part_place *at = &j->part[i].from;
    const uint8_t *packed = j->copied + j->part[i].at;
    uint64_t seed = tree_seed(j->header.file_id, at->block, at->birth);
    if (tree_sum(seed, packed, at->packed_len) != at->sum) {
        return pack_wrong(j, i, -ERR_bad_crc);
    }
    *ret = packed;
    return 0;
}

/* Its own checksum has a seed too. */
static int pack_filter(struct node_job *j, uint32_t i, const uint8_t *packed)
{
    const struct tree_part *p = j->head->part[i];
    size_t packed_len = j->part[i].from.packed_len;
    if (packed == NULL) {
        memcpy(j->scratch, p->bytes, p->raw_len);
    } else {
        int rc = tree_codec_unpack(&j->codec, packed, packed_len, j->scratch, p->raw_len);
        if (rc < 0) {
            return pack_wrong(j, i, rc);
        }
    }
    tree_filter_seal(j->scratch, p->raw_len, tree_node_seed(&j->header, 0));
    (void)pack_bytes(j, j->scratch, p->raw_len);
    return 0;
}

/* What was not in memory, as it is packed; a cold one that is not packed with zstd is unpacked for
 * that. */
static int pack_copied(struct node_job *j, uint32_t i, const uint8_t *packed)
{
    size_t len = j->part[i].from.packed_len, raw_len = j->head->part[i]->raw_len;
    if (!j->part[i].cold || j->part[i].from.cold || packed[0] == TREE_CODEC_ZSTD) {
        CHECK(len <= j->bound - j->pack.at);
        memcpy(j->buf + j->pack.at, packed, len);
        j->pack.at += len;
        return 0;
    }
    int rc = tree_codec_unpack(&j->codec, packed, len, j->scratch, raw_len);
    if (rc < 0) {
        return pack_wrong(j, i, rc);
    }
    (void)pack_bytes_with(j, TREE_CODEC_ZSTD, j->scratch, raw_len);
    return 0;
}

static int pack_part(struct node_job *j, uint32_t i)
{
    const struct tree_part *p = j->head->part[i];
    struct tree_partition *to = &j->header.partition[i];
    const uint8_t *packed = NULL;
    size_t begin = j->pack.at;
    uint8_t codec = j->part[i].cold ? TREE_CODEC_ZSTD : j->header.codec;
    int rc = j->part[i].how == NODE_COPIED ? pack_checked(j, i, &packed) : 0;
    if (rc == 0 && p->kind == TREE_PARTITION_FILTER) {
        rc = pack_filter(j, i, packed);
    } else if (rc == 0 && packed != NULL) {
        rc = pack_copied(j, i, packed);
    } else if (rc == 0) {
        (void)pack_bytes_with(j, (enum tree_codec_id)codec, p->bytes, p->raw_len);
    }
    to->packed_len = (uint32_t)(j->pack.at - begin);
    to->sum = tree_node_sum(&j->header, j->header.birth, j->buf + begin, to->packed_len);
    return rc;
}

static void pack_head(struct node_job *j)
{
    struct tree_node_header *n = &j->header;
    const struct tree_head *h = j->head;
    j->pack.at = n->header_len;
    n->pivots.packed_len = (uint32_t)pack_bytes(j, h->pivot_bytes, n->pivots.raw_len);
    n->pivots.sum = tree_node_sum(n, n->birth, j->buf + j->pack.at - n->pivots.packed_len,
                                  n->pivots.packed_len);
    if (h->filter_bytes != NULL) {
        memcpy(j->buf + j->pack.at, h->filter_bytes, h->filter_len);
        tree_filter_seal(j->buf + j->pack.at, h->filter_len, tree_node_seed(n, 0));
        j->pack.at += h->filter_len;
    }
}

static int pack_end(struct node_job *j)
{
    struct tree_node_header *n = &j->header;
    const struct node_packer *k = &j->pack;
    int rc = tree_node_layout(n);
    if (rc == 0) {
        CHECK(n->header_len == k->header_len && tree_node_used(n) == k->at);
        CHECK(n->total_len <= j->bound);
        j->header_sum = tree_node_encode(n, j->buf);
        memset(j->buf + k->at, 0, n->total_len - k->at);
    }
    return rc;
}

/* The head, then one partition at a time. */
static bool node_pack(struct writer_work *work)
{
    struct node_job *j = container_of(work, struct node_job, work);
    struct tree_node_header *n = &j->header;
    struct node_packer *k = &j->pack;
    uint64_t begin = tree_writer_now(j->writer);
    if (!k->began) {
        *k = (struct node_packer){.began = true, .header_len = n->header_len};
        pack_head(j);
        j->rc = 0;
    } else {
        j->rc = pack_part(j, k->next++);
    }
    while (k->next < n->partition_count && j->part[k->next].how == NODE_STAYS) {
        k->next++;
    }
    bool more = j->rc == 0 && k->next < n->partition_count;
    if (j->rc == 0 && !more) {
        j->rc = pack_end(j);
    }
    k->all_ns += tree_writer_now(j->writer) - begin;
    if (!more) {
        tree_writer_time(j->writer, TREE_TIME_COMPRESS, k->ns, k->bytes);
        tree_writer_time(j->writer, TREE_TIME_SERIALISE, k->all_ns - k->ns, n->total_len);
    }
    return more;
}

/* ---- one write: the loop's ---- */

static void node_packed(struct writer_work *work);
static void node_written(struct tree_file_write *out, int rc);
static void node_has_read(struct tree_file_read *in, int rc);

static void node_job_free(struct node_job *j)
{
    struct tree_writer *w = j->writer;
    for (uint32_t i = 0; j->part != NULL && i < j->header.partition_count; i++) {
        if (j->part[i].how == NODE_PACKED) {
            tree_part_unpin(j->head->part[i]);
        }
    }
    tree_codec_fini(&j->codec);
    tree_node_fini(&j->header);
    mem_free(j->part);
    mem_free(j->read);
    tree_cache_put(w->options.cache, j->buf, j->bound);
    tree_cache_put(w->options.cache, j->copied, j->copied_len);
    tree_cache_put(w->options.cache, j->scratch, j->scratch_len);
    tree_cache_give(w->options.cache, j->charged);
    tree_head_unref(j->head);
    mem_free(j);
}

static void node_over(struct node_job *j, int rc)
{
    struct tree_writer *w = j->writer;
    struct tree_node_write *req = j->req;
    if (rc < 0) {
        req->node->writing = false;
        req->appended = false;
    }
    if (rc < 0 && err_is(rc, EIO)) {
        w->error = j->err;
        if (w->error.code == 0) {
            err_set(&w->error, rc, "write of node %" PRIu64, req->node->block);
        }
    }
    req->inside = NULL;
    node_job_free(j);
    w->nodes_running--;
    tree_writer_kick(w);
    req->done(req, rc);
}

static void node_work(struct node_job *j)
{
    j->work = (struct writer_work){.step = node_pack, .done = node_packed};
    tree_writer_work(j->writer, &j->work);
}

static void node_read_next(struct node_job *j)
{
    const struct node_read *r = &j->read[j->read_next];
    j->in = (struct tree_file_read){.done = node_has_read,
                                    .block = r->block,
                                    .extent = r->extent,
                                    .offset = r->offset,
                                    .len = r->len,
                                    .buf = j->copied + r->at};
    tree_file_read(j->writer->options.file, &j->in);
}

static void node_has_read(struct tree_file_read *in, int rc)
{
    struct node_job *j = container_of(in, struct node_job, in);
    j->read_next++;
    if (rc < 0) {
        j->err = in->err;
        node_over(j, rc);
    } else if (j->read_next < j->read_count) {
        node_read_next(j);
    } else {
        node_work(j);
    }
}

/* What was to be copied was written somewhere else in the meantime, with another version of the
 * node: what was read may have been something else already. */
static bool node_has_moved(const struct node_job *j)
{
    for (uint32_t i = 0; i < j->header.partition_count; i++) {
        const struct tree_part_place *from = &j->part[i].from, *at = &j->head->part[i]->place;
        if (j->part[i].how == NODE_COPIED &&
            (from->extent != at->extent || from->birth != at->birth)) {
            return true;
        }
    }
    return false;
}

static void node_again(struct node_job *j)
{
    struct tree_writer *w = j->writer;
    j->req->inside = NULL;
    list_push_front(&w->waiting, &j->req->link);
    node_job_free(j);
    w->nodes_running--;
    tree_writer_kick(w);
}

static void node_packed(struct writer_work *work)
{
    struct node_job *j = container_of(work, struct node_job, work);
    const struct tree_node_header *n = &j->header;
    if (j->rc < 0 && err_is(j->rc, ERR_corrupt) && node_has_moved(j)) {
        node_again(j);
        return;
    }
    if (j->rc < 0) {
        node_over(j, j->rc);
        return;
    }
    uint32_t head_len = n->pivots.offset + n->pivots.packed_len + n->filter.len;
    j->out = (struct tree_file_write){
        .done = node_written,
        .block = n->block,
        .birth = n->birth,
        .version = n->version,
        .gone = tree_nodes_unneeded(j->writer->options.nodes, j->req->node),
        .buf = j->buf,
        .len = n->total_len,
        .header_len = (uint32_t)base_align_up(head_len, 512),
        .checksum = j->header_sum,
        .level = n->level,
        .append = j->req->appended};
    j->write_ns = tree_writer_now(j->writer);
    tree_file_write(j->writer->options.file, &j->out);
}

/* The parts learn where they are. */
static void node_tell(struct node_job *j)
{
    const struct tree_node_header *n = &j->header;
    struct tree_part_place place = {.block = n->block,
                                    .version = n->version,
                                    .extent = tree_space_offset(j->out.extent),
                                    .birth = n->birth,
                                    .extent_len = n->total_len};
    for (uint32_t i = 0; i < n->partition_count; i++) {
        const struct tree_partition *p = &n->partition[i];
        if (j->part[i].how != NODE_STAYS) {
            place.offset = p->offset;
            place.packed_len = p->packed_len;
            place.sum = p->sum;
            place.cold = j->buf[p->offset] == TREE_CODEC_ZSTD;
            tree_part_written(j->head->part[i], &place);
        }
    }
}

static void node_written(struct tree_file_write *out, int rc)
{
    struct node_job *j = container_of(out, struct node_job, out);
    struct tree_writer *w = j->writer;
    struct tree_file_place place;
    tree_writer_time(w, TREE_TIME_WRITE, tree_writer_now(w) - j->write_ns, out->len);
    if (rc == 0) {
        node_tell(j);
        place = (struct tree_file_place){.extent = out->extent,
                                         .header_len = out->header_len,
                                         .checksum = out->checksum,
                                         .birth = out->birth,
                                         .level = out->level,
                                         .older_count = j->older_count};
        j->req->written_bytes = out->len;
        tree_nodes_written(w->options.nodes, j->req->node, &place);
    }
    node_over(j, rc);
}

/* 0: it runs; -ERR_busy: memory is to be waited for; -ENOMEM. */
static int node_start(struct tree_writer *w, struct tree_node_write *req)
{
    struct node_job *j = mem_zalloc(sizeof *j);
    if (j == NULL) {
        return -ENOMEM;
    }
    j->writer = w;
    j->req = req;
    j->head = tree_head_ref(req->node->head);
    int rc = node_plan(j);
    uint64_t bytes = (uint64_t)j->bound + j->copied_len + j->scratch_len +
                     (j->cold ? w->cold_codec_bytes : w->codec_bytes);
    if (rc == 0 && !tree_writer_take(w, bytes)) {
        rc = -ERR_busy;
    }
    if (rc == 0) {
        j->charged = bytes;
        rc = tree_writer_codec(w, j->cold, &j->codec);
        struct tree_cache *c = w->options.cache;
        j->buf = tree_cache_get(c, j->bound);
        j->copied = j->copied_len == 0 ? NULL : tree_cache_get(c, j->copied_len);
        j->scratch = j->scratch_len == 0 ? NULL : tree_cache_get(c, j->scratch_len);
        bool all = j->buf != NULL && (j->copied_len == 0 || j->copied != NULL) &&
                   (j->scratch_len == 0 || j->scratch != NULL);
        rc = all ? rc : -ENOMEM;
    }
    if (rc < 0) {
        node_job_free(j);
        return rc;
    }
    req->inside = j;
    w->nodes_running++;
    if (j->read_count > 0) {
        node_read_next(j);
    } else {
        node_work(j);
    }
    return 0;
}

/* ---- the writer ---- */

void tree_writer_time(const struct tree_writer *w, enum tree_time kind, uint64_t ns, uint64_t bytes)
{
    struct tree_times *t = w->options.times;
    atomic_fetch_add_explicit(&t->count[kind], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->ns[kind], ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->bytes[kind], bytes, memory_order_relaxed);
}

bool tree_writer_take(struct tree_writer *w, uint64_t bytes)
{
    if (tree_cache_charge(w->options.cache, bytes)) {
        return true;
    }
    if (tree_writer_running(w) > 0) {
        return false;
    }
    tree_cache_force(w->options.cache, bytes);
    return true;
}

int tree_writer_codec(const struct tree_writer *w, bool cold, struct tree_codec *ret)
{
    bool lz4_only = w->options.shape->codec != TREE_CODEC_ZSTD && !cold;
    struct tree_codec_options options = {.lz4_only = lz4_only};
    return tree_codec_init(ret, &options);
}

void tree_writer_kick(struct tree_writer *w)
{
    if (w->keep != NULL || !list_empty(&w->waiting)) {
        loop_defer(w->options.env->loop, &w->task);
    }
}

static void writer_run_keep(struct tree_writer *w)
{
    struct tree_keep *k = w->keep;
    struct tree_keep *next = k->inside;
    int rc = tree_writer_keep_start(w, k);
    if (rc == -ERR_busy || (rc < 0 && tree_writer_running(w) > 0)) {
        return; /* what runs gives memory back */
    }
    w->keep = next;
    if (rc < 0) {
        k->inside = NULL;
        k->done(k, rc);
    }
}

static bool writer_run_node(struct tree_writer *w)
{
    struct list *node = w->waiting.next;
    struct tree_node_write *req = LIST_ENTRY(node, struct tree_node_write, link);
    list_remove(node);
    int rc = node_start(w, req);
    if (rc == -ERR_busy || (rc < 0 && tree_writer_running(w) > 0)) {
        list_push_front(&w->waiting, node);
        return false;
    }
    if (rc < 0) {
        req->node->writing = false;
        req->done(req, rc);
    }
    return true;
}

static void writer_run(struct loop_task *t)
{
    struct tree_writer *w = container_of(t, struct tree_writer, task);
    if (w->keep != NULL && w->keeps_running == 0) {
        writer_run_keep(w);
    }
    bool goes_on = true;
    while (goes_on && w->nodes_running < w->options.writes_max && !list_empty(&w->waiting)) {
        goes_on = writer_run_node(w);
    }
    if (tree_writer_running(w) == 0) {
        tree_writer_kick(w); /* all that began has failed: the next */
    }
}

void tree_writer_write(struct tree_writer *w, struct tree_node_write *req)
{
    LOOP_OWNED(w->options.env->loop);
    CHECK(req->node->head != NULL && !req->node->written && !req->node->writing);
    req->node->writing = true;
    req->written_bytes = 0;
    req->appended = false;
    req->inside = NULL;
    list_push_back(&w->waiting, &req->link);
    tree_writer_kick(w);
}

bool tree_writer_busy(const struct tree_writer *w)
{
    return tree_writer_running(w) > 0 || w->keep != NULL || !list_empty(&w->waiting);
}

const struct err *tree_writer_error(const struct tree_writer *w)
{
    return &w->error;
}

static int writer_codec_bytes(const struct tree_writer *w, bool cold, size_t *ret)
{
    struct tree_codec codec;
    int rc = tree_writer_codec(w, cold, &codec);
    if (rc == 0) {
        *ret = tree_codec_memory(&codec);
        tree_codec_fini(&codec);
    }
    return rc;
}

int tree_writer_new(const struct tree_writer_options *opt, struct tree_writer **ret)
{
    struct tree_writer *w = mem_zalloc(sizeof *w);
    if (w == NULL) {
        return -ENOMEM;
    }
    w->options = *opt;
    w->options.writes_max = opt->writes_max == 0 ? WRITE_NODES_DEFAULT : opt->writes_max;
    CHECK(w->options.writes_max <= WRITE_NODES_MAX);
    int rc = writer_codec_bytes(w, false, &w->codec_bytes);
    rc = rc < 0 ? rc : writer_codec_bytes(w, true, &w->cold_codec_bytes);
    if (rc < 0) {
        mem_free(w);
        return rc;
    }
    list_init(&w->waiting);
    tree_writer_work_init(w);
    w->task.run = writer_run;
    *ret = w;
    return 0;
}

struct tree_writer *tree_writer_free(struct tree_writer *w)
{
    if (w == NULL) {
        return NULL;
    }
    CHECK(!tree_writer_busy(w));
    loop_undefer(w->options.env->loop, &w->task);
    tree_writer_work_fini(w);
    mem_free(w);
    return NULL;
}

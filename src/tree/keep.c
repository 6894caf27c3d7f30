/*
 * tree/keep.c -- memtables to segments and back: see write.h, segment.h.
 *
 * A memtable becomes a row of pieces, each a segment of its own: messages in order, as many as fit;
 * deleted ranges behind the last of them, in pieces of their own when there are many. A piece is
 * packed by one job, written, then comes the next, so that there is one buffer. The number of a
 * segment is that of its memtable times TREE_KEEP_PIECES_MAX, plus that of the piece, in 32 bits:
 * memtables whose numbers are that far apart never live at the same time.
 *
 * Owner of a piece: memtable u32, piece u32, count of pieces u32, zero u32.
 */
#include "tree/segment.h"
#include "tree/write_priv.h"
#include "wire/wire.h"

#include <inttypes.h>
#include <string.h>

#define KEEP_PIECE_BYTES (4u << 20)
#define KEEP_PIECE_MAX (32u << 20)
#define KEEP_PIECE_MIN (4u << 10)
#define KEEP_SLACK (512u << 10) /* one message more than wanted, index, trailer */
#define KEEP_SLACK_MIN (16u << 10)
#define KEEP_SHARE_MAX 64u    /* pieces that messages are divided into */
#define KEEP_ENTRY_BYTES 96u  /* of a block, beside key and body, with its header */
#define KEEP_RANGES_FACTOR 4u /* memory for ranges: encoded, and what leads to them */

struct keep_job {
    struct writer_work work;
    struct tree_writer *writer;
    struct tree_keep *keep;
    struct tree_codec codec;
    uint64_t limit; /* of reading: the newest message */
    size_t piece_bytes, ranges_bytes;
    /* how far it is */
    struct tree_memtable_cursor cursor;
    bool standing, ranges_left; /* the cursor, on the next message */
    struct kv_slice ranges_from;
    /* the piece that is being made */
    uint8_t *buf;
    size_t capacity, len; /* len 0: there was nothing left */
    struct tree_segment_writer segment;
    bool packing;     /* it has begun: */
    uint64_t pack_ns; /* so long it took until now */
    uint64_t sum;
    struct tree_ranges_item *range; /* with its list */
    size_t range_count, range_capacity, list_capacity;
    uint8_t *list;
    int rc;
    /* the loop's */
    uint64_t charged, write_ns;
    struct tree_btt_piece *piece;
    size_t piece_count, piece_capacity;
    struct tree_file_write write;
};

uint32_t tree_keep_number(uint32_t memtable, uint32_t piece)
{
    return memtable * TREE_KEEP_PIECES_MAX + piece;
}

static struct tree_segment_id keep_id(const uint8_t *file_id, uint64_t birth, uint32_t memtable,
                                      uint32_t piece)
{
    return (struct tree_segment_id){
        .file_id = file_id, .checkpoint = birth, .number = tree_keep_number(memtable, piece)};
}

/* ---- packing: any thread ---- */

static struct tree_block_entry keep_entry(const struct keep_job *j)
{
    const struct tree_source *s = &j->cursor.base;
    return (struct tree_block_entry){.key = s->key,
                                     .body = s->message.body,
                                     .msn = s->message.msn,
                                     .type = (uint8_t)s->message.type};
}

/* On the next older message of the key, or on the next key. */
static void keep_step(struct keep_job *j)
{
    struct tree_source *s = &j->cursor.base;
    if (s->ops->older(s) == 0) {
        j->standing = s->ops->next(s) == 1;
    }
}

/* False: the piece is full without it. Another block and the end have room in any case. */
static bool keep_has_room(const struct keep_job *j, const struct tree_segment_writer *s,
                          const struct tree_block_entry *e)
{
    size_t with = tree_block_builder_bytes_with(&s->block, e);
    size_t alone = KEEP_ENTRY_BYTES + e->key.len + e->body.len;
    size_t index = (size_t)2 * (TREE_KEY_MAX + KEEP_ENTRY_BYTES);
    size_t need =
        tree_codec_bound(with) + tree_codec_bound(alone) + tree_segment_end_bound(s, 0) + index;
    bool any = s->entries > 0 || tree_segment_has_block(s);
    bool fits = need <= j->capacity - j->len;
    CHECK(any || fits);
    return fits && (!any || s->raw_bytes + with <= j->piece_bytes);
}

static int keep_put_block(struct keep_job *j, struct tree_segment_writer *s)
{
    size_t len = 0;
    CHECK(tree_segment_block_bound(s) <= j->capacity - j->len);
    int rc = tree_segment_block(s, j->buf + j->len, &len);
    j->len += rc < 0 ? 0 : len;
    return rc;
}

/* A block, or what is left for one. 1: there may be more that has room; 0; or a failure. */
static int keep_put_some(struct keep_job *j, struct tree_segment_writer *s)
{
    while (j->standing) {
        struct tree_block_entry e = keep_entry(j);
        if (!keep_has_room(j, s, &e)) {
            break;
        }
        int rc = tree_segment_add(s, &e);
        if (rc == 0) {
            rc = keep_put_block(j, s);
            return rc < 0 ? rc : 1;
        }
        if (rc < 0) {
            return rc;
        }
        keep_step(j);
    }
    return tree_segment_has_block(s) ? keep_put_block(j, s) : 0;
}

/* The next of them that lie behind `from`, as many as may be in a list of `bytes`. */
static int keep_gather_ranges(struct keep_job *j, size_t bytes)
{
    struct tree_range r;
    size_t len = TREE_RANGES_HEADER_BYTES;
    j->range_count = 0;
    while (j->ranges_left) {
        j->ranges_left = tree_memtable_range(j->keep->memtable, j->limit, j->ranges_from, &r);
        if (!j->ranges_left) {
            break;
        }
        CHECK(r.high.len > 0);
        bool clip = kv_slice_compare(r.low, j->ranges_from) < 0;
        r.low = clip ? j->ranges_from : r.low;
        len += TREE_RANGES_ENTRY_BYTES + r.low.len + r.high.len;
        if (len > bytes) {
            break;
        }
        int rc = mem_grow(&j->range, &j->range_capacity, j->range_count + 1, sizeof *j->range);
        if (rc < 0) {
            return rc;
        }
        j->range[j->range_count++] =
            (struct tree_ranges_item){.low = r.low, .high = r.high, .msn = r.msn};
        j->ranges_from = r.high;
    }
    return 0;
}

/* Once all messages are there. *ret is empty when there is none, or none has room any more. */
static int keep_list_ranges(struct keep_job *j, const struct tree_segment_writer *s,
                            struct kv_slice *ret)
{
    size_t room = j->capacity - j->len - tree_segment_end_bound(s, 0) - 1; /* codec_bound */
    *ret = kv_slice_of(NULL, 0);
    if (j->standing || !j->ranges_left) {
        return 0;
    }
    int rc = keep_gather_ranges(j, base_min(room, j->ranges_bytes));
    if (rc < 0 || j->range_count == 0) {
        return rc;
    }
    size_t len = tree_ranges_bytes(j->range, j->range_count);
    rc = mem_grow(&j->list, &j->list_capacity, len, 1);
    if (rc == 0) {
        *ret = kv_slice_of(j->list, tree_ranges_encode(j->range, j->range_count, j->list));
    }
    return rc;
}

static int keep_put_end(struct keep_job *j, struct tree_segment_writer *s)
{
    struct kv_slice ranges;
    struct tree_segment_end end;
    int rc = keep_list_ranges(j, s, &ranges);
    if (rc == 0 && s->entries == 0 && ranges.len == 0) {
        j->len = 0;
        return 0;
    }
    if (rc == 0) {
        CHECK(tree_segment_end_bound(s, ranges.len) <= j->capacity - j->len);
        rc = tree_segment_end(s, ranges, j->buf + j->len, &end);
    }
    if (rc == 0) {
        j->len += end.len;
        j->sum = end.sum;
        memset(j->buf + j->len, 0, base_align_up(j->len, TREE_UNIT) - j->len);
    }
    return rc;
}

static void keep_pack_begin(struct keep_job *j)
{
    const struct tree_keep *k = j->keep;
    const struct tree_shape *shape = j->writer->options.shape;
    struct tree_segment_options opt = {
        .id = keep_id(shape->file_id, k->birth, k->memtable_number, (uint32_t)j->piece_count),
        .packer = &j->codec,
        .codec = (enum tree_codec_id)shape->codec};
    tree_segment_writer_init(&j->segment, &opt);
    tree_segment_begin(&j->segment, j->buf);
    j->len = TREE_SEGMENT_HEADER_BYTES;
    j->packing = true;
    j->pack_ns = 0;
}

/* One block after the other, then the end of the piece. */
static bool keep_pack(struct writer_work *work)
{
    struct keep_job *j = container_of(work, struct keep_job, work);
    uint64_t begin = tree_writer_now(j->writer);
    if (!j->packing) {
        keep_pack_begin(j);
    }
    j->rc = keep_put_some(j, &j->segment);
    bool more = j->rc == 1;
    if (j->rc == 0) {
        j->rc = keep_put_end(j, &j->segment);
    }
    j->pack_ns += tree_writer_now(j->writer) - begin;
    if (!more) {
        tree_writer_time(j->writer, TREE_TIME_COMPRESS, j->pack_ns, j->segment.raw_bytes);
        tree_segment_writer_fini(&j->segment);
        j->packing = false;
    }
    return more;
}

/* ---- keeping: the loop's ---- */

static void keep_packed(struct writer_work *work);
static void keep_written(struct tree_file_write *write, int rc);

static void keep_job_free(struct keep_job *j)
{
    struct tree_writer *w = j->writer;
    tree_codec_fini(&j->codec);
    tree_cache_put(w->options.cache, j->buf, j->capacity);
    mem_free(j->range);
    mem_free(j->list);
    mem_free(j->piece);
    tree_cache_give(w->options.cache, j->charged);
    mem_free(j);
}

static void keep_give_back(struct keep_job *j)
{
    for (size_t i = 0; i < j->piece_count; i++) {
        const struct tree_btt_piece *p = &j->piece[i];
        struct tree_space_extent x = {.unit = p->offset / TREE_UNIT,
                                      .count =
                                          (uint32_t)(base_align_up(p->len, TREE_UNIT) / TREE_UNIT)};
        int rc = tree_file_piece_free(j->writer->options.file, x, p->birth, 0);
        (void)rc; /* no memory: it is free after the next opening, no checkpoint names it */
    }
    j->piece_count = 0;
}

static void keep_over(struct keep_job *j, int rc)
{
    struct tree_keep *k = j->keep;
    struct tree_writer *w = j->writer;
    for (size_t i = 0; i < j->piece_count; i++) {
        wire_store_u32(j->piece[i].owner + 8, (uint32_t)j->piece_count);
    }
    if (rc < 0) {
        keep_give_back(j);
    } else {
        k->piece = j->piece;
        k->piece_count = j->piece_count;
        j->piece = NULL;
    }
    keep_job_free(j);
    w->keeps_running--;
    tree_writer_kick(w);
    k->done(k, rc);
}

static int keep_note(struct keep_job *j, struct tree_space_extent x)
{
    const struct tree_keep *k = j->keep;
    struct tree_btt_piece *p = &j->piece[j->piece_count];
    *p = (struct tree_btt_piece){
        .offset = tree_space_offset(x), .len = j->len, .checksum = j->sum, .birth = k->birth};
    wire_store_u32(p->owner, k->memtable_number);
    wire_store_u32(p->owner + 4, (uint32_t)j->piece_count);
    j->piece_count++;
    return j->piece_count < TREE_KEEP_PIECES_MAX ? 0 : -E2BIG;
}

static void keep_next(struct keep_job *j)
{
    j->work = (struct writer_work){.step = keep_pack, .done = keep_packed};
    tree_writer_work(j->writer, &j->work);
}

static void keep_packed(struct writer_work *work)
{
    struct keep_job *j = container_of(work, struct keep_job, work);
    int rc = j->rc;
    if (rc == 0 && j->len > 0) {
        rc = mem_grow(&j->piece, &j->piece_capacity, j->piece_count + 1, sizeof *j->piece);
    }
    if (rc < 0 || j->len == 0) {
        keep_over(j, rc);
        return;
    }
    j->write = (struct tree_file_write){.done = keep_written,
                                        .birth = j->keep->birth,
                                        .buf = j->buf,
                                        .len = (size_t)base_align_up(j->len, TREE_UNIT)};
    j->write_ns = tree_writer_now(j->writer);
    tree_file_write(j->writer->options.file, &j->write);
}

static void keep_written(struct tree_file_write *write, int rc)
{
    struct keep_job *j = container_of(write, struct keep_job, write);
    struct tree_writer *w = j->writer;
    tree_writer_time(w, TREE_TIME_WRITE, tree_writer_now(w) - j->write_ns, write->len);
    if (rc == 0) {
        j->keep->written_bytes += write->len;
        rc = keep_note(j, write->extent);
    }
    if (rc < 0 || (!j->standing && !j->ranges_left)) {
        keep_over(j, rc);
    } else {
        keep_next(j);
    }
}

/* Where messages and ranges begin; how large pieces are, so that there are not too many. */
static void keep_begin(struct keep_job *j)
{
    struct tree_keep *k = j->keep;
    struct tree_memtable_state state = tree_memtable_state(k->memtable);
    uint64_t wanted = k->piece_bytes == 0 ? KEEP_PIECE_BYTES : k->piece_bytes;
    wanted = base_max(base_max(wanted, state.bytes / KEEP_SHARE_MAX), KEEP_PIECE_MIN);
    wanted = base_min(wanted, base_max(state.bytes, KEEP_PIECE_MIN)); /* memory is not wasted */
    j->piece_bytes = (size_t)base_min(wanted, KEEP_PIECE_MAX);
    j->ranges_bytes = (size_t)base_max(KEEP_PIECE_MIN, base_min(j->piece_bytes / 2, TREE_RAW_MAX));
    uint64_t slack = base_min(KEEP_SLACK, KEEP_SLACK_MIN + 2 * state.bytes);
    j->capacity = (size_t)base_align_up(j->piece_bytes + slack, TREE_UNIT);
    j->charged = j->capacity + j->writer->codec_bytes;
    j->charged += state.range_count == 0 ? 0 : (uint64_t)KEEP_RANGES_FACTOR * j->ranges_bytes;
    j->limit = k->msn_max == 0 ? state.max_msn : base_min(k->msn_max, state.max_msn);
    tree_memtable_cursor_init(&j->cursor, k->memtable, j->limit);
    j->standing = j->cursor.base.ops->seek(&j->cursor.base, k->from) == 1;
    j->ranges_left = j->cursor.base.has_ranges;
    j->ranges_from = k->from;
}

int tree_writer_keep_start(struct tree_writer *w, struct tree_keep *k)
{
    struct keep_job *j = mem_zalloc(sizeof *j);
    if (j == NULL) {
        return -ENOMEM;
    }
    j->writer = w;
    j->keep = k;
    keep_begin(j);
    if (!tree_writer_take(w, j->charged)) {
        mem_free(j);
        return -ERR_busy;
    }
    j->buf = tree_cache_get(w->options.cache, j->capacity);
    if (j->buf == NULL || tree_writer_codec(w, false, &j->codec) < 0) {
        keep_job_free(j);
        return -ENOMEM;
    }
    w->keeps_running++;
    keep_next(j);
    return 0;
}

void tree_writer_keep(struct tree_writer *w, struct tree_keep *k)
{
    LOOP_OWNED(w->options.env->loop);
    k->piece = NULL;
    k->piece_count = 0;
    k->written_bytes = 0;
    k->inside = NULL;
    if (w->keep == NULL) {
        w->keep = k;
    } else {
        w->keep_last->inside = k;
    }
    w->keep_last = k;
    tree_writer_kick(w);
}

int tree_keep_owner(const struct tree_btt_piece *p, struct tree_keep_owner *ret)
{
    struct tree_keep_owner o = {.memtable_number = wire_load_u32(p->owner),
                                .piece_number = wire_load_u32(p->owner + 4),
                                .piece_count = wire_load_u32(p->owner + 8)};
    if (o.piece_number >= o.piece_count || o.piece_count > TREE_KEEP_PIECES_MAX ||
        wire_load_u32(p->owner + 12) != 0) {
        return -ERR_bad_value;
    }
    *ret = o;
    return 0;
}

/* ---- back ---- */

struct keep_load {
    struct tree_file *file;
    const uint8_t *file_id;
    const struct tree_btt_piece *piece; /* the one that is being read, */
    struct tree_keep_owner owner;       /* and whose it is */
    struct tree_memtable *into;
    struct tree_codec codec;
    uint8_t *bytes; /* of the piece */
    struct tree_segment segment;
    uint8_t *index, *raw;
    size_t index_capacity, raw_capacity;
    struct tree_block_iter iter;
    struct err *err;
};

static int load_wrong(const struct keep_load *l, int rc, const char *what)
{
    return rc == -ENOMEM
               ? rc
               : err_set(l->err, rc,
                         "memtable %" PRIu32 ", piece %" PRIu32 " at offset %" PRIu64 ", %s",
                         l->owner.memtable_number, l->owner.piece_number, l->piece->offset, what);
}

static int load_open(struct keep_load *l)
{
    const struct tree_btt_piece *p = l->piece;
    struct tree_segment_expect x = {
        .id = keep_id(l->file_id, p->birth, l->owner.memtable_number, l->owner.piece_number),
        .len = p->len,
        .sum = p->checksum};
    int rc = tree_segment_open(l->bytes + p->len - TREE_SEGMENT_TRAILER_BYTES, &x, &l->segment);
    if (rc < 0) {
        return load_wrong(l, rc, "trailer");
    }
    rc = tree_segment_check_header(l->bytes, &x.id);
    if (rc < 0) {
        return load_wrong(l, rc, "header");
    }
    if (l->segment.block_count > 0) {
        rc = mem_grow(&l->index, &l->index_capacity, l->segment.index.raw_len, 1);
        rc = rc < 0 ? rc
                    : tree_segment_open_index(&l->segment, l->bytes + l->segment.index.offset,
                                              &l->codec, l->index);
    }
    return rc < 0 ? load_wrong(l, rc, "index") : 0;
}

static int load_block(struct keep_load *l, uint32_t i)
{
    struct tree_segment_part part = tree_segment_part(&l->segment, i);
    struct tree_block block;
    int rc = mem_grow(&l->raw, &l->raw_capacity, part.raw_len, 1);
    if (rc < 0) {
        return rc;
    }
    struct tree_segment_block_in in = {.i = i, .packed = l->bytes + part.offset, .raw = l->raw};
    rc = tree_segment_open_block(&l->segment, &in, &l->codec, &block);
    if (rc < 0) {
        return load_wrong(l, rc, "block");
    }
    tree_block_iter_init(&l->iter, &block);
    bool more = tree_block_iter_seek(&l->iter, 0);
    for (; more && rc == 0; more = tree_block_iter_next(&l->iter)) {
        const struct tree_block_entry *e = &l->iter.entry;
        struct tree_message m = {
            .type = (enum tree_message_type)e->type, .msn = e->msn, .body = e->body};
        rc = tree_message_check(e->type, e->body, NULL);
        rc = rc < 0 ? rc : tree_memtable_load(l->into, e->key, &m);
    }
    return rc < 0 ? load_wrong(l, rc, "message") : 0;
}

static int load_ranges(struct keep_load *l)
{
    const struct tree_segment_part *part = &l->segment.ranges;
    struct tree_ranges ranges;
    int rc = mem_grow(&l->raw, &l->raw_capacity, part->raw_len, 1);
    rc = rc < 0 ? rc
                : tree_segment_open_ranges(&l->segment, l->bytes + part->offset, &l->codec, l->raw,
                                           &ranges);
    for (uint32_t i = 0; rc == 0 && i < ranges.count; i++) {
        struct tree_ranges_item item = tree_ranges_get(&ranges, i);
        struct tree_range r = {.msn = item.msn, .low = item.low, .high = item.high};
        rc = tree_memtable_load_range(l->into, &r);
    }
    return rc < 0 ? load_wrong(l, rc, "ranges") : 0;
}

static int load_piece(struct keep_load *l)
{
    const struct tree_btt_piece *p = l->piece;
    uint64_t least = TREE_SEGMENT_HEADER_BYTES + TREE_SEGMENT_TRAILER_BYTES;
    if (p->len < least || p->len > (uint64_t)TREE_SPACE_REGION_UNITS * TREE_SPACE_UNIT) {
        return load_wrong(l, -ERR_bad_length, "length");
    }
    size_t size = (size_t)base_align_up(p->len, TREE_UNIT);
    l->bytes = mem_aligned(TREE_UNIT, size);
    if (l->bytes == NULL) {
        return -ENOMEM;
    }
    int rc = tree_file_read_now(l->file, p->offset, l->bytes, size);
    rc = rc < 0 ? load_wrong(l, rc, "read") : load_open(l);
    for (uint32_t i = 0; rc == 0 && i < l->segment.block_count; i++) {
        rc = load_block(l, i);
    }
    if (rc == 0 && l->segment.ranges.raw_len > 0) {
        rc = load_ranges(l);
    }
    mem_freep(&l->bytes);
    return rc;
}

static int load_pieces(struct keep_load *l, size_t count)
{
    uint32_t memtable = 0;
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++, l->piece++) {
        rc = tree_keep_owner(l->piece, &l->owner);
        memtable = i == 0 ? l->owner.memtable_number : memtable;
        bool next = rc == 0 && l->owner.memtable_number == memtable && l->owner.piece_number == i &&
                    l->owner.piece_count == count;
        rc = next ? load_piece(l) : load_wrong(l, -ERR_bad_value, "not the next piece");
    }
    return rc;
}

int tree_keep_load(struct tree_file *f, const uint8_t *file_id, const struct tree_btt_piece *piece,
                   size_t count, struct tree_memtable *into, struct err *e)
{
    CLEANUP(mem_freep) struct keep_load *l = mem_zalloc(sizeof *l);
    if (l == NULL) {
        return -ENOMEM;
    }
    l->file = f;
    l->file_id = file_id;
    l->piece = piece;
    l->into = into;
    l->err = e;
    int rc = tree_codec_init(&l->codec, NULL);
    rc = rc < 0 ? rc : load_pieces(l, count);
    tree_codec_fini(&l->codec);
    mem_free(l->index);
    mem_free(l->raw);
    return rc;
}

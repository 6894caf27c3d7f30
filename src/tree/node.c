/* tree/node.c -- see node.h. Layout: doc/format/tree.md. */
#include "tree/node.h"

#include "base/mem.h"
#include "tree/filter.h"
#include "wire/wire.h"

#define NODE_MAGIC_LEAF 0x464c5442u     /* "BTLF" */
#define NODE_MAGIC_INTERNAL 0x4e495442u /* "BTIN" */
#define NODE_VERSION 1u
#define NODE_SUM_BYTES 8u
#define NODE_PACKED_MIN 2u

_Static_assert(TREE_NODE_HEADER_MAX < TREE_NODE_MAX, "a header fits into a node");

static size_t node_header_len(uint32_t partitions, uint32_t extents)
{
    return TREE_NODE_FIXED_BYTES + (size_t)partitions * TREE_NODE_PARTITION_BYTES +
           (size_t)extents * TREE_NODE_EXTENT_BYTES + NODE_SUM_BYTES;
}

uint64_t tree_node_seed(const struct tree_node_header *n, uint8_t extent)
{
    CHECK(extent <= n->extent_count);
    return tree_seed(n->file_id, n->block, extent == 0 ? n->birth : n->extent[extent - 1].birth);
}

uint64_t tree_node_sum(const struct tree_node_header *n, uint64_t birth, const uint8_t *packed,
                       size_t len)
{
    return tree_sum(tree_seed(n->file_id, n->block, birth), packed, len);
}

uint32_t tree_node_used(const struct tree_node_header *n)
{
    uint32_t end = n->pivots.offset + n->pivots.packed_len + n->filter.len;
    for (uint32_t i = 0; i < n->partition_count; i++) {
        end += n->partition[i].extent == 0 ? n->partition[i].packed_len : 0;
    }
    return end;
}

int tree_node_layout(struct tree_node_header *n)
{
    if (n->partition_count > TREE_PARTITIONS_MAX) {
        return -E2BIG;
    }
    n->header_len = (uint32_t)node_header_len(n->partition_count, n->extent_count);
    n->pivots.offset = n->header_len;
    uint64_t end = (uint64_t)n->header_len + n->pivots.packed_len;
    n->filter.offset = n->filter.kind == TREE_FILTER_NONE ? 0 : (uint32_t)end;
    end += n->filter.len;
    n->raw_bytes = 0;
    n->entries = 0;
    for (uint32_t i = 0; i < n->partition_count; i++) {
        struct tree_partition *p = &n->partition[i];
        if (p->extent == 0) {
            p->offset = (uint32_t)end;
            end += p->packed_len;
        }
        n->raw_bytes += p->kind != TREE_PARTITION_FILTER ? p->raw_len : 0;
        n->entries += p->kind <= TREE_PARTITION_RUN ? p->entries : 0;
        if (end > TREE_NODE_MAX) {
            return -E2BIG;
        }
    }
    n->total_len = (uint32_t)base_align_up(end, TREE_UNIT);
    return 0;
}

/* ---- checking ---- */

static int node_compare(const struct tree_partition *a, enum tree_partition_kind kind,
                        uint16_t slot, uint8_t run)
{
    uint32_t left = (uint32_t)a->kind << 24 | (uint32_t)a->slot << 8 | a->run;
    uint32_t right = (uint32_t)kind << 24 | (uint32_t)slot << 8 | run;
    return (left > right) - (left < right);
}

static bool node_packed_fits(uint32_t packed_len, uint32_t raw_len)
{
    return raw_len > 0 && raw_len <= TREE_RAW_MAX && packed_len >= NODE_PACKED_MIN &&
           packed_len <= tree_codec_bound(raw_len);
}

static bool node_kind_fits(const struct tree_node_header *n, const struct tree_partition *p)
{
    bool whole = p->slot == TREE_SLOT_ALL;
    switch (p->kind) {
    case TREE_PARTITION_LEAF:
        return n->level == 0 && p->run == 0 && p->slot < n->slots;
    case TREE_PARTITION_RUN:
        return n->level > 0 && p->slot < n->slots;
    case TREE_PARTITION_RANGES:
        return n->level > 0 && (whole || p->slot < n->slots);
    case TREE_PARTITION_FILTER:
        return whole || p->slot < n->slots;
    default:
        return false;
    }
}

static int node_check_partition(const struct tree_node_header *n, uint32_t i)
{
    const struct tree_partition *p = &n->partition[i], *before = i > 0 ? p - 1 : NULL;
    bool more = p->flags == TREE_PARTITION_MORE;
    if ((p->flags != 0 && !more) || !node_kind_fits(n, p) || p->entries == 0) {
        return -ERR_bad_value;
    }
    int order = before == NULL
                    ? -1
                    : node_compare(before, (enum tree_partition_kind)p->kind, p->slot, p->run);
    bool in_order = more ? order == 0 && p->kind == TREE_PARTITION_RUN : order < 0;
    if (!in_order || p->extent > n->extent_count) {
        return -ERR_bad_value;
    }
    uint32_t room = p->extent == 0 ? n->total_len : n->extent[p->extent - 1].len;
    bool inside = p->offset <= room && p->packed_len <= room - p->offset;
    return inside && node_packed_fits(p->packed_len, p->raw_len) ? 0 : -ERR_bad_length;
}

/* Parts of the own extent lie one behind the other in the order of the table, and what the header
 * counts is what they are. */
static int node_check_partitions(const struct tree_node_header *n, uint64_t end)
{
    uint64_t raw = 0, entries = 0;
    uint32_t leaves = 0;
    for (uint32_t i = 0; i < n->partition_count; i++) {
        const struct tree_partition *p = &n->partition[i];
        int rc = node_check_partition(n, i);
        if (rc < 0) {
            return rc;
        }
        if (p->extent == 0 && p->offset != end) {
            return -ERR_bad_length;
        }
        end += p->extent == 0 ? p->packed_len : 0;
        raw += p->kind != TREE_PARTITION_FILTER ? p->raw_len : 0;
        entries += p->kind <= TREE_PARTITION_RUN ? p->entries : 0;
        leaves += p->kind == TREE_PARTITION_LEAF ? 1 : 0;
    }
    if (n->total_len != base_align_up(end, TREE_UNIT)) {
        return -ERR_bad_length;
    }
    bool counted = raw == n->raw_bytes && entries == n->entries;
    return counted && (n->level > 0 || leaves == n->slots) ? 0 : -ERR_bad_value;
}

static int node_check_extents(const struct tree_node_header *n)
{
    for (uint32_t i = 0; i < n->extent_count; i++) {
        const struct tree_extent *e = &n->extent[i];
        if (e->len == 0 || e->len > TREE_NODE_MAX || e->len % TREE_UNIT != 0) {
            return -ERR_bad_length;
        }
        bool place = e->offset > 0 && e->offset % TREE_UNIT == 0 && e->offset < INT64_MAX;
        if (!place || e->birth > n->birth) {
            return -ERR_bad_value;
        }
    }
    return 0;
}

static int node_check(const struct tree_node_header *n)
{
    bool leaf = n->level == 0, has_filter = n->filter.kind != TREE_FILTER_NONE;
    if (n->block >= TREE_BLOCK_LIMIT || n->msn_min > n->msn_max || n->codec > TREE_CODEC_ZSTD ||
        n->slots > TREE_PARTITIONS_MAX || (!leaf && n->slots == 0) ||
        n->filter.kind > TREE_FILTER_RUNS) {
        return -ERR_bad_value;
    }
    if (n->total_len > TREE_NODE_MAX || n->pivots.offset != n->header_len ||
        !node_packed_fits(n->pivots.packed_len, n->pivots.raw_len)) {
        return -ERR_bad_length;
    }
    uint64_t end = (uint64_t)n->header_len + n->pivots.packed_len;
    bool filter_fits = has_filter ? n->filter.offset == end && n->filter.len <= TREE_RAW_MAX &&
                                        n->filter.len > TREE_FILTER_HEADER_BYTES
                                  : n->filter.offset == 0 && n->filter.len == 0;
    if (!filter_fits) {
        return -ERR_bad_length;
    }
    int rc = node_check_extents(n);
    return rc < 0 ? rc : node_check_partitions(n, end + n->filter.len);
}

/* ---- writing ---- */

static void node_write_fixed(const struct tree_node_header *n, struct wire_writer *w)
{
    wire_write_u32(w, n->level == 0 ? NODE_MAGIC_LEAF : NODE_MAGIC_INTERNAL);
    wire_write_u16(w, NODE_VERSION);
    wire_write_u8(w, n->level);
    wire_write_u8(w, 0);
    wire_write_u32(w, n->header_len);
    wire_write_u32(w, n->total_len);
    wire_write_bytes(w, n->file_id, sizeof n->file_id);
    wire_write_u64(w, n->block);
    wire_write_u64(w, n->birth);
    wire_write_u64(w, n->version);
    wire_write_u64(w, n->msn_min);
    wire_write_u64(w, n->msn_max);
    wire_write_u16(w, n->slots);
    wire_write_u16(w, n->partition_count);
    wire_write_u8(w, n->extent_count);
    wire_write_u8(w, n->codec);
    wire_write_u16(w, 0);
    wire_write_u32(w, n->pivots.offset);
    wire_write_u32(w, n->pivots.packed_len);
    wire_write_u32(w, n->pivots.raw_len);
    wire_write_u32(w, 0);
    wire_write_u64(w, n->pivots.sum);
    wire_write_u32(w, n->filter.offset);
    wire_write_u32(w, n->filter.len);
    wire_write_u8(w, n->filter.kind);
    wire_write_bytes(w, "\0\0\0\0\0\0\0", 7);
    wire_write_u64(w, n->raw_bytes);
    wire_write_u64(w, n->entries);
    wire_write_u64(w, n->low_print);
    wire_write_u64(w, n->high_print);
    CHECK(w->len == TREE_NODE_FIXED_BYTES);
}

uint64_t tree_node_encode(const struct tree_node_header *n, uint8_t *out)
{
    CHECK(n->partition_count <= TREE_PARTITIONS_MAX);
    CHECK(n->header_len == node_header_len(n->partition_count, n->extent_count));
    CHECK(node_check(n) == 0);
    struct wire_writer w = wire_writer_over(out, n->header_len);
    node_write_fixed(n, &w);
    for (uint32_t i = 0; i < n->partition_count; i++) {
        const struct tree_partition *p = &n->partition[i];
        wire_write_u8(&w, p->kind);
        wire_write_u8(&w, p->run);
        wire_write_u8(&w, p->flags);
        wire_write_u8(&w, p->extent);
        wire_write_u16(&w, p->slot);
        wire_write_u16(&w, 0);
        wire_write_u32(&w, p->offset);
        wire_write_u32(&w, p->packed_len);
        wire_write_u32(&w, p->raw_len);
        wire_write_u32(&w, p->entries);
        wire_write_u64(&w, p->sum);
    }
    for (uint32_t i = 0; i < n->extent_count; i++) {
        wire_write_u64(&w, n->extent[i].offset);
        wire_write_u64(&w, n->extent[i].birth);
        wire_write_u32(&w, n->extent[i].len);
        wire_write_u32(&w, 0);
    }
    uint64_t sum = tree_sum(tree_node_seed(n, 0), out, w.len);
    wire_write_u64(&w, sum);
    CHECK(!w.bad && w.len == n->header_len);
    return sum;
}

/* ---- reading ---- */

/* What is needed to know where the header ends and what its seed is. */
static int node_read_identity(const uint8_t *bytes, size_t len, struct tree_node_probe *ret)
{
    if (len < TREE_NODE_FIXED_BYTES) {
        *ret = (struct tree_node_probe){.header_len = TREE_NODE_FIXED_BYTES};
        return -ERR_short_msg;
    }
    uint32_t magic = wire_load_u32(bytes);
    if (magic != NODE_MAGIC_LEAF && magic != NODE_MAGIC_INTERNAL) {
        return -ERR_bad_magic;
    }
    if (wire_load_u16(bytes + 4) != NODE_VERSION) {
        return -ERR_bad_version;
    }
    uint32_t partitions = wire_load_u16(bytes + 74);
    size_t header_len = node_header_len(partitions, bytes[76]);
    if (wire_load_u32(bytes + 8) != header_len || partitions > TREE_PARTITIONS_MAX) {
        return -ERR_bad_length;
    }
    *ret = (struct tree_node_probe){.block = wire_load_u64(bytes + 32),
                                    .birth = wire_load_u64(bytes + 40),
                                    .version = wire_load_u64(bytes + 48),
                                    .header_len = (uint32_t)header_len,
                                    .total_len = wire_load_u32(bytes + 12),
                                    .level = bytes[6]};
    memcpy(ret->file_id, bytes + 16, TREE_FILE_ID_BYTES);
    if ((magic == NODE_MAGIC_LEAF) != (ret->level == 0)) {
        return -ERR_bad_magic;
    }
    return len < header_len ? -ERR_short_msg : 0;
}

static int node_check_sum(const uint8_t *bytes, struct tree_node_probe *p)
{
    size_t covered = p->header_len - NODE_SUM_BYTES;
    p->sum = wire_load_u64(bytes + covered);
    uint64_t seed = tree_seed(p->file_id, p->block, p->birth);
    return tree_sum(seed, bytes, covered) == p->sum ? 0 : -ERR_bad_crc;
}

int tree_node_probe(const uint8_t *bytes, size_t len, struct tree_node_probe *ret)
{
    int rc = node_read_identity(bytes, len, ret);
    return rc < 0 ? rc : node_check_sum(bytes, ret);
}

/* False: what must be zero is not. */
static bool node_read_fixed(struct wire_reader *r, struct tree_node_header *n)
{
    (void)wire_read_bytes(r, 7); /* magic, version, level: known */
    bool zero = wire_read_u8(r) == 0;
    n->header_len = wire_read_u32(r);
    n->total_len = wire_read_u32(r);
    (void)wire_read_bytes(r, TREE_FILE_ID_BYTES + 8 + 8);
    n->version = wire_read_u64(r);
    n->msn_min = wire_read_u64(r);
    n->msn_max = wire_read_u64(r);
    n->slots = wire_read_u16(r);
    n->partition_count = wire_read_u16(r);
    n->extent_count = wire_read_u8(r);
    n->codec = wire_read_u8(r);
    zero = wire_read_u16(r) == 0 && zero;
    n->pivots.offset = wire_read_u32(r);
    n->pivots.packed_len = wire_read_u32(r);
    n->pivots.raw_len = wire_read_u32(r);
    zero = wire_read_u32(r) == 0 && zero;
    n->pivots.sum = wire_read_u64(r);
    n->filter.offset = wire_read_u32(r);
    n->filter.len = wire_read_u32(r);
    n->filter.kind = wire_read_u8(r);
    zero = tree_is_zero(wire_read_bytes(r, 7), 7) && zero;
    n->raw_bytes = wire_read_u64(r);
    n->entries = wire_read_u64(r);
    n->low_print = wire_read_u64(r);
    n->high_print = wire_read_u64(r);
    return zero;
}

static bool node_read_tables(struct wire_reader *r, struct tree_node_header *n)
{
    bool zero = true;
    uint16_t cuts = 0;
    for (uint32_t i = 0; i < n->partition_count; i++) {
        struct tree_partition *p = &n->partition[i];
        p->kind = wire_read_u8(r);
        p->run = wire_read_u8(r);
        p->flags = wire_read_u8(r);
        p->extent = wire_read_u8(r);
        p->slot = wire_read_u16(r);
        zero = wire_read_u16(r) == 0 && zero;
        p->offset = wire_read_u32(r);
        p->packed_len = wire_read_u32(r);
        p->raw_len = wire_read_u32(r);
        p->entries = wire_read_u32(r);
        p->sum = wire_read_u64(r);
        p->cut = p->flags == TREE_PARTITION_MORE ? cuts++ : 0;
    }
    for (uint32_t i = 0; i < n->extent_count; i++) {
        n->extent[i].offset = wire_read_u64(r);
        n->extent[i].birth = wire_read_u64(r);
        n->extent[i].len = wire_read_u32(r);
        zero = wire_read_u32(r) == 0 && zero;
    }
    return zero && !r->bad;
}

static int node_allocate(struct tree_node_header *n)
{
    n->partition = mem_calloc(n->partition_count + 1u, sizeof *n->partition);
    n->extent = mem_calloc(n->extent_count + 1u, sizeof *n->extent);
    return n->partition == NULL || n->extent == NULL ? -ENOMEM : 0;
}

void tree_node_fini(struct tree_node_header *n)
{
    mem_free(n->partition);
    mem_free(n->extent);
    n->partition = NULL;
    n->extent = NULL;
    n->partition_count = 0;
    n->extent_count = 0;
}

int tree_node_decode(const uint8_t *bytes, size_t len, const struct tree_node_expect *x,
                     struct tree_node_header *ret)
{
    struct tree_node_probe p = {0};
    int rc = tree_node_probe(bytes, len, &p);
    if (rc < 0) {
        return rc;
    }
    if (memcmp(p.file_id, x->file_id, TREE_FILE_ID_BYTES) != 0 || p.block != x->block ||
        p.birth != x->birth || p.sum != x->sum) {
        return -ERR_bad_crc; /* sound, but not what should be here */
    }
    struct tree_node_header n = {.block = p.block, .birth = p.birth, .level = p.level};
    memcpy(n.file_id, p.file_id, TREE_FILE_ID_BYTES);
    struct wire_reader r = wire_reader_over(bytes, p.header_len - NODE_SUM_BYTES);
    bool zero = node_read_fixed(&r, &n);
    rc = node_allocate(&n);
    if (rc == 0) {
        zero = node_read_tables(&r, &n) && zero;
        rc = zero && r.left == 0 ? node_check(&n) : -ERR_bad_value;
    }
    if (rc < 0) {
        tree_node_fini(&n);
        return rc;
    }
    *ret = n;
    return 0;
}

/* ---- parts ---- */

int tree_node_unpack(const struct tree_node_header *n, uint32_t i, const uint8_t *packed,
                     struct tree_codec *c, uint8_t *raw)
{
    CHECK(i < n->partition_count);
    const struct tree_partition *p = &n->partition[i];
    if (tree_sum(tree_node_seed(n, p->extent), packed, p->packed_len) != p->sum) {
        return -ERR_bad_crc;
    }
    return tree_codec_unpack(c, packed, p->packed_len, raw, p->raw_len);
}

int tree_node_unpack_pivots(const struct tree_node_header *n, const uint8_t *packed,
                            struct tree_codec *c, uint8_t *raw)
{
    if (tree_node_sum(n, n->birth, packed, n->pivots.packed_len) != n->pivots.sum) {
        return -ERR_bad_crc;
    }
    return tree_codec_unpack(c, packed, n->pivots.packed_len, raw, n->pivots.raw_len);
}

uint32_t tree_node_find(const struct tree_node_header *n, enum tree_partition_kind kind,
                        uint16_t slot, uint8_t run)
{
    uint32_t low = 0, high = n->partition_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (node_compare(&n->partition[middle], kind, slot, run) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/*
 * tree/node_fuzz.c -- any bytes as a node: a header that is probed and decoded, its pivots, filter
 * and partitions; and the same once more with every checksum made right on the way down, so that
 * what lies behind them is reached. An older extent is taken from the bytes behind the node's own.
 */
#include "tree/node.h"

#include "testing/replay.h"
#include "tree/node_open_rig_priv.h"
#include "wire/wire.h"

#define FUZZ_MAX (64u << 10)

/* The table says how long the header is. */
static void fix_header_len(uint8_t *bytes, size_t size)
{
    size_t len = TREE_NODE_FIXED_BYTES + wire_load_u16(bytes + 74) * TREE_NODE_PARTITION_BYTES +
                 bytes[76] * TREE_NODE_EXTENT_BYTES + 8u;
    if (len <= size) {
        wire_store_u32(bytes + 8, (uint32_t)len);
    }
}

static void fix_sum(uint8_t *at, const struct tree_node_probe *p, uint64_t birth,
                    struct kv_slice packed)
{
    wire_store_u64(at, tree_sum(tree_seed(p->file_id, p->block, birth), packed.at, packed.len));
}

/* The offset and length at `at` are those of a part between `start` and `end`. */
static bool inside(const uint8_t *bytes, size_t at, uint64_t start, uint64_t end,
                   struct kv_slice *ret)
{
    uint64_t offset = start + wire_load_u32(bytes + at), len = wire_load_u32(bytes + at + 4);
    if (offset + len > end) {
        return false;
    }
    *ret = kv_slice_of(bytes + offset, (size_t)len);
    return true;
}

/* From the leaves of the tree of checksums up to the header's own. */
static void fix_sums(uint8_t *bytes, size_t size, const struct tree_node_probe *p, size_t own_len)
{
    struct kv_slice part;
    uint32_t count = wire_load_u16(bytes + 74);
    const uint8_t *extents =
        bytes + TREE_NODE_FIXED_BYTES + (size_t)count * TREE_NODE_PARTITION_BYTES;
    if (inside(bytes, 80, 0, own_len, &part)) {
        fix_sum(bytes + 96, p, p->birth, part);
    }
    for (uint32_t i = 0; i < count; i++) {
        size_t at = TREE_NODE_FIXED_BYTES + i * TREE_NODE_PARTITION_BYTES;
        unsigned extent = bytes[at + 3];
        uint64_t start = extent == 0 ? 0 : own_len, end = extent == 0 ? own_len : size;
        if (extent <= bytes[76] && inside(bytes, at + 8, start, end, &part)) {
            uint64_t birth = p->birth;
            if (extent > 0) {
                birth = wire_load_u64(extents + (extent - (size_t)1) * TREE_NODE_EXTENT_BYTES + 8);
            }
            fix_sum(bytes + at + 24, p, birth, part);
        }
    }
    fix_sum(bytes + p->header_len - 8, p, p->birth, kv_slice_of(bytes, p->header_len - 8));
}

/* A node that is accepted is encoded to the same bytes. */
static void check_again(const struct tree_node_header *n, const uint8_t *bytes)
{
    struct tree_node_header copy = *n;
    uint8_t *out = mem_alloc(n->header_len);
    CHECK(out != NULL);
    CHECK(tree_node_layout(&copy) == 0 && copy.total_len == n->total_len);
    (void)tree_node_encode(&copy, out);
    CHECK(memcmp(out, bytes, n->header_len) == 0);
    mem_free(out);
}

static void read_node(uint8_t *bytes, size_t size, struct tree_codec *c)
{
    struct tree_node_probe p;
    struct tree_node_header n;
    if (tree_node_probe(bytes, size, &p) < 0) {
        return;
    }
    struct tree_node_expect x = {
        .file_id = p.file_id, .block = p.block, .birth = p.birth, .sum = p.sum};
    if (tree_node_decode(bytes, size, &x, &n) < 0) {
        return;
    }
    check_again(&n, bytes);
    size_t own = base_min(n.total_len, size);
    const struct open_rig_bytes parts = {.own = kv_slice_of(bytes, own),
                                         .older = kv_slice_of(bytes + own, size - own)};
    int rc = open_rig(&n, c, parts);
    CHECK(rc == 0 || err_is(rc, ERR_corrupt));
    tree_node_fini(&n);
}

/* Its memory is made once: that costs more than most inputs. */
static struct tree_codec *codec_once(void)
{
    static struct tree_codec c;
    if (c.unpacker == NULL) {
        CHECK(tree_codec_init(&c, NULL) == 0);
    }
    return &c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < TREE_NODE_FIXED_BYTES + 8 || size > FUZZ_MAX) {
        return 0;
    }
    uint8_t *bytes = mem_dup(data, size);
    CHECK(bytes != NULL);
    read_node(bytes, size, codec_once());
    struct tree_node_probe p;
    fix_header_len(bytes, size);
    int rc = tree_node_probe(bytes, size, &p);
    if (rc == 0 || rc == -ERR_bad_crc) {
        fix_sums(bytes, size, &p, (size_t)base_min(p.total_len, size));
        read_node(bytes, size, codec_once());
    }
    mem_free(bytes);
    return 0;
}

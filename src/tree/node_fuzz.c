/*
 * tree/node_fuzz.c -- any bytes as a node: a header that is probed and decoded, its pivots, filter
 * and partitions; and the same once more with every checksum made right on the way down, so that
 * what lies behind them is reached. An older extent is taken from the bytes behind the node's own.
 */
#include "tree/node.h"

#include "testing/replay.h"
#include "tree/node_fix_rig_priv.h"
#include "tree/node_open_rig_priv.h"

#define FUZZ_MAX (64u << 10)

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
    fix_rig_header_len(bytes, size);
    int rc = tree_node_probe(bytes, size, &p);
    if (rc == 0 || rc == -ERR_bad_crc) {
        fix_rig_sums(bytes, size, &p, (size_t)base_min(p.total_len, size));
        read_node(bytes, size, codec_once());
    }
    mem_free(bytes);
    return 0;
}

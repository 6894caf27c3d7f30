/* chunk/extent_fuzz.c -- any bytes as key, value, record of the journal of the `extent` engine. */
#include "base/mem.h"
#include "chunk/extent_format.h"
#include "testing/replay.h"

#include <string.h>

static void fuzz_keys(struct kv_slice s)
{
    struct chunk_key key;
    uint64_t slab = 0;
    uint32_t chain = 0;
    unsigned part = 0;
    if (chunk_key_part_decode(s, &key, &part) == 0) {
        struct chunk_index_key k = chunk_key_part(key, part);
        CHECK(kv_slice_compare(chunk_index_slice(&k), s) == 0);
    }
    if (chunk_key_mark_decode(s, CHUNK_MARK_CHAIN, &chain, &key) == 0) {
        struct chunk_index_key k = chunk_key_mark(CHUNK_MARK_CHAIN, chain, key);
        CHECK(kv_slice_compare(chunk_index_slice(&k), s) == 0);
    }
    CHECK(chunk_key_slab_decode(s, &slab) < 0 || slab < CHUNK_UNITS_MAX);
}

/* What is taken for a head is written again, and is that head. */
static void fuzz_head(struct kv_slice s)
{
    struct chunk_head *h = mem_zalloc(2 * sizeof *h);
    uint8_t *bytes = mem_alloc(CHUNK_HEAD_BYTES_MAX);
    if (h != NULL && bytes != NULL && chunk_head_decode(s, h) == 0) {
        size_t len = chunk_head_encode(h, bytes);
        CHECK(chunk_head_decode(kv_slice_of(bytes, len), h + 1) == 0);
        CHECK(h[0].last_ver == h[1].last_ver && h[0].has_pending == h[1].has_pending);
    }
    mem_free(h);
    mem_free(bytes);
}

static void fuzz_delta(const uint8_t *data, size_t size)
{
    struct chunk_delta *d = mem_zalloc(sizeof *d);
    uint32_t *crc = mem_calloc(CHUNK_CELLS_MAX, sizeof *crc);
    uint64_t *unit = mem_calloc(CHUNK_CELLS_MAX, sizeof *unit);
    struct chunk_delta_base none = {0};
    if (d != NULL && crc != NULL && unit != NULL) {
        CHECK(chunk_delta_decode(CHUNK_JOURNAL_CHANGE, data, size, d) <= 0);
        if (chunk_delta_decode(CHUNK_JOURNAL_UPDATE, data, size, d) == 0) {
            struct chunk_cells to = {.length = d->meta.length, .crc = crc, .unit = unit};
            CHECK(chunk_delta_apply(data, size, &none, d, &to) <= 0);
        }
        struct chunk_carried cell[CHUNK_CARRIED_MAX];
        int count = chunk_delta_carried(data, size, d, cell);
        for (int i = 0; i < count; i++) {
            CHECK(cell[i].len <= CHUNK_CELL && cell[i].bytes >= data);
            CHECK(cell[i].bytes + cell[i].len <= data + size);
        }
    }
    mem_free(d);
    mem_free(crc);
    mem_free(unit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kv_slice s = kv_slice_of(data, size);
    struct chunk_about about;
    uint32_t crc[CHUNK_GROUP];
    uint64_t unit[CHUNK_GROUP];
    fuzz_keys(s);
    fuzz_head(s);
    fuzz_delta(data, size);
    CHECK(chunk_about_decode(s, &about) <= 0);
    struct chunk_sum sum;
    uint32_t chain = 0;
    CHECK(chunk_sum_decode(s, &sum) <= 0);
    CHECK(chunk_key_sum_decode(s, &chain) <= 0);
    for (unsigned cells = 1; cells <= CHUNK_GROUP; cells++) {
        CHECK(chunk_group_decode(s, cells, crc, unit) <= 0);
    }
    static struct chunk_listed item[CHUNK_LIST_MAX];
    size_t count = 0;
    CHECK(chunk_list_decode(CHUNK_JOURNAL_COMMIT, data, size, item, &count) <= 0);
    CHECK(chunk_list_decode(CHUNK_JOURNAL_DELETE, data, size, item, &count) <= 0);
    return 0;
}

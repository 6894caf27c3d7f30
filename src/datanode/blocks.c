/*
 * datanode/blocks.c -- see blocks.h.
 *
 * The cache below knows a block by its chunk and its place there, so that there is at most one
 * content of it at a time. Which one stands in a note beside it, with its checksums.
 */
#include "datanode/blocks.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "base/stats.h"

#include <string.h>

#define BLOCKS_OF_CHUNK (CHUNK_LENGTH_MAX / DATANODE_STREAM_PART)

struct block_note {
    struct chunk_identity identity;
    uint32_t chunk_length, number;
    bool checked; /* against `crc` */
    uint32_t crc[DATANODE_BLOCK_CELLS];
};

struct datanode_blocks {
    struct disk_cache *cache;
    struct block_note *note; /* one for each block of its memory */
    const uint8_t *memory;
    struct mem_budget *budget;
    uint64_t charged_bytes; /* for the notes */
    struct stats *group;
    struct stats_counter hits, misses, hit_bytes, stale, bad;
};

_Static_assert(DATANODE_STREAM_PART % CHUNK_CELL == 0, "a block has whole cells");

/* ---- Names ---- */

static struct disk_cache_key block_key(struct chunk_key key, uint32_t number)
{
    return (struct disk_cache_key){.owner = key.data_id,
                                   .block = (uint64_t)key.index * BLOCKS_OF_CHUNK + number};
}

static struct block_note *block_note(const struct datanode_blocks *b,
                                     const struct disk_cache_hold *h)
{
    return &b->note[(size_t)(h->at - b->memory) / DATANODE_STREAM_PART];
}

/* Bytes that the chunk has of it. */
static uint32_t block_bytes(uint32_t chunk_length, uint32_t number)
{
    uint32_t from = number * DATANODE_STREAM_PART;
    return from >= chunk_length ? 0 : (uint32_t)base_min(chunk_length - from, DATANODE_STREAM_PART);
}

static bool note_fits(const struct block_note *n, const struct chunk_pin *pin, uint32_t number)
{
    uint32_t from = number * DATANODE_BLOCK_CELLS;
    uint32_t to = from + chunk_cells(block_bytes(pin->chunk_length, number));
    uint32_t first = (uint32_t)base_max(from, pin->first_cell);
    uint32_t end = (uint32_t)base_min(to, pin->first_cell + pin->crc_count);
    CHECK(first < end);
    return chunk_identity_equal(n->identity, pin->identity) &&
           n->chunk_length == pin->chunk_length &&
           memcmp(&n->crc[first - from], &pin->crc[first - pin->first_cell],
                  (end - first) * sizeof n->crc[0]) == 0;
}

static bool note_check(struct block_note *n, const uint8_t *at)
{
    uint32_t first = n->number * DATANODE_BLOCK_CELLS;
    uint32_t cells = chunk_cells(block_bytes(n->chunk_length, n->number));
    for (uint32_t i = 0; i < cells && !n->checked; i++) {
        uint32_t len = chunk_cell_bytes(n->chunk_length, first + i);
        if (crc32c(0, at + (size_t)i * CHUNK_CELL, len) != n->crc[i]) {
            return false;
        }
    }
    n->checked = true;
    return true;
}

/* ---- Blocks ---- */

bool datanode_blocks_get(struct datanode_blocks *b, const struct chunk_pin *pin, uint32_t number,
                         struct disk_cache_hold *ret)
{
    const struct disk_cache_key key = block_key(pin->key, number);
    struct disk_cache_hold h;
    if (!disk_cache_get(b->cache, key, &h)) {
        stats_count(&b->misses, 1);
        return false;
    }
    struct block_note *n = block_note(b, &h);
    bool fits = note_fits(n, pin, number);
    if (fits && note_check(n, h.at)) {
        stats_count(&b->hits, 1);
        *ret = h;
        return true;
    }
    stats_count(&b->misses, 1);
    stats_count(fits ? &b->bad : &b->stale, 1);
    disk_cache_forget(b->cache, key.owner, key.block, 1);
    disk_cache_release(b->cache, &h);
    return false;
}

int datanode_blocks_reserve(struct datanode_blocks *b, const struct chunk_pin *pin, uint32_t number,
                            struct disk_cache_hold *ret)
{
    CHECK(block_bytes(pin->chunk_length, number) > 0);
    return disk_cache_reserve(b->cache, block_key(pin->key, number), ret);
}

void datanode_blocks_fill(struct datanode_blocks *b, const struct chunk_pin *pin, uint32_t number,
                          struct disk_cache_hold *h)
{
    uint32_t bytes = block_bytes(pin->chunk_length, number);
    uint32_t cells = chunk_cells(bytes), first = number * DATANODE_BLOCK_CELLS;
    struct block_note *n = block_note(b, h);
    CHECK(first >= pin->first_cell && first + cells <= pin->first_cell + pin->crc_count);
    n->identity = pin->identity;
    n->chunk_length = pin->chunk_length;
    n->number = number;
    n->checked = false;
    memcpy(n->crc, &pin->crc[first - pin->first_cell], cells * sizeof n->crc[0]);
    disk_cache_fill(b->cache, h, bytes);
}

void datanode_blocks_release(struct datanode_blocks *b, struct disk_cache_hold *h)
{
    disk_cache_release(b->cache, h);
}

void datanode_blocks_served(struct datanode_blocks *b, uint64_t bytes)
{
    stats_count(&b->hit_bytes, bytes);
}

void datanode_blocks_forget(struct datanode_blocks *b, struct chunk_key key)
{
    if (b != NULL) {
        const struct disk_cache_key first = block_key(key, 0);
        disk_cache_forget(b->cache, first.owner, first.block, BLOCKS_OF_CHUNK);
    }
}

void *datanode_blocks_memory(const struct datanode_blocks *b, size_t *ret_len)
{
    return disk_cache_memory(b->cache, ret_len);
}

void datanode_blocks_info(const struct datanode_blocks *b, struct datanode_blocks_info *ret)
{
    struct disk_cache_info i;
    disk_cache_info(b->cache, &i);
    *ret = (struct datanode_blocks_info){.limit_bytes = i.limit_blocks * DATANODE_STREAM_PART,
                                         .bytes = i.blocks * DATANODE_STREAM_PART,
                                         .held = i.held,
                                         .hits = stats_counter_value(&b->hits),
                                         .misses = stats_counter_value(&b->misses),
                                         .hit_bytes = stats_counter_value(&b->hit_bytes),
                                         .stale = stats_counter_value(&b->stale),
                                         .bad = stats_counter_value(&b->bad)};
}

/* ---- Life ---- */

static int blocks_allocate(struct datanode_blocks *b, uint64_t limit_bytes)
{
    uint64_t notes = limit_bytes / DATANODE_STREAM_PART; /* more than there will be blocks */
    uint64_t note_bytes = notes * sizeof *b->note;
    if (limit_bytes < DATANODE_BLOCKS_MIN) {
        return -EINVAL;
    }
    if (b->budget != NULL && !mem_budget_take(b->budget, note_bytes)) {
        return -ENOMEM;
    }
    b->charged_bytes = note_bytes;
    b->note = mem_calloc(notes, sizeof *b->note);
    if (b->note == NULL) {
        return -ENOMEM;
    }
    const struct disk_cache_options opt = {.limit_bytes = limit_bytes - note_bytes,
                                           .block_bytes = DATANODE_STREAM_PART,
                                           .budget = b->budget};
    int rc = disk_cache_new(&opt, &b->cache);
    if (rc == 0) {
        size_t len;
        b->memory = disk_cache_memory(b->cache, &len);
        CHECK(len / DATANODE_STREAM_PART <= notes);
    }
    return rc;
}

int datanode_blocks_new(uint64_t limit_bytes, struct mem_budget *budget, struct stats *stats,
                        struct datanode_blocks **ret)
{
    struct datanode_blocks *b = mem_zalloc(sizeof *b);
    if (b == NULL) {
        return -ENOMEM;
    }
    b->budget = budget;
    b->group = stats == NULL ? NULL : stats_new(stats, "cache");
    stats_add_counter(b->group, "hits", &b->hits);
    stats_add_counter(b->group, "misses", &b->misses);
    stats_add_counter(b->group, "hit_bytes", &b->hit_bytes);
    stats_add_counter(b->group, "stale", &b->stale);
    stats_add_counter(b->group, "bad", &b->bad);
    int rc = blocks_allocate(b, limit_bytes);
    if (rc < 0) {
        datanode_blocks_free(b);
        return rc;
    }
    *ret = b;
    return 0;
}

struct datanode_blocks *datanode_blocks_free(struct datanode_blocks *b)
{
    if (b != NULL) {
        disk_cache_free(b->cache);
        if (b->budget != NULL) {
            mem_budget_give(b->budget, b->charged_bytes);
        }
        stats_free(b->group);
        mem_free(b->note);
        mem_free(b);
    }
    return NULL;
}

/* bench/tree/rocksdb.c -- RocksDB: LZ4, 10 bits of Bloom filter, no log; its defaults else. */
#include "engine.h"

#include <rocksdb/c.h>
#include <string.h>

#define ROCKSDB_BUFFER (32u << 20) /* of which there are two */

static struct {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_writeoptions_t *write;
    rocksdb_readoptions_t *read;
    rocksdb_writebatch_t *batch;
} rk;

static void rk_check(char *error, const char *what)
{
    if (error != NULL) {
        engine_die(what, error);
    }
}

static void rk_open(const char *directory, uint64_t cache_bytes, bool create)
{
    char *error = NULL;
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rk.options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(rk.options, create);
    rocksdb_options_set_compression(rk.options, rocksdb_lz4_compression);
    rocksdb_options_set_write_buffer_size(rk.options, ROCKSDB_BUFFER);
    rocksdb_options_set_max_write_buffer_number(rk.options, 2);
    rocksdb_options_set_max_background_jobs(rk.options, 2);
    rocksdb_options_set_max_open_files(rk.options, 500);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(rk.options, 1);
    uint64_t blocks = cache_bytes - UINT64_C(2) * ROCKSDB_BUFFER;
    rocksdb_block_based_options_set_block_cache(table, rocksdb_cache_create_lru(blocks));
    rocksdb_block_based_options_set_filter_policy(table,
                                                  rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_format_version(table, 5);
    rocksdb_options_set_block_based_table_factory(rk.options, table);
    rk.write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(rk.write, 1);
    rk.read = rocksdb_readoptions_create();
    rk.batch = rocksdb_writebatch_create();
    rk.db = rocksdb_open(rk.options, directory, &error);
    rk_check(error, "rocksdb_open");
}

static void rk_checkpoint(void)
{
    char *error = NULL;
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(options, 1);
    rocksdb_flush(rk.db, options, &error);
    rk_check(error, "rocksdb_flush");
    rocksdb_flushoptions_destroy(options);
}

static void rk_close(void)
{
    rk_checkpoint();
    rocksdb_close(rk.db);
}

static void rk_begin(void)
{
    rocksdb_writebatch_clear(rk.batch);
}

static void rk_put(struct kv_slice key, struct kv_slice value)
{
    rocksdb_writebatch_put(rk.batch, key.at, key.len, value.at, value.len);
}

static void rk_remove(struct kv_slice key)
{
    rocksdb_writebatch_delete(rk.batch, key.at, key.len);
}

static void rk_remove_range(struct kv_slice low, struct kv_slice high)
{
    rocksdb_writebatch_delete_range(rk.batch, low.at, low.len, high.at, high.len);
}

static void rk_end(void)
{
    char *error = NULL;
    rocksdb_write(rk.db, rk.write, rk.batch, &error);
    rk_check(error, "rocksdb_write");
}

static bool rk_get(struct kv_slice key, uint8_t *value, size_t *ret_len)
{
    char *error = NULL;
    rocksdb_pinnableslice_t *p = rocksdb_get_pinned(rk.db, rk.read, key.at, key.len, &error);
    rk_check(error, "rocksdb_get_pinned");
    if (p == NULL) {
        return false;
    }
    const char *at = rocksdb_pinnableslice_value(p, ret_len);
    CHECK(*ret_len <= ENGINE_VALUE_MAX);
    memcpy(value, at, *ret_len);
    rocksdb_pinnableslice_destroy(p);
    return true;
}

static void rk_scan(struct kv_slice from, bool (*see)(struct kv_slice key, struct kv_slice value))
{
    rocksdb_iterator_t *it = rocksdb_create_iterator(rk.db, rk.read);
    char *error = NULL;
    for (rocksdb_iter_seek(it, from.at, from.len); rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
        struct kv_slice key, value;
        key.at = rocksdb_iter_key(it, &key.len);
        value.at = rocksdb_iter_value(it, &value.len);
        if (!see(key, value)) {
            break;
        }
    }
    rocksdb_iter_get_error(it, &error);
    rk_check(error, "rocksdb_iter");
    rocksdb_iter_destroy(it);
}

const struct engine engine_rocksdb = {.name = "rocksdb",
                                      .open = rk_open,
                                      .close = rk_close,
                                      .begin = rk_begin,
                                      .put = rk_put,
                                      .remove = rk_remove,
                                      .end = rk_end,
                                      .get = rk_get,
                                      .scan = rk_scan,
                                      .checkpoint = rk_checkpoint,
                                      .remove_range = rk_remove_range};

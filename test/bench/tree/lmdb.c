/* bench/tree/lmdb.c -- LMDB: NOSYNC, NORDAHEAD, transactions of up to 1,000 changes. */
#include "engine.h"

#include <lmdb.h>
#include <pthread.h>
#include <string.h>

#define LMDB_MAP_BYTES (UINT64_C(64) << 30)
#define LMDB_CHANGES 1000u

static struct {
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *write, *read;
    unsigned changes;
} lm;

static void lm_check(int rc, const char *what)
{
    if (rc != 0) {
        engine_die(what, mdb_strerror(rc));
    }
}

static void lm_open(const char *directory, uint64_t cache_bytes, bool create)
{
    MDB_txn *t = NULL;
    (void)cache_bytes;
    (void)create;
    lm_check(mdb_env_create(&lm.env), "mdb_env_create");
    lm_check(mdb_env_set_mapsize(lm.env, LMDB_MAP_BYTES), "mdb_env_set_mapsize");
    lm_check(mdb_env_open(lm.env, directory, MDB_NOSYNC | MDB_NORDAHEAD | MDB_NOTLS, 0644),
             "mdb_env_open");
    lm_check(mdb_txn_begin(lm.env, NULL, 0, &t), "mdb_txn_begin");
    lm_check(mdb_dbi_open(t, NULL, MDB_CREATE, &lm.dbi), "mdb_dbi_open");
    lm_check(mdb_txn_commit(t), "mdb_txn_commit");
}

static void lm_commit(void)
{
    if (lm.write != NULL) {
        lm_check(mdb_txn_commit(lm.write), "mdb_txn_commit");
        lm.write = NULL;
        lm.changes = 0;
    }
}

/* From another thread as well. */
static void lm_sync(void)
{
    lm_check(mdb_env_sync(lm.env, 1), "mdb_env_sync");
}

static void lm_close(void)
{
    lm_commit();
    if (lm.read != NULL) {
        mdb_txn_abort(lm.read);
    }
    lm_sync();
    mdb_env_close(lm.env);
}

static void lm_begin(void)
{
    if (lm.read != NULL) {
        mdb_txn_abort(lm.read);
        lm.read = NULL;
    }
    if (lm.write == NULL) {
        lm_check(mdb_txn_begin(lm.env, NULL, 0, &lm.write), "mdb_txn_begin");
    }
}

static void lm_put(struct kv_slice key, struct kv_slice value)
{
    MDB_val k = {key.len, (void *)key.at}, v = {value.len, (void *)value.at};
    lm.changes++;
    lm_check(mdb_put(lm.write, lm.dbi, &k, &v, 0), "mdb_put");
}

static void lm_remove(struct kv_slice key)
{
    MDB_val k = {key.len, (void *)key.at};
    lm.changes++;
    int rc = mdb_del(lm.write, lm.dbi, &k, NULL);
    lm_check(rc == MDB_NOTFOUND ? 0 : rc, "mdb_del");
}

static void lm_end(void)
{
    if (lm.changes >= LMDB_CHANGES) {
        lm_commit();
    }
}

static MDB_txn *lm_reading(void)
{
    if (lm.write != NULL) {
        return lm.write;
    }
    if (lm.read == NULL) {
        lm_check(mdb_txn_begin(lm.env, NULL, MDB_RDONLY, &lm.read), "mdb_txn_begin");
    }
    return lm.read;
}

static bool lm_get(struct kv_slice key, uint8_t *value, size_t *ret_len)
{
    MDB_val k = {key.len, (void *)key.at}, v;
    int rc = mdb_get(lm_reading(), lm.dbi, &k, &v);
    if (rc == MDB_NOTFOUND) {
        return false;
    }
    lm_check(rc, "mdb_get");
    CHECK(v.mv_size <= ENGINE_VALUE_MAX);
    memcpy(value, v.mv_data, v.mv_size);
    *ret_len = v.mv_size;
    return true;
}

static void lm_scan(struct kv_slice from, bool (*see)(struct kv_slice key, struct kv_slice value))
{
    MDB_cursor *c = NULL;
    MDB_val k = {from.len, (void *)from.at}, v;
    lm_check(mdb_cursor_open(lm_reading(), lm.dbi, &c), "mdb_cursor_open");
    int rc = mdb_cursor_get(c, &k, &v, MDB_SET_RANGE);
    while (rc == 0 && see(kv_slice_of(k.mv_data, k.mv_size), kv_slice_of(v.mv_data, v.mv_size))) {
        rc = mdb_cursor_get(c, &k, &v, MDB_NEXT);
    }
    lm_check(rc == MDB_NOTFOUND ? 0 : rc, "mdb_cursor_get");
    mdb_cursor_close(c);
}

const struct engine engine_lmdb = {.name = "lmdb",
                                   .open = lm_open,
                                   .close = lm_close,
                                   .begin = lm_begin,
                                   .put = lm_put,
                                   .remove = lm_remove,
                                   .end = lm_end,
                                   .get = lm_get,
                                   .scan = lm_scan,
                                   .checkpoint = lm_sync};

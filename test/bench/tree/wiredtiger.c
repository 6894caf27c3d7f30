/* bench/tree/wiredtiger.c -- WiredTiger: a B-tree with pages of 16 KiB, snappy, no log. */
#include "engine.h"

#include <stdio.h>
#include <string.h>
#include <wiredtiger.h>

#define WT_SNAPPY "/usr/lib/x86_64-linux-gnu/libwiredtiger_snappy.so"

static struct {
    WT_CONNECTION *connection;
    WT_SESSION *session, *checkpoints;
    WT_CURSOR *cursor;
} wt;

static void wt_check(int rc, const char *what)
{
    if (rc != 0) {
        engine_die(what, wiredtiger_strerror(rc));
    }
}

static void wt_open(const char *directory, uint64_t cache_bytes, bool create)
{
    char config[1024];
    (void)snprintf(config, sizeof config,
                   "create,cache_size=%lluM,log=(enabled=false),eviction=(threads_min=1,"
                   "threads_max=2),extensions=[" WT_SNAPPY "]",
                   (unsigned long long)cache_bytes >> 20);
    wt_check(wiredtiger_open(directory, NULL, config, &wt.connection), "wiredtiger_open");
    WT_CONNECTION *c = wt.connection;
    wt_check(c->open_session(c, NULL, NULL, &wt.session), "open_session");
    wt_check(c->open_session(c, NULL, NULL, &wt.checkpoints), "open_session");
    if (create) {
        wt_check(wt.session->create(wt.session, "table:t",
                                    "key_format=u,value_format=u,block_compressor=snappy,"
                                    "leaf_page_max=16KB,internal_page_max=16KB"),
                 "create");
    }
    wt_check(wt.session->open_cursor(wt.session, "table:t", NULL, NULL, &wt.cursor), "open_cursor");
}

static void wt_checkpoint(void)
{
    wt_check(wt.checkpoints->checkpoint(wt.checkpoints, NULL), "checkpoint");
}

static void wt_close(void)
{
    wt_checkpoint();
    wt_check(wt.connection->close(wt.connection, NULL), "close");
}

static void wt_nothing(void)
{
}

static void wt_set_key(struct kv_slice key)
{
    WT_ITEM k = {.data = key.at, .size = key.len};
    wt.cursor->set_key(wt.cursor, &k);
}

static void wt_put(struct kv_slice key, struct kv_slice value)
{
    WT_ITEM v = {.data = value.at, .size = value.len};
    wt_set_key(key);
    wt.cursor->set_value(wt.cursor, &v);
    wt_check(wt.cursor->insert(wt.cursor), "insert");
}

static void wt_remove(struct kv_slice key)
{
    wt_set_key(key);
    int rc = wt.cursor->remove(wt.cursor);
    wt_check(rc == WT_NOTFOUND ? 0 : rc, "remove");
}

static bool wt_get(struct kv_slice key, uint8_t *value, size_t *ret_len)
{
    WT_ITEM v;
    wt_set_key(key);
    int rc = wt.cursor->search(wt.cursor);
    if (rc == 0) {
        wt_check(wt.cursor->get_value(wt.cursor, &v), "get_value");
        CHECK(v.size <= ENGINE_VALUE_MAX);
        memcpy(value, v.data, v.size);
        *ret_len = v.size;
    }
    wt_check(wt.cursor->reset(wt.cursor), "reset");
    wt_check(rc == WT_NOTFOUND ? 0 : rc, "search");
    return rc == 0;
}

static void wt_scan(struct kv_slice from, bool (*see)(struct kv_slice key, struct kv_slice value))
{
    int near = 0;
    wt_set_key(from);
    int rc = wt.cursor->search_near(wt.cursor, &near);
    if (rc == 0 && near < 0) {
        rc = wt.cursor->next(wt.cursor);
    }
    while (rc == 0) {
        WT_ITEM k, v;
        wt_check(wt.cursor->get_key(wt.cursor, &k), "get_key");
        wt_check(wt.cursor->get_value(wt.cursor, &v), "get_value");
        if (!see(kv_slice_of(k.data, k.size), kv_slice_of(v.data, v.size))) {
            break;
        }
        rc = wt.cursor->next(wt.cursor);
    }
    wt_check(rc == WT_NOTFOUND ? 0 : rc, "next");
    wt_check(wt.cursor->reset(wt.cursor), "reset");
}

const struct engine engine_wiredtiger = {.name = "wiredtiger",
                                         .open = wt_open,
                                         .close = wt_close,
                                         .begin = wt_nothing,
                                         .put = wt_put,
                                         .remove = wt_remove,
                                         .end = wt_nothing,
                                         .get = wt_get,
                                         .scan = wt_scan,
                                         .checkpoint = wt_checkpoint};

#include "tree/fetch_buffer_priv.h"

#define FETCH_KEPT_BYTES (512u << 10)
#define FETCH_KEPT_SHARE 64u /* at most this part of the cache */

void tree_fetch_buffers_init(struct fetch_buffers *x, struct tree_cache *cache)
{
    struct tree_cache_info info;
    tree_cache_info(cache, &info);
    *x = (struct fetch_buffers){
        .cache = cache, .kept_limit = base_min(info.limit / FETCH_KEPT_SHARE, FETCH_KEPT_BYTES)};
}

static void buffer_free(struct fetch_buffers *x, struct fetch_buffer b)
{
    tree_cache_put(x->cache, b.bytes, b.size);
    tree_cache_give(x->cache, b.size);
}

void tree_fetch_buffers_fini(struct fetch_buffers *x)
{
    while (x->kept_count > 0) {
        buffer_free(x, x->kept[--x->kept_count]);
    }
    x->kept_bytes = 0;
}

void tree_fetch_buffer_put(struct fetch_buffers *x, struct fetch_buffer b)
{
    if (x->kept_count == FETCH_KEPT_MAX || b.size > x->kept_limit - x->kept_bytes) {
        buffer_free(x, b);
        return;
    }
    x->kept[x->kept_count++] = b;
    x->kept_bytes += b.size;
}

static bool buffer_take(struct fetch_buffers *x, size_t size, struct fetch_buffer *ret)
{
    for (size_t i = x->kept_count; i > 0; i--) {
        struct fetch_buffer b = x->kept[i - 1];
        if (b.size >= size && b.size / 4 <= size) {
            x->kept[i - 1] = x->kept[--x->kept_count];
            x->kept_bytes -= b.size;
            *ret = b;
            return true;
        }
    }
    return false;
}

static bool buffer_charge(const struct fetch_buffers *x, uint64_t bytes)
{
    if (tree_cache_charge(x->cache, bytes)) {
        return true;
    }
    struct tree_cache_info info;
    tree_cache_info(x->cache, &info);
    bool may = x->beyond > 0 && info.used + bytes <= info.limit + x->beyond;
    if (may) {
        tree_cache_force(x->cache, bytes);
    }
    return may;
}

int tree_fetch_buffer_get(struct fetch_buffers *x, size_t size, uint64_t cost,
                          struct fetch_buffer *ret)
{
    struct fetch_buffer b = {.size = size};
    if (buffer_take(x, size, &b)) {
        if (buffer_charge(x, cost)) {
            *ret = b;
            return 0;
        }
        buffer_free(x, b);
        b.size = size;
    }
    if (!tree_cache_charge(x->cache, size + cost)) {
        tree_fetch_buffers_fini(x);
        if (!buffer_charge(x, size + cost)) {
            return -ENOMEM;
        }
    }
    b.bytes = tree_cache_get(x->cache, size);
    if (b.bytes == NULL) {
        tree_cache_give(x->cache, size + cost);
        return -ENOMEM;
    }
    *ret = b;
    return 0;
}

/*
 * datanode/item.c -- chunks in use. An item exists while somebody uses it; it carries the chunk's
 * lock (FIFO, bounded), the pending mark and the readers that wait for it.
 *
 * The lock is held for all of an update: from its acceptance until it is committed or dropped. So
 * whoever gets it finds no pending update of this process, and the record as it is.
 */
#include "datanode/worker_priv.h"

static bool item_equal(const struct dict_node *node, const void *key)
{
    const struct datanode_item *it =
        (const struct datanode_item *)(const void *)((const char *)node -
                                                     offsetof(struct datanode_item, node));
    return chunk_key_compare(it->key, *(const struct chunk_key *)key) == 0;
}

static void item_dropped(struct dict_node *node, void *owner)
{
    (void)owner;
    mem_free(container_of(node, struct datanode_item, node));
}

const struct dict_ops datanode_item_ops = {.equal = item_equal, .dropped = item_dropped};

static uint64_t item_hash(const struct datanode_worker *w, struct chunk_key key)
{
    uint64_t mixed = key.data_id ^ ((uint64_t)key.index << 40);
    return dict_hash_u64(&w->items, mixed);
}

unsigned datanode_slot_of(struct chunk_key key)
{
    uint64_t x = (key.data_id + key.index) * UINT64_C(0x9e3779b97f4a7c15);
    return 1 + (unsigned)((x >> 32) % DATANODE_SLOTS);
}

struct datanode_item *datanode_item_find(struct datanode_worker *w, struct chunk_key key)
{
    struct dict_node *node = dict_find(&w->items, item_hash(w, key), &key);
    return node == NULL ? NULL : container_of(node, struct datanode_item, node);
}

struct datanode_item *datanode_item_get(struct datanode_worker *w, struct datanode_chain *c,
                                        struct chunk_key key)
{
    struct datanode_item *it = datanode_item_find(w, key);
    if (it != NULL) {
        it->users++;
        return it;
    }
    it = mem_zalloc(sizeof *it);
    if (it == NULL) {
        return NULL;
    }
    it->worker = w;
    it->key = key;
    it->chain = c;
    it->users = 1;
    list_init(&it->queue);
    list_init(&it->readers);
    list_init(&it->on_chain);
    if (dict_insert(&w->items, item_hash(w, key), &it->node) < 0) {
        mem_free(it);
        return NULL;
    }
    list_push_back(&c->items, &it->on_chain);
    return it;
}

void datanode_item_put(struct datanode_item *it)
{
    CHECK(it->users > 0);
    it->users--;
    if (it->users > 0) {
        return;
    }
    CHECK(!it->locked && !it->held && it->update == NULL && it->queue_count == 0 &&
          it->reader_count == 0);
    dict_remove(&it->worker->items, &it->node);
    list_remove(&it->on_chain);
    mem_free(it);
}

bool datanode_item_unsettled(struct datanode_worker *w, const struct chunk_info *info)
{
    const struct datanode_item *it = datanode_item_find(w, info->key);
    return (it != NULL && it->marked) || info->has_pending;
}

bool datanode_item_try_lock(struct datanode_item *it)
{
    if (it->locked || it->queue_count > 0) {
        return false;
    }
    it->locked = true;
    return true;
}

static void item_grant(struct datanode_item *it)
{
    if (it->draining || it->loading) {
        return; /* the loop below, further up the stack, goes on; or the end of the reading */
    }
    it->draining = true;
    it->users++;
    while (!it->locked && it->queue_count > 0) {
        struct datanode_wait *next =
            LIST_ENTRY(list_pop_front(&it->queue), struct datanode_wait, node);
        it->queue_count--;
        it->locked = true;
        next->granted(next);
        datanode_item_put(it); /* the waiter's, taken by datanode_item_lock() */
    }
    it->draining = false;
    if (it->held && !it->locked) {
        it->held = false;
        chunk_store_let_go(it->worker->store, &it->hold);
    }
    datanode_item_put(it);
}

/* If there was no memory for it, whoever gets the lock is told when it looks. */
static void item_held(struct chunk_hold *h, int rc)
{
    struct datanode_item *it = container_of(h, struct datanode_item, hold);
    it->loading = false;
    it->held = rc == 0;
    item_grant(it);
    datanode_item_put(it);
}

/* False: it is being read. */
static bool item_known(struct datanode_item *it)
{
    if (it->held || it->loading) {
        return it->held;
    }
    it->hold = (struct chunk_hold){.done = item_held, .key = it->key};
    int rc = chunk_store_hold(it->worker->store, &it->hold);
    it->held = rc == 0;
    if (rc != -ERR_need) {
        return true;
    }
    it->loading = true;
    it->users++;
    chunk_store_hold_wait(it->worker->store, &it->hold);
    return false;
}

int datanode_item_lock(struct datanode_item *it, struct datanode_wait *wait)
{
    if (item_known(it) && datanode_item_try_lock(it)) {
        return 1;
    }
    if (it->queue_count >= DATANODE_ITEM_QUEUE) {
        return -ERR_busy;
    }
    it->queue_count++;
    it->users++;
    list_push_back(&it->queue, &wait->node);
    return 0;
}

void datanode_item_unlock(struct datanode_item *it)
{
    CHECK(it->locked && it->update == NULL);
    it->locked = false;
    item_grant(it);
}

static void readers_settle(struct datanode_item *it)
{
    it->users++;
    struct list told;
    list_init(&told);
    list_splice_back(&told, &it->readers);
    while (!list_empty(&told)) {
        struct datanode_reader *r = LIST_ENTRY(list_pop_front(&told), struct datanode_reader, node);
        it->reader_count--;
        r->settled(r);
    }
    datanode_item_put(it);
}

void datanode_item_mark(struct datanode_item *it, bool marked)
{
    it->marked = marked;
    if (!marked) {
        readers_settle(it);
    }
}

void datanode_item_readers_fail(struct datanode_item *it)
{
    readers_settle(it);
}

int datanode_item_wait_read(struct datanode_item *it, struct datanode_reader *r)
{
    if (it->reader_count >= DATANODE_ITEM_READERS) {
        return -ERR_busy;
    }
    it->reader_count++;
    list_push_back(&it->readers, &r->node);
    return 0;
}

void datanode_item_unwait_read(struct datanode_item *it, struct datanode_reader *r)
{
    list_remove(&r->node);
    it->reader_count--;
}

/*
 * Beyond the limit a chunk is remembered only while it is in use otherwise. R10 alone keeps a late
 * COPY out then: it comes on a link that is dead, or waits in front of the newer FORWARD.
 */
void datanode_item_touch(struct datanode_item *it, uint32_t epoch)
{
    if (it->touched == 0 && it->worker->touched_count < DATANODE_TOUCHED_MAX) {
        it->worker->touched_count++;
        it->users++;
        it->touch_held = true;
    }
    it->touched = epoch;
}

void datanode_item_untouch(struct datanode_item *it)
{
    bool held = it->touch_held;
    it->touched = 0;
    it->touch_held = false;
    if (held) {
        it->worker->touched_count--;
        datanode_item_put(it);
    }
}

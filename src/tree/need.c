/*
 * tree/need.c -- see need.h.
 *
 * id[0]: the block (48 bits) above the low 16 bits of the version. id[1]: the number of the
 * partition (32 bits), what kind of item it is (2 bits), the next 30 bits of the version. Items
 * that are only kept have no name: their id is the kind alone, so that no name is ever equal to it.
 */
#include "tree/need.h"

#include "base/mem.h"

#define VERSION_LOW_BITS 16u
#define VERSION_HIGH_BITS 30u
#define VERSION_LIMIT (UINT64_C(1) << (VERSION_LOW_BITS + VERSION_HIGH_BITS))
#define KEEP_LOOK_BACK 16u

enum need_kind {
    NEED_NAMED, /* missing, or what has been fetched since */
    NEED_PART,
    NEED_NODE,
    NEED_ROOM,
};

struct need_room {
    struct tree_cache *cache;
    size_t size; /* of all of it */
    uint8_t bytes[];
};

static enum need_kind need_kind(const struct kv_need_item *item)
{
    return (enum need_kind)(item->id[1] >> VERSION_HIGH_BITS & 3U);
}

static void need_set_kind(struct kv_need_item *item, enum need_kind kind)
{
    item->id[0] = 0;
    item->id[1] = (uint64_t)kind << VERSION_HIGH_BITS;
}

struct tree_need_name tree_need_name(const struct kv_need_item *item)
{
    CHECK(need_kind(item) == NEED_NAMED);
    uint64_t low = item->id[0] & ((UINT64_C(1) << VERSION_LOW_BITS) - 1);
    uint64_t high = item->id[1] & ((UINT64_C(1) << VERSION_HIGH_BITS) - 1);
    return (struct tree_need_name){.block = item->id[0] >> VERSION_LOW_BITS,
                                   .version = high << VERSION_LOW_BITS | low,
                                   .part = (uint32_t)(item->id[1] >> 32)};
}

/* The pin that an item of a name holds has a kind of its own. */
static enum need_kind need_pin_kind(const struct kv_need_item *item)
{
    enum need_kind kind = need_kind(item);
    if (kind != NEED_NAMED) {
        return kind;
    }
    return tree_need_name(item).part == TREE_NEED_HEAD ? NEED_NODE : NEED_PART;
}

int tree_need_miss(const struct tree_need_from *from, const struct tree_need_name *name)
{
    CHECK(from->need != NULL);
    CHECK(name->block < TREE_BLOCK_LIMIT && name->version < VERSION_LIMIT);
    uint64_t id0 =
        name->block << VERSION_LOW_BITS | (name->version & ((UINT64_C(1) << VERSION_LOW_BITS) - 1));
    uint64_t id1 = (uint64_t)name->part << 32 | name->version >> VERSION_LOW_BITS;
    /* It was fetched before, and what is pinned is not what the node has now: the head has been
     * away. What was read from it stays lent, but it is to be fetched again. */
    struct kv_need_item *item = kv_need_find(from->need, id0, id1);
    if (item != NULL && item->pin != NULL) {
        need_set_kind(item, need_pin_kind(item));
    }
    int rc = kv_need_add(from->need, from->kv, id0, id1);
    return rc < 0 ? rc : -ERR_need;
}

/* ---- what is kept ---- */

static int need_append(const struct tree_need_from *from, enum need_kind kind, void *pin)
{
    struct kv_need *need = from->need;
    CHECK(need != NULL && (need->kv == NULL || need->kv == from->kv));
    if (need->count >= KV_NEED_MAX) {
        return -ENOBUFS;
    }
    if (mem_grow(&need->item, &need->capacity, need->count + 1, sizeof *need->item) < 0) {
        return -ENOMEM;
    }
    need->kv = from->kv;
    struct kv_need_item *item = &need->item[need->count++];
    *item = (struct kv_need_item){.pin = pin};
    need_set_kind(item, kind);
    return 0;
}

/* Does one of the newest items hold the same pin? Many reads of one place need one. */
static bool need_has(const struct kv_need *need, const void *pin)
{
    size_t end = need->count > KEEP_LOOK_BACK ? need->count - KEEP_LOOK_BACK : 0;
    for (size_t i = need->count; i > end; i--) {
        if (need->item[i - 1].pin == pin) {
            return true;
        }
    }
    return false;
}

int tree_need_keep_part(const struct tree_need_from *from, struct tree_part *pinned)
{
    CHECK(from->need != NULL);
    if (need_has(from->need, pinned)) {
        tree_part_unpin(pinned);
        return 0;
    }
    return need_append(from, NEED_PART, pinned);
}

int tree_need_keep_node(const struct tree_need_from *from, struct tree_node *pinned)
{
    CHECK(from->need != NULL);
    if (need_has(from->need, pinned)) {
        tree_node_unpin(pinned);
        return 0;
    }
    return need_append(from, NEED_NODE, pinned);
}

static void need_room_free(struct need_room *room)
{
    struct tree_cache *cache = room->cache;
    size_t size = room->size;
    tree_cache_put(cache, room, size);
    tree_cache_give(cache, size);
}

uint8_t *tree_need_room(const struct tree_need_from *from, struct tree_cache *cache, size_t len)
{
    size_t size = sizeof(struct need_room) + len;
    struct need_room *room = tree_cache_get(cache, size);
    if (room == NULL) {
        return NULL;
    }
    *room = (struct need_room){.cache = cache, .size = size};
    tree_cache_force(cache, size);
    if (need_append(from, NEED_ROOM, room) < 0) {
        need_room_free(room);
        return NULL;
    }
    return room->bytes;
}

void tree_need_unpin(struct kv_need_item *item)
{
    switch (need_pin_kind(item)) {
    case NEED_PART:
        tree_part_unpin(item->pin);
        break;
    case NEED_NODE:
        tree_node_unpin(item->pin);
        break;
    case NEED_ROOM:
        need_room_free(item->pin);
        break;
    case NEED_NAMED:
        CHECK(false && "a pin has a kind");
    }
    item->pin = NULL;
}

/* ---- what was fetched ---- */

void tree_need_set_part(struct kv_need_item *item, struct tree_part *pinned)
{
    CHECK(item->pin == NULL && tree_need_name(item).part != TREE_NEED_HEAD);
    item->pin = pinned;
}

void tree_need_set_node(struct kv_need_item *item, struct tree_node *pinned)
{
    CHECK(item->pin == NULL && tree_need_name(item).part == TREE_NEED_HEAD);
    item->pin = pinned;
}

/*
 * tree/compact.c -- see compact.h.
 *
 * The sources stand in a heap by key. Beside each lie the first eight bytes of its key as a number,
 * so that most comparisons touch nothing else. Those that stand on the least key are the top of the
 * heap: what they say is folded from new to old, and they stay there until the next call, for they
 * lend what is shown. The deleted ranges of all sources are cut into one list at the beginning;
 * keys ascend, so a cursor in it says what covers them.
 */
#include "tree/compact.h"

#include <string.h>

#include "base/mem.h"
#include "tree/source_set_priv.h"
#include "wire/wire.h"

#define COMPACT_RANGES_MAX (PTRDIFF_MAX / 2) /* bytes of keys: what the sources have bounds it */

struct compact_slot {
    uint64_t head; /* of the key it stands on */
    struct tree_source *source;
};

/* A message that is shown may lie in one of its rooms; the next result goes into the other. */
struct compact_rooms {
    struct tree_room room[2];
    uint8_t next;
};

struct compact_key {
    uint64_t head;
    size_t len;
    uint8_t bytes[KV_KEY_MAX];
};

struct tree_compact {
    size_t count, heap_count;
    bool placed;
    struct source_set group; /* sources that stand on the key: */
    size_t group_count;
    unsigned words; /* of it */
    struct kv_slice key;
    struct tree_message *message; /* owned; newest first */
    struct compact_rooms *rooms;  /* owned, one for each message */
    size_t message_count, message_capacity, rooms_count, rooms_capacity;
    struct mem_arena arena;         /* keys of ranges */
    struct tree_ranges_item *range; /* owned */
    size_t range_count, range_at;
    struct compact_key low, high;
    uint8_t heap[TREE_SOURCES_MAX];
    struct compact_slot slot[]; /* count */
};

/* Keys are in the order of their heads, where these differ. */
static uint64_t compact_head(struct kv_slice key)
{
    const uint8_t *at = key.at;
    if (key.len >= 8) {
        return __builtin_bswap64(wire_load_u64(at));
    }
    uint64_t head = 0;
    for (size_t i = 0; i < key.len; i++) {
        head |= (uint64_t)at[i] << (56 - 8 * i);
    }
    return head;
}

static void compact_key_set(struct compact_key *k, struct kv_slice from)
{
    CHECK(from.len <= KV_KEY_MAX);
    k->len = from.len;
    k->head = compact_head(from);
    if (from.len > 0) {
        memcpy(k->bytes, from.at, from.len);
    }
}

static struct kv_slice compact_slice(const struct compact_key *k)
{
    return kv_slice_of(k->bytes, k->len);
}

/* ---- deleted ranges ---- */

struct compact_gather {
    struct tree_ranges_item *item; /* owned */
    size_t count, capacity;
};

static int compact_copy(struct tree_compact *c, struct kv_slice key, struct kv_slice *ret)
{
    if (key.len == 0) {
        *ret = kv_slice_of("", 0);
        return 0;
    }
    const void *at = mem_arena_dup(&c->arena, key.at, key.len);
    *ret = kv_slice_of(at, key.len);
    return at == NULL ? -ENOMEM : 0;
}

/* Clipped to the bounds. 1: there may be more behind it. */
static int compact_gather_one(struct tree_compact *c, const struct tree_range *r,
                              struct compact_gather *g)
{
    struct kv_slice low = compact_slice(&c->low), high = compact_slice(&c->high);
    if (high.len > 0 && kv_slice_compare(r->low, high) >= 0) {
        return 0;
    }
    bool last = high.len > 0 && (r->high.len == 0 || kv_slice_compare(high, r->high) <= 0);
    bool first = kv_slice_compare(r->low, low) < 0;
    struct tree_ranges_item item = {.msn = r->msn};
    CHECK(last || r->high.len > 0);
    int rc = compact_copy(c, first ? low : r->low, &item.low);
    if (rc == 0) {
        rc = compact_copy(c, last ? high : r->high, &item.high);
    }
    if (rc == 0) {
        rc = mem_grow(&g->item, &g->capacity, g->count + 1, sizeof g->item[0]);
    }
    if (rc < 0) {
        return rc;
    }
    g->item[g->count++] = item;
    return last ? 0 : 1;
}

static int compact_gather(struct tree_compact *c, struct tree_source *s, struct compact_gather *g)
{
    struct kv_slice from = compact_slice(&c->low);
    struct tree_range range = {0};
    int rc = s->ops->range(s, from, &range);
    while (rc == 1) {
        rc = compact_gather_one(c, &range, g);
        if (rc == 1) {
            from = g->item[g->count - 1].high;
            rc = s->ops->range(s, from, &range);
        }
    }
    return rc;
}

static int compact_ranges(struct tree_compact *c)
{
    struct compact_gather g = {0};
    struct tree_fragment_live nobody = {0};
    int rc = 0;
    for (size_t i = 0; i < c->count && rc == 0; i++) {
        struct tree_source *s = c->slot[i].source;
        rc = s->has_ranges ? compact_gather(c, s, &g) : 0;
    }
    if (rc == 0 && g.count > 0) {
        rc = tree_fragment(g.item, g.count, nobody, &c->range, &c->range_count);
    }
    mem_free(g.item);
    return rc;
}

/* The number that covers the key; keys ascend. */
static uint64_t compact_cover(struct tree_compact *c, struct kv_slice key)
{
    while (c->range_at < c->range_count) {
        const struct tree_ranges_item *r = &c->range[c->range_at];
        if (kv_slice_compare(key, r->high) < 0) {
            return kv_slice_compare(r->low, key) <= 0 ? r->msn : 0;
        }
        c->range_at++;
    }
    return 0;
}

const struct tree_ranges_item *tree_compact_ranges(const struct tree_compact *c, size_t *ret_count)
{
    *ret_count = c->range_count;
    return c->range;
}

/* ---- making ---- */

int tree_compact_new(const struct tree_compact_options *opt, struct tree_compact **ret)
{
    CHECK(opt->count <= TREE_SOURCES_MAX);
    CLEANUP(tree_compact_freep)
    struct tree_compact *c = mem_alloc(sizeof *c + opt->count * sizeof c->slot[0]);
    if (c == NULL) {
        return -ENOMEM;
    }
    memset(c, 0, offsetof(struct tree_compact, low)); /* what follows is set before it is read */
    mem_arena_init(&c->arena, COMPACT_RANGES_MAX);
    c->count = opt->count;
    c->words = source_set_words(opt->count);
    compact_key_set(&c->low, opt->low);
    compact_key_set(&c->high, opt->high);
    for (size_t i = 0; i < c->count; i++) {
        c->slot[i] = (struct compact_slot){.source = opt->sources[i]};
    }
    int rc = compact_ranges(c);
    if (rc < 0) {
        return rc;
    }
    *ret = c;
    c = NULL;
    return 0;
}

struct tree_compact *tree_compact_free(struct tree_compact *c)
{
    if (c != NULL) {
        for (size_t i = 0; i < c->rooms_count; i++) {
            tree_room_fini(&c->rooms[i].room[0]);
            tree_room_fini(&c->rooms[i].room[1]);
        }
        mem_free(c->rooms);
        mem_free(c->message);
        mem_free(c->range);
        mem_arena_fini(&c->arena);
        mem_free(c);
    }
    return NULL;
}

/* ---- the heap ---- */

static int heap_order(const struct tree_compact *c, size_t a, size_t b)
{
    const struct compact_slot *left = &c->slot[a], *right = &c->slot[b];
    if (left->head != right->head) {
        return left->head < right->head ? -1 : 1;
    }
    return kv_slice_compare(left->source->key, right->source->key);
}

static void heap_down(struct tree_compact *c, size_t at)
{
    uint8_t moved = c->heap[at];
    for (size_t child = 2 * at + 1; child < c->heap_count; child = 2 * at + 1) {
        if (child + 1 < c->heap_count && heap_order(c, c->heap[child + 1], c->heap[child]) < 0) {
            child++;
        }
        if (heap_order(c, c->heap[child], moved) >= 0) {
            break;
        }
        c->heap[at] = c->heap[child];
        at = child;
    }
    c->heap[at] = moved;
}

static void heap_build(struct tree_compact *c)
{
    for (size_t i = c->heap_count / 2; i > 0; i--) {
        heap_down(c, i - 1);
    }
}

/* All that stand on the key of the first: they are the top of the heap. */
static void heap_group(struct tree_compact *c)
{
    uint8_t open[TREE_SOURCES_MAX];
    size_t open_count = 1;
    source_set_clear(&c->group, c->words);
    source_set_add(&c->group, c->heap[0]);
    c->group_count = 1;
    open[0] = 0;
    while (open_count > 0) {
        size_t at = open[--open_count];
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < c->heap_count; child++) {
            if (heap_order(c, c->heap[child], c->heap[0]) == 0) {
                source_set_add(&c->group, c->heap[child]);
                c->group_count++;
                open[open_count++] = (uint8_t)child;
            }
        }
    }
}

static int compact_place(struct tree_compact *c)
{
    for (size_t i = 0; i < c->count; i++) {
        struct compact_slot *slot = &c->slot[i];
        int rc = slot->source->ops->seek(slot->source, compact_slice(&c->low));
        if (rc < 0) {
            return rc;
        }
        if (rc == 1) {
            slot->head = compact_head(slot->source->key);
            c->heap[c->heap_count++] = (uint8_t)i;
        }
    }
    heap_build(c);
    c->placed = true;
    return 0;
}

/* Those that stand on the key go on; each comes up as the first when its turn has come. */
static int compact_leave(struct tree_compact *c)
{
    while (c->group_count > 0) {
        size_t first = c->heap[0];
        struct compact_slot *slot = &c->slot[first];
        int rc = slot->source->ops->next(slot->source);
        if (rc < 0) {
            return rc;
        }
        CHECK(source_set_has(&c->group, first));
        source_set_remove(&c->group, first);
        c->group_count--;
        if (rc == 1) {
            slot->head = compact_head(slot->source->key);
        } else {
            c->heap[0] = c->heap[--c->heap_count];
        }
        if (c->heap_count > 1) {
            heap_down(c, 0);
        }
    }
    return 0;
}

/* ---- folding ---- */

static int fold_push(struct tree_compact *c, const struct tree_message *m)
{
    size_t need = c->message_count + 1;
    if (need > TREE_PENDING_MAX) {
        return -E2BIG;
    }
    if (mem_grow(&c->message, &c->message_capacity, need, sizeof c->message[0]) < 0 ||
        mem_grow(&c->rooms, &c->rooms_capacity, need, sizeof c->rooms[0]) < 0) {
        return -ENOMEM;
    }
    if (need > c->rooms_count) {
        c->rooms[c->rooms_count++] = (struct compact_rooms){0};
    }
    c->message[c->message_count++] = *m;
    return 0;
}

/* An older message on message i. 1: they are one; 0: they do not fold. */
static int fold_into(struct tree_compact *c, size_t i, const struct tree_message *older)
{
    struct tree_message result = {0};
    struct compact_rooms *rooms = &c->rooms[i];
    int rc = tree_message_combine(&c->message[i], older, &rooms->room[rooms->next], &result);
    if (rc == 1) {
        c->message[i] = result;
        rooms->next ^= 1;
    }
    return rc;
}

static bool fold_is_last(const struct tree_message *m)
{
    return m->type == TREE_PUT || m->type == TREE_DELETE;
}

/* 1: nothing older counts; 0: more may follow. */
static int fold_take(struct tree_compact *c, const struct tree_message *m)
{
    int rc = 0;
    if (m->type == TREE_RANGE_DELETE) {
        return -ERR_bad_value; /* no message of one key; a source read it somewhere */
    }
    if (m->type == TREE_NOTE) {
        return 0;
    }
    if (c->message_count > 0) {
        rc = fold_into(c, c->message_count - 1, m);
    }
    if (rc == 0) {
        rc = fold_push(c, m);
    }
    if (rc < 0 || !fold_is_last(&c->message[c->message_count - 1])) {
        return rc < 0 ? rc : 0;
    }
    while (c->message_count > 1) { /* what is known from here on makes the upserts values */
        rc = fold_into(c, c->message_count - 2, &c->message[c->message_count - 1]);
        if (rc < 0) {
            return rc;
        }
        CHECK(rc == 1);
        c->message_count--;
    }
    return 1;
}

/* All that a source says. 1: nothing older counts. */
static int fold_source(struct tree_compact *c, struct tree_source *s, uint64_t cover)
{
    int rc = 1;
    while (rc == 1) {
        if (s->message.msn < cover) {
            return 1;
        }
        int last = fold_take(c, &s->message);
        if (last != 0) {
            return last;
        }
        rc = s->ops->older(s);
    }
    return rc;
}

static int compact_fold(struct tree_compact *c)
{
    uint64_t cover = compact_cover(c, c->key);
    int last = 0;
    c->message_count = 0;
    struct source_set todo = c->group;
    for (size_t n = 0; n < c->group_count && last == 0; n++) {
        size_t i = source_set_first(&todo, c->words);
        source_set_remove(&todo, i);
        last = fold_source(c, c->slot[i].source, cover);
    }
    if (last < 0 || c->message_count == 0 || cover == 0) {
        return last < 0 ? last : 0;
    }
    if (!fold_is_last(&c->message[c->message_count - 1])) {
        struct tree_message nothing = {.type = TREE_DELETE, .msn = cover};
        last = fold_take(c, &nothing);
    }
    return last < 0 ? last : 0;
}

/* ---- moving ---- */

static bool compact_beyond(const struct tree_compact *c, uint64_t head, struct kv_slice key)
{
    if (c->high.len == 0 || head < c->high.head) {
        return false;
    }
    return head > c->high.head || kv_slice_compare(key, compact_slice(&c->high)) >= 0;
}

int tree_compact_next(struct tree_compact *c)
{
    int rc = c->placed ? 0 : compact_place(c);
    do {
        if (rc == 0) {
            rc = compact_leave(c);
        }
        if (rc < 0) {
            return rc;
        }
        if (c->heap_count == 0) {
            return 0;
        }
        const struct compact_slot *first = &c->slot[c->heap[0]];
        c->key = first->source->key;
        if (compact_beyond(c, first->head, c->key)) {
            return 0;
        }
        heap_group(c);
        rc = compact_fold(c);
    } while (rc == 0 && c->message_count == 0);
    return rc < 0 ? rc : 1;
}

struct kv_slice tree_compact_key(const struct tree_compact *c)
{
    CHECK(c->group_count > 0);
    return c->key;
}

const struct tree_message *tree_compact_messages(const struct tree_compact *c, size_t *ret_count)
{
    CHECK(c->message_count > 0);
    *ret_count = c->message_count;
    return c->message;
}

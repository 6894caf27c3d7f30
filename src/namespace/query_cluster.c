#include "namespace/query.h"

#include <string.h>

/* What the leader looks up for itself, and what all processes know: lists, the cluster map. */

#define NAMESPACE_STATFS_BLOCK 4096u
/* Of a page of the map: tables, and chains that they name (256 KiB of a message of 1 MiB). */
#define NAMESPACE_MAP_TABLES 64u
#define NAMESPACE_MAP_CHAINS 65536u

/* Appends to arrays that grow in the arena: numbers of the keys and decoded values. */
struct namespace_list {
    const struct proto_type *type; /* NULL: the values are not decoded */
    size_t id_offset, max, capacity, count;
    bool wide; /* ids are u64 */
    uint64_t *ids;
    uint8_t *values; /* elements of type->size */
    bool more;
};

static int namespace_list_room(const struct namespace_view *v, struct namespace_list *l)
{
    if (l->count < l->capacity) {
        return 0;
    }
    size_t capacity = l->capacity == 0 ? 16 : 2 * l->capacity;
    size_t size = l->type == NULL ? 0 : l->type->size;
    uint64_t *ids = mem_arena_alloc(v->arena, capacity * sizeof *ids);
    uint8_t *values = mem_arena_alloc(v->arena, capacity * size + 1);
    if (ids == NULL || values == NULL) {
        return -ENOMEM;
    }
    if (l->count > 0) {
        memcpy(ids, l->ids, l->count * sizeof *ids);
        memcpy(values, l->values, l->count * size);
    }
    l->ids = ids;
    l->values = values;
    l->capacity = capacity;
    return 0;
}

static int namespace_list_add(const struct namespace_view *v, struct namespace_list *l,
                              const struct namespace_scan *scan)
{
    int rc = namespace_list_room(v, l);
    if (rc < 0) {
        return rc;
    }
    struct kv_slice key = scan->it->key;
    l->ids[l->count] = l->wide ? namespace_key_read_u64(key, l->id_offset)
                               : namespace_key_read_u32(key, l->id_offset);
    if (l->type != NULL) {
        void *value = l->values + l->count * l->type->size;
        struct kv_slice from = scan->it->value;
        void *copy = mem_arena_dup(v->arena, from.at, from.len + (from.len == 0 ? 1 : 0));
        rc = copy == NULL ? -ENOMEM : proto_decode(l->type, copy, from.len, v->arena, value);
    }
    l->count += rc == 0 ? 1 : 0;
    return rc;
}

static int namespace_list_fill(const struct namespace_view *v, const struct namespace_key *prefix,
                               const struct namespace_key *from, struct namespace_list *l)
{
    struct namespace_scan scan;
    l->id_offset = prefix->len;
    int rc = namespace_scan_init_long(&scan, v, prefix, from, l->max + 1);
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        l->more = l->count >= l->max;
        if (l->more) {
            break;
        }
        rc = namespace_list_add(v, l, &scan);
    }
    namespace_scan_fini(&scan);
    return rc < 0 ? rc : 0;
}

/* Of the records behind `prefix`, those with a u64 above `after`. */
static int namespace_list_u64(const struct namespace_view *v, const struct namespace_key *prefix,
                              uint64_t after, struct namespace_list *l)
{
    struct namespace_key from = *prefix;
    l->wide = true;
    if (after == UINT64_MAX) {
        return 0;
    }
    namespace_key_add_u64(&from, after + 1);
    return namespace_list_fill(v, prefix, after == 0 ? prefix : &from, l);
}

#define NAMESPACE_LIST_OF(tag, ret, l)                                                 \
    *(ret) = (struct namespace_##tag##s)                                               \
    {                                                                                  \
        .ids = (l).ids, .at = (void *)(l).values, .count = (l).count, .more = (l).more \
    }
#define NAMESPACE_DEFINE_LIST(tag, prefix_, after)                           \
    struct namespace_key prefix = prefix_;                                   \
    struct namespace_list l = {.type = &namespace_##tag##_type, .max = max}; \
    int rc = namespace_list_u64(v, &prefix, after, &l);                      \
    NAMESPACE_LIST_OF(tag, ret, l);                                          \
    return rc

int namespace_sessions(const struct namespace_view *v, uint64_t after, size_t max,
                       struct namespace_sessions *ret)
{
    NAMESPACE_DEFINE_LIST(session, namespace_key(NAMESPACE_SESSION), after);
}

int namespace_fences(const struct namespace_view *v, uint64_t after_session, size_t max,
                     struct namespace_fences *ret)
{
    NAMESPACE_DEFINE_LIST(fence, namespace_key(NAMESPACE_FENCE), after_session);
}

int namespace_trims(const struct namespace_view *v, uint64_t after_ino, size_t max,
                    struct namespace_trims *ret)
{
    NAMESPACE_DEFINE_LIST(trim, namespace_key(NAMESPACE_TRIM), after_ino);
}

int namespace_garbages(const struct namespace_view *v, uint64_t after_data_id, size_t max,
                       struct namespace_garbages *ret)
{
    NAMESPACE_DEFINE_LIST(garbage, namespace_key(NAMESPACE_GARBAGE), after_data_id);
}

int namespace_leaps(const struct namespace_view *v, uint64_t after_data_id, size_t max,
                    struct namespace_leaps *ret)
{
    NAMESPACE_DEFINE_LIST(leap, namespace_key(NAMESPACE_LEAP), after_data_id);
}

int namespace_suspects(const struct namespace_view *v, uint64_t after_data_id, size_t max,
                       struct namespace_suspects *ret)
{
    NAMESPACE_DEFINE_LIST(suspect, namespace_key(NAMESPACE_SUSPECT), after_data_id);
}

int namespace_view_audit(const struct namespace_view *v, struct namespace_audit *ret)
{
    struct namespace_key key = namespace_key(NAMESPACE_AUDIT);
    return NAMESPACE_GET(v, &key, namespace_audit, ret);
}

int namespace_writers(const struct namespace_view *v, uint64_t ino, uint64_t after_session,
                      size_t max, struct namespace_wopens *ret)
{
    NAMESPACE_DEFINE_LIST(wopen, namespace_key_u64(NAMESPACE_WOPEN, ino), after_session);
}

/* 1: a dead writer's trim is pending. */
int namespace_view_fenced(const struct namespace_view *v, uint64_t ino)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_TRIM, ino);
    struct namespace_trim t;
    int rc = NAMESPACE_GET(v, &key, namespace_trim, &t);
    return rc == 1 && t.fence_epoch == 0 ? 0 : rc;
}

int namespace_view_trimming(const struct namespace_view *v, uint64_t ino)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_TRIM, ino);
    struct namespace_trim t;
    return NAMESPACE_GET(v, &key, namespace_trim, &t);
}

static int namespace_unflushed(const struct namespace_view *v, uint64_t ino,
                               struct namespace_sharing *ret)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_WOPEN, ino);
    struct namespace_scan scan;
    int rc = namespace_scan_init(&scan, v, &prefix, NULL);
    while (rc == 0 && ret->holder == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        struct namespace_wopen w;
        uint64_t session = namespace_key_read_u64(scan.it->key, 9);
        rc = namespace_scan_value(&scan, &namespace_wopen_type, &w);
        ret->holder = rc == 0 && w.unflushed ? session : 0;
        ret->alone = rc == 0 && w.mode == PROTO_OPEN_W ? session : ret->alone;
    }
    namespace_scan_fini(&scan);
    return rc;
}

int namespace_sharing(const struct namespace_view *v, uint64_t ino, struct namespace_sharing *ret)
{
    struct namespace_inode n;
    *ret = (struct namespace_sharing){0};
    int rc = namespace_view_inode(v, ino, &n);
    int trims = namespace_view_trimming(v, ino);
    rc = namespace_view_both(rc, trims < 0 ? trims : 0);
    rc = namespace_view_both(rc, namespace_unflushed(v, ino, ret));
    if (rc < 0) {
        return rc;
    }
    ret->trimming = trims == 1;
    ret->size = n.size;
    ret->data_version = n.data_version;
    return 0;
}

int namespace_keepers(const struct namespace_view *v, uint64_t ino, uint64_t after_session,
                      size_t max, struct namespace_orphans *ret)
{
    NAMESPACE_DEFINE_LIST(orphan, namespace_key_u64(NAMESPACE_ORPHAN, ino), after_session);
}

int namespace_session_wopens(const struct namespace_view *v, uint64_t session, uint64_t after_ino,
                             size_t max, struct namespace_wopens *ret)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_SESSION_WOPEN, session);
    struct namespace_list l = {.max = max};
    int rc = namespace_list_u64(v, &prefix, after_ino, &l);
    struct namespace_wopen *at = mem_arena_alloc(v->arena, l.count * sizeof *at + 1);
    rc = rc == 0 && at == NULL ? -ENOMEM : rc;
    int needs = 0;
    for (size_t i = 0; rc == 0 && i < l.count; i++) {
        struct namespace_key key = namespace_key_u64s(NAMESPACE_WOPEN, l.ids[i], session);
        int found = NAMESPACE_GET(v, &key, namespace_wopen, &at[i]);
        needs = found == -ERR_need ? found : needs;
        rc = found == 0 ? -EUCLEAN : found < 0 && found != -ERR_need ? found : 0;
    }
    *ret = (struct namespace_wopens){.ids = l.ids, .at = at, .count = l.count, .more = l.more};
    return rc < 0 ? rc : needs;
}

int namespace_session_orphans(const struct namespace_view *v, uint64_t session, uint64_t after_ino,
                              size_t max, struct namespace_orphans *ret)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_SESSION_ORPHAN, session);
    struct namespace_list l = {.max = max};
    int rc = namespace_list_u64(v, &prefix, after_ino, &l);
    struct namespace_orphan *at = mem_arena_alloc(v->arena, l.count * sizeof *at + 1);
    rc = rc == 0 && at == NULL ? -ENOMEM : rc;
    int needs = 0;
    for (size_t i = 0; rc == 0 && i < l.count; i++) {
        struct namespace_key key = namespace_key_u64s(NAMESPACE_ORPHAN, l.ids[i], session);
        int found = NAMESPACE_GET(v, &key, namespace_orphan, &at[i]);
        needs = found == -ERR_need ? found : needs;
        rc = found == 0 ? -EUCLEAN : found < 0 && found != -ERR_need ? found : 0;
    }
    *ret = (struct namespace_orphans){.ids = l.ids, .at = at, .count = l.count, .more = l.more};
    return rc < 0 ? rc : needs;
}

static int namespace_found(int rc)
{
    return rc == 0 ? -ENOENT : rc < 0 ? rc : 0;
}

int namespace_view_session(const struct namespace_view *v, uint64_t session,
                           struct namespace_session *ret)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_SESSION, session);
    return namespace_found(NAMESPACE_GET(v, &key, namespace_session, ret));
}

int namespace_view_target(const struct namespace_view *v, uint32_t id, struct proto_target *ret)
{
    struct namespace_key key = namespace_key(NAMESPACE_TARGET);
    namespace_key_add_u32(&key, id);
    return namespace_found(NAMESPACE_GET(v, &key, proto_target, ret));
}

int namespace_view_target_of(const struct namespace_view *v, const struct uuid *uuid,
                             struct proto_target *ret)
{
    struct namespace_key key = namespace_key(NAMESPACE_TARGET_UUID);
    struct namespace_id id;
    namespace_key_add_bytes(&key, proto_bytes_of(uuid->bytes, sizeof uuid->bytes));
    int rc = namespace_found(NAMESPACE_GET(v, &key, namespace_id, &id));
    return rc < 0 ? rc : namespace_view_target(v, (uint32_t)id.id, ret);
}

int namespace_view_row(const struct namespace_view *v, uint32_t chain, struct proto_row *ret)
{
    struct namespace_key key = namespace_key(NAMESPACE_ROW);
    namespace_key_add_u32(&key, chain);
    return namespace_found(NAMESPACE_GET(v, &key, proto_row, ret));
}

static struct namespace_key namespace_table_key(uint32_t class_id, uint32_t version)
{
    struct namespace_key key = namespace_key(NAMESPACE_TABLE);
    namespace_key_add_u32(&key, class_id);
    namespace_key_add_u32(&key, version);
    return key;
}

int namespace_view_table(const struct namespace_view *v, uint32_t class_id, uint32_t version,
                         struct proto_table *ret)
{
    struct namespace_key key = namespace_table_key(class_id, version);
    return namespace_found(NAMESPACE_GET(v, &key, proto_table, ret));
}

#define NAMESPACE_DEFINE_MAP(tag, range)                                  \
    struct namespace_key prefix = namespace_key(range), from = prefix;    \
    struct namespace_list l = {.type = &tag##_type, .max = max};          \
    namespace_key_add_u32(&from, first);                                  \
    int rc = namespace_list_fill(v, &prefix, &from, &l);                  \
    *ret = (struct tag##_list){.at = (void *)l.values, .count = l.count}; \
    return rc

int namespace_targets(const struct namespace_view *v, uint32_t first, size_t max,
                      struct proto_target_list *ret)
{
    NAMESPACE_DEFINE_MAP(proto_target, NAMESPACE_TARGET);
}

int namespace_rows(const struct namespace_view *v, uint32_t first, size_t max,
                   struct proto_row_list *ret)
{
    NAMESPACE_DEFINE_MAP(proto_row, NAMESPACE_ROW);
}

int namespace_classes(const struct namespace_view *v, uint32_t first, size_t max,
                      struct proto_storage_class_list *ret)
{
    NAMESPACE_DEFINE_MAP(proto_storage_class, NAMESPACE_CLASS);
}

/* From `first` on (class and version as one number), as many as a page of the map has room for;
 * *ret_next: the first one behind them, 0: there is none. */
static int namespace_tables(const struct namespace_view *v, uint64_t first,
                            struct proto_table_list *ret, uint64_t *ret_next)
{
    struct namespace_key prefix = namespace_key(NAMESPACE_TABLE);
    struct namespace_key from = namespace_table_key((uint32_t)(first >> 32), (uint32_t)first);
    struct namespace_list l = {.type = &proto_table_type, .max = NAMESPACE_MAP_TABLES};
    int rc = namespace_list_fill(v, &prefix, &from, &l);
    const struct proto_table *table = (void *)l.values;
    size_t count = 0, chains = 0;
    while (count < l.count &&
           (count == 0 || chains + table[count].chains.count <= NAMESPACE_MAP_CHAINS)) {
        chains += table[count++].chains.count;
    }
    *ret = (struct proto_table_list){.at = (void *)l.values, .count = count};
    *ret_next = 0;
    if (count < l.count) {
        *ret_next = (uint64_t)table[count].class_id << 32 | table[count].version;
    } else if (l.more) {
        const struct proto_table *last = &table[count - 1];
        *ret_next = ((uint64_t)last->class_id << 32 | last->version) + 1;
    }
    return rc;
}

/* Ascending, each once; at most 64, so that inserting is quick. */
static void namespace_chains_add(struct proto_u32s *l, uint32_t chain)
{
    size_t i = l->count;
    while (i > 0 && l->at[i - 1] > chain) {
        i--;
    }
    if (i > 0 && l->at[i - 1] == chain) {
        return;
    }
    memmove(l->at + i + 1, l->at + i, (l->count - i) * sizeof *l->at);
    l->at[i] = chain;
    l->count++;
}

/* The stored table is read in place: decoding 16,384 numbers for each of 1,024 files is too much.
 */
int namespace_layout_chains(const struct namespace_view *v, const struct proto_layout *layout,
                            struct proto_u32s *ret)
{
    struct namespace_key key = namespace_table_key(layout->class_id, layout->table_version);
    struct kv_slice value;
    uint32_t width = (uint32_t)base_min(layout->stripe_width, 64);
    int rc = namespace_found(namespace_view_get_bytes(v, &key, &value));
    struct proto_u32s l = {.at = mem_arena_alloc(v->arena, ((size_t)width + 1) * sizeof *l.at)};
    if (rc < 0 || l.at == NULL) {
        return rc < 0 ? rc : -ENOMEM;
    }
    struct wire_reader r = wire_reader_over(value.at, value.len);
    (void)wire_read_u32(&r); /* class, version */
    (void)wire_read_u32(&r);
    uint32_t count = wire_read_u32(&r);
    const uint8_t *chains = wire_read_bytes(&r, (size_t)count * 4);
    if (chains == NULL || count == 0) {
        return -ERR_short_msg;
    }
    for (uint32_t i = 0; i < width; i++) {
        size_t at = ((uint64_t)layout->seed + i) % count;
        namespace_chains_add(&l, wire_load_u32(chains + 4 * at));
    }
    *ret = l;
    return 0;
}

int namespace_garbage_chains(const struct namespace_view *v, const struct namespace_garbage *g,
                             struct proto_u32s *ret)
{
    if (g->chains.count > 0) {
        *ret = g->chains;
        return 0;
    }
    return namespace_layout_chains(v, &g->layout, ret);
}

int namespace_statfs(const struct namespace_view *v, struct proto_statfs_reply *ret)
{
    struct namespace_state s;
    struct proto_target_list targets;
    *ret = (struct proto_statfs_reply){0};
    int a = namespace_view_state(v, &s);
    int b = namespace_targets(v, 0, 8192, &targets);
    int rc = namespace_view_both(a, b);
    if (rc < 0) {
        return rc;
    }
    struct proto_storage_class c;
    rc = namespace_view_class(v, 0, &c);
    if (rc < 0 && rc != -ENOENT) {
        return rc;
    }
    uint64_t copies = rc == 0 ? c.copies : 1; /* what users see is what they can store */
    for (size_t i = 0; i < targets.count; i++) {
        ret->total += targets.at[i].total;
        ret->free += targets.at[i].free;
        ret->available += targets.at[i].weight > 0 ? targets.at[i].free : 0;
    }
    ret->total /= copies;
    ret->free /= copies;
    ret->available /= copies;
    ret->files = s.inodes;
    ret->trash_files = s.trash_files;
    ret->trash_bytes = s.trash_bytes;
    ret->files_free = (uint64_t)INT64_MAX - s.next_ino;
    ret->block_size = NAMESPACE_STATFS_BLOCK;
    ret->name_max = PROTO_NAME_MAX;
    return 0;
}

/* Classes and targets are without limits of their own: all that the message holds. */
static int namespace_map_head(const struct namespace_view *v, struct proto_cluster_map_reply *ret)
{
    int a = namespace_classes(v, 0, 256, &ret->classes);
    int b = namespace_tables(v, 0, &ret->tables, &ret->next_table);
    int c = namespace_targets(v, 0, 8192, &ret->targets);
    return namespace_view_both(namespace_view_both(a, b), c);
}

int namespace_cluster_map(const struct namespace_view *v, const struct proto_cluster_map_request *q,
                          size_t max_rows, struct proto_cluster_map_reply *ret)
{
    struct namespace_state s;
    *ret = (struct proto_cluster_map_reply){0};
    int rc = namespace_view_state(v, &s);
    if (rc < 0) {
        return rc;
    }
    ret->epoch = s.map_epoch;
    ret->default_class = s.default_class;
    if (q->known_epoch == s.map_epoch && q->first_chain == 0) {
        return 0;
    }
    if (q->first_table > 0) {
        ret->more = true;
        ret->next_chain = q->first_chain;
        return namespace_tables(v, q->first_table, &ret->tables, &ret->next_table);
    }
    int head = q->first_chain == 0 ? namespace_map_head(v, ret) : 0;
    rc = namespace_rows(v, q->first_chain, base_min(max_rows, 16384) + 1, &ret->rows);
    rc = namespace_view_both(head, rc);
    if (rc == 0 && ret->rows.count > base_min(max_rows, 16384)) {
        ret->rows.count--;
        ret->more = true;
        ret->next_chain = ret->rows.at[ret->rows.count].chain;
    } else if (rc == 0 && ret->next_table > 0) { /* all chains are here, and not all tables */
        ret->more = true;
        ret->next_chain = UINT32_MAX;
    }
    return rc;
}

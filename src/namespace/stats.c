#include "namespace/stats_priv.h"

/*
 * Recursive statistics of directories, exact at all times. A command's effect is what its inodes
 * were and what they are in the end; it is added to the record of each directory above them by
 * blind upserts, one for each directory. The records name their parents, so that walking up reads
 * nothing else.
 *
 * What has no name counts nowhere. A file with several names counts once, at the one that its inode
 * says. A directory that moves takes the sums of its record along.
 */

#define NAMESPACE_STARTS_MAX ((size_t)3 * NAMESPACE_PLAN_INODES)
#define NAMESPACE_STATS_BYTES 56u
enum namespace_stats_offset { /* of the fields of namespace_dir_stats */
                              NAMESPACE_AT_PARENT = 0,
                              NAMESPACE_AT_FLAGS = 8,
                              NAMESPACE_AT_FILES = 16,
                              NAMESPACE_AT_DIRECTORIES = 24,
                              NAMESPACE_AT_BYTES = 32,
                              NAMESPACE_AT_NEWEST = 40,
                              NAMESPACE_AT_HEIGHT = 48,
};

/* What a directory and all above it get. Numbers are differences, modulo 2^64. */
struct namespace_delta {
    uint64_t files, directories, bytes;
    uint64_t want_files, want_bytes; /* of it (files: and directories) what a quota may refuse */
    uint64_t height; /* the lowest of them has at least so many levels below it; 0: as it was */
};
struct namespace_node { /* a directory on a way up */
    uint64_t ino;
    struct namespace_dir_stats stats; /* as they were; without quota: parent and flags only */
};
struct namespace_way { /* from where something changed up to the root */
    struct namespace_delta delta;
    uint64_t start;
    struct namespace_node *node; /* in the arena */
    size_t count, capacity;
};
struct namespace_ways {
    struct namespace_way at[NAMESPACE_STARTS_MAX];
    size_t count;
    bool moves; /* a directory has another parent than before */
};

static uint64_t namespace_stats_time(const struct namespace_plan *p)
{
    return p->now_ns > 0 ? (uint64_t)p->now_ns : 0;
}

static int namespace_stats_upsert(struct namespace_plan *p, uint64_t ino,
                                  const struct kv_field *fields, size_t count)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_DIR_STATS, ino);
    return kv_batch_upsert(p->batch, namespace_key_slice(&key), NAMESPACE_STATS_BYTES, fields,
                           count);
}

int namespace_stats_put_new(struct namespace_plan *p, uint64_t ino, uint64_t parent)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_DIR_STATS, ino);
    struct namespace_dir_stats s = {.parent = parent, .newest_ns = namespace_stats_time(p)};
    return NAMESPACE_PUT(p, &key, namespace_dir_stats, &s);
}

int namespace_stats_add_flags(struct namespace_plan *p, uint64_t ino, uint64_t difference)
{
    struct kv_field add = {NAMESPACE_AT_FLAGS, KV_FIELD_ADD, difference};
    p->flags_changed = true;
    return namespace_stats_upsert(p, ino, &add, 1);
}

/* A directory without statistics is damage: each gets them when it is made. */
static int namespace_stats_get(const struct namespace_plan *p, uint64_t ino,
                               struct namespace_dir_stats *ret)
{
    int rc = namespace_view_dir_stats(&p->view, ino, ret);
    return rc == -ENOENT ? -EUCLEAN : rc;
}

bool namespace_stats_is_home(const struct namespace_held *h, uint64_t parent,
                             struct proto_bytes name)
{
    return (h->inode.flags & PROTO_INODE_LINKED) == 0 ||
           (h->inode.parent == parent && proto_bytes_equal(h->inode.name, name));
}

int namespace_stats_new_home(struct namespace_plan *p, struct namespace_held *h)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_LINK, h->ino);
    struct namespace_scan scan;
    bool found = false;
    int rc = namespace_scan_init(&scan, &p->view, &prefix, NULL);
    while (rc == 0 && !found && (rc = namespace_scan_next(&scan)) == 1) {
        struct kv_slice key = scan.it->key;
        uint64_t parent = namespace_key_read_u64(key, 9);
        const uint8_t *name = (const uint8_t *)key.at + 17;
        CHECK(key.len > 17);
        found = !namespace_stats_is_home(h, parent, proto_bytes_of(name, key.len - 17));
        rc = 0;
        if (found) {
            uint8_t *copy = mem_arena_dup(p->view.arena, name, key.len - 17);
            rc = copy == NULL ? -ENOMEM : 0;
            h->inode.parent = parent;
            h->inode.name = proto_bytes_of(copy, key.len - 17);
        }
    }
    namespace_scan_fini(&scan);
    return rc < 0 ? rc : found ? 0 : -EUCLEAN;
}

/* ---- what has changed ---- */

static void namespace_ways_add(struct namespace_ways *w, uint64_t start,
                               const struct namespace_delta *d)
{
    size_t i = 0;
    while (i < w->count && w->at[i].start != start) {
        i++;
    }
    CHECK(i < NAMESPACE_STARTS_MAX);
    if (i == w->count) {
        w->at[w->count++] = (struct namespace_way){.start = start};
    }
    struct namespace_delta *sum = &w->at[i].delta;
    sum->files += d->files;
    sum->directories += d->directories;
    sum->bytes += d->bytes;
    sum->want_files += d->want_files;
    sum->want_bytes += d->want_bytes;
    sum->height = base_max(sum->height, d->height);
}

static void namespace_ways_subtract(struct namespace_ways *w, uint64_t start,
                                    const struct namespace_delta *d)
{
    struct namespace_delta minus = {.files = 0 - d->files,
                                    .directories = 0 - d->directories,
                                    .bytes = 0 - d->bytes,
                                    .want_files = 0 - d->want_files,
                                    .want_bytes = 0 - d->want_bytes};
    namespace_ways_add(w, start, &minus);
}

static void namespace_ways_file(struct namespace_ways *w, const struct namespace_held *h)
{
    const struct namespace_inode *n = &h->inode;
    struct namespace_delta before = {
        .files = 1, .bytes = h->size_before, .want_files = 1, .want_bytes = h->size_free};
    struct namespace_delta after = {
        .files = 1, .bytes = n->size, .want_files = 1, .want_bytes = n->size};
    struct namespace_delta claim = {.want_files = 1, .want_bytes = n->size};
    if (h->nlink_before > n->nlink && n->nlink > 0) { /* removing is never refused */
        after.want_files = 0;
        after.want_bytes = 0;
    }
    if (h->nlink_before > 0) {
        namespace_ways_subtract(w, h->parent_before, &before);
    }
    if (n->nlink > 0) {
        namespace_ways_add(w, n->parent, &after);
    }
    if (h->claim != 0) {
        namespace_ways_subtract(w, n->parent, &claim);
        namespace_ways_add(w, h->claim, &claim);
    }
}

/* It changes its parent and the sums of those above, not its own. */
static int namespace_ways_moved(struct namespace_plan *p, struct namespace_ways *w,
                                const struct namespace_held *h)
{
    struct namespace_dir_stats s;
    int rc = namespace_stats_get(p, h->ino, &s);
    if (rc < 0) {
        return rc;
    }
    struct namespace_delta tree = {.files = s.files,
                                   .directories = s.directories + 1,
                                   .bytes = s.bytes,
                                   .want_files = s.files + s.directories + 1,
                                   .want_bytes = s.bytes,
                                   .height = s.height + 1};
    struct kv_field fields[] = {
        {NAMESPACE_AT_PARENT, KV_FIELD_ADD, h->inode.parent - h->parent_before},
        {NAMESPACE_AT_NEWEST, KV_FIELD_MAX, namespace_stats_time(p)}};
    w->moves = true;
    namespace_ways_subtract(w, h->parent_before, &tree);
    namespace_ways_add(w, h->inode.parent, &tree);
    return namespace_stats_upsert(p, h->ino, fields, ARRAY_COUNT(fields));
}

static int namespace_stats_remove(struct namespace_plan *p, uint64_t ino)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_DIR_STATS, ino);
    struct namespace_dir_stats s;
    int rc = namespace_stats_get(p, ino, &s);
    bool quota = rc == 0 && (s.flags & NAMESPACE_STATS_QUOTA) != 0;
    rc = quota ? namespace_quota_drop(p, ino) : rc;
    return rc < 0 ? rc : namespace_plan_delete(p, &key);
}

static int namespace_ways_dir(struct namespace_plan *p, struct namespace_ways *w,
                              const struct namespace_held *h)
{
    struct namespace_delta one = {.directories = 1, .want_files = 1, .height = 1}, none = {0};
    if (h->removed) {
        namespace_ways_subtract(w, h->parent_before, &one);
        return namespace_stats_remove(p, h->ino);
    }
    if (h->parent_before == 0) {
        namespace_ways_add(w, h->inode.parent, &one);
        return namespace_stats_put_new(p, h->ino, h->inode.parent);
    }
    if (h->inode.parent != h->parent_before) {
        return namespace_ways_moved(p, w, h);
    }
    namespace_ways_add(w, h->ino, &none);
    return 0;
}

static int namespace_ways_collect(struct namespace_plan *p, struct namespace_ways *w)
{
    int rc = 0, needs = 0;
    for (size_t i = 0; i < p->held_count && rc == 0; i++) {
        const struct namespace_held *h = &p->held[i];
        if (!h->touched && !h->removed) {
            CHECK(h->inode.size == h->size_before);
            continue;
        }
        if (namespace_inode_is_dir(&h->inode)) {
            rc = namespace_plan_go_on(&needs, namespace_ways_dir(p, w, h));
        } else {
            namespace_ways_file(w, h);
        }
    }
    return namespace_view_both(rc, needs);
}

/* ---- the ways up ---- */

/* The records say where a directory was before the command. */
static uint64_t namespace_ways_parent(const struct namespace_plan *p,
                                      const struct namespace_ways *w,
                                      const struct namespace_node *n)
{
    for (size_t i = 0; w->moves && i < p->held_count; i++) {
        if (p->held[i].ino == n->ino) {
            return p->held[i].inode.parent;
        }
    }
    return n->stats.parent;
}

bool namespace_plan_knows_parent(const struct namespace_plan *p, uint64_t ino, uint64_t *ret)
{
    const struct namespace_memory *m = p->memory != NULL ? p->memory : p->known;
    return m != NULL && namespace_memory_parent(m, ino, ret);
}

/* Of one without quota only the way up is wanted, which is mostly known. */
static int namespace_way_step(const struct namespace_plan *p, uint64_t ino,
                              struct namespace_node *ret)
{
    ret->ino = ino;
    ret->stats = (struct namespace_dir_stats){0};
    if (namespace_plan_knows_parent(p, ino, &ret->stats.parent)) {
        return 0;
    }
    int rc = namespace_stats_get(p, ino, &ret->stats);
    if (rc == 0 && ret->stats.flags == 0 && p->memory != NULL) {
        namespace_memory_put_dir(p->memory, ino, ret->stats.parent);
    }
    return rc;
}

static int namespace_way_push(struct namespace_plan *p, struct namespace_way *way, uint64_t ino)
{
    if (way->count == way->capacity) {
        size_t capacity = way->capacity == 0 ? 16 : 2 * way->capacity;
        struct namespace_node *node = mem_arena_alloc(p->view.arena, capacity * sizeof *node);
        if (node == NULL) {
            return -ENOMEM;
        }
        if (way->count > 0) {
            memcpy(node, way->node, way->count * sizeof *node);
        }
        way->node = node;
        way->capacity = capacity;
    }
    int rc = namespace_way_step(p, ino, &way->node[way->count]);
    way->count += rc == 0 ? 1 : 0;
    return rc;
}

static int namespace_way_walk(struct namespace_plan *p, const struct namespace_ways *w,
                              struct namespace_way *way)
{
    uint64_t ino = way->start;
    int rc = namespace_way_push(p, way, ino);
    while (rc == 0 && ino != PROTO_ROOT_INO) {
        ino = namespace_ways_parent(p, w, &way->node[way->count - 1]);
        rc = way->count > NAMESPACE_DEPTH_MAX ? -EUCLEAN : namespace_way_push(p, way, ino);
    }
    bool deep = way->delta.height > 0 && way->count + way->delta.height > NAMESPACE_DEPTH_MAX;
    return rc < 0 ? rc : deep ? -ELOOP : 0;
}

static int namespace_node_change(struct namespace_plan *p, const struct namespace_node *n,
                                 const struct namespace_delta *d)
{
    struct kv_field fields[5] = {{NAMESPACE_AT_NEWEST, KV_FIELD_MAX, namespace_stats_time(p)}};
    const struct kv_field wanted[] = {{NAMESPACE_AT_FILES, KV_FIELD_ADD, d->files},
                                      {NAMESPACE_AT_DIRECTORIES, KV_FIELD_ADD, d->directories},
                                      {NAMESPACE_AT_BYTES, KV_FIELD_ADD, d->bytes},
                                      {NAMESPACE_AT_HEIGHT, KV_FIELD_MAX, d->height}};
    size_t count = 1;
    if ((n->stats.flags & NAMESPACE_STATS_QUOTA) != 0) {
        struct namespace_charge c = {.files = d->files + d->directories,
                                     .bytes = d->bytes,
                                     .want_files = d->want_files,
                                     .want_bytes = d->want_bytes};
        int rc = namespace_quota_charge(p, n->ino, &n->stats, &c);
        if (rc < 0) {
            return rc;
        }
    }
    for (size_t i = 0; i < ARRAY_COUNT(wanted); i++) {
        if (wanted[i].operand != 0) {
            fields[count++] = wanted[i];
        }
    }
    return namespace_stats_upsert(p, n->ino, fields, count);
}

/* The node of a way that is `level` below the root; NULL: it does not reach down there. */
static const struct namespace_node *namespace_way_at(const struct namespace_way *way, size_t level)
{
    return level < way->count ? &way->node[way->count - 1 - level] : NULL;
}

/* All ways that pass through one directory come from above it together, so that it is found at the
 * same level of each. The first one writes the sum. */
static int namespace_ways_change(struct namespace_plan *p, const struct namespace_ways *w,
                                 size_t first, size_t level)
{
    const struct namespace_node *node = namespace_way_at(&w->at[first], level);
    struct namespace_delta sum = {0};
    for (size_t i = 0; node != NULL && i < w->count; i++) {
        const struct namespace_way *way = &w->at[i];
        const struct namespace_node *n = namespace_way_at(way, level);
        if (n == NULL || n->ino != node->ino) {
            continue;
        }
        if (i < first) {
            return 0; /* done */
        }
        const struct namespace_delta *d = &way->delta;
        uint64_t height = d->height == 0 ? 0 : d->height + way->count - 1 - level;
        sum.files += d->files;
        sum.directories += d->directories;
        sum.bytes += d->bytes;
        sum.want_files += d->want_files;
        sum.want_bytes += d->want_bytes;
        sum.height = base_max(sum.height, height);
    }
    return node == NULL ? 0 : namespace_node_change(p, node, &sum);
}

int namespace_stats_apply(struct namespace_plan *p)
{
    struct namespace_ways w;
    size_t deepest = 0;
    w.count = 0;
    w.moves = false;
    int rc = namespace_ways_collect(p, &w);
    int needs = 0;
    for (size_t i = 0; i < w.count && rc == 0; i++) {
        rc = namespace_plan_go_on(&needs, namespace_way_walk(p, &w, &w.at[i]));
        deepest = base_max(deepest, w.at[i].count);
    }
    rc = namespace_view_both(rc, needs);
    for (size_t level = 0; level < deepest && rc == 0; level++) {
        for (size_t i = 0; i < w.count && rc == 0; i++) {
            rc = namespace_ways_change(p, &w, i, level);
        }
    }
    return rc;
}

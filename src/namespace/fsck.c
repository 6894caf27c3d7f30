#include "namespace/fsck.h"

#include "namespace/fsck_priv.h"
#include "namespace/path_priv.h"

#include <stdarg.h>
#include <string.h>

/* The pass over all records, and what they add up to. */

void namespace_fsck_say(struct fsck_check *c, const char *code, uint64_t ino, const char *fmt, ...)
{
    if (c->count == FSCK_FOUND_MAX) {
        return;
    }
    struct namespace_finding *f = &c->found[c->count++];
    struct text t;
    va_list args;
    f->code = code;
    f->ino = ino;
    f->data_id = 0;
    f->path[0] = 0;
    text_init(&t, f->text, sizeof f->text);
    va_start(args, fmt);
    text_add_va(&t, fmt, args);
    va_end(args);
}

int namespace_fsck_has(struct fsck_check *c, const struct namespace_key *key)
{
    struct kv_slice value;
    return namespace_view_get_bytes(c->v, key, &value);
}

int namespace_fsck_has_any(struct fsck_check *c, const struct namespace_key *prefix)
{
    struct namespace_scan scan;
    int rc = namespace_scan_init(&scan, c->v, prefix, NULL);
    rc = rc < 0 ? rc : namespace_scan_next(&scan);
    namespace_scan_fini(&scan);
    return rc;
}

/* What cannot be decoded is damage, not a failure of this machine. */
static bool fsck_is_broken(int rc)
{
    return rc == -ERR_short_msg || rc == -ERR_bad_length || rc == -ERR_bad_value;
}

int namespace_fsck_get(struct fsck_check *c, const struct namespace_key *key,
                       const struct proto_type *t, void *ret)
{
    int rc = namespace_view_get(c->v, key, t, ret);
    return fsck_is_broken(rc) ? 0 : rc;
}

int namespace_fsck_inode(struct fsck_check *c, uint64_t ino, struct namespace_inode *ret)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_INODE, ino);
    return FSCK_GET(c, &key, namespace_inode, ret);
}

int namespace_fsck_value(struct fsck_check *c, const struct proto_type *t, void *ret)
{
    int rc = proto_decode(t, c->value.at, c->value.len, c->v->arena, ret);
    if (fsck_is_broken(rc)) {
        namespace_fsck_say(c, "record.broken", 0, "a record of range '%c' cannot be read: %s",
                           *(const char *)c->key.at, err_text(rc));
        return 0;
    }
    return rc < 0 ? rc : 1;
}

bool namespace_fsck_key_fits(struct fsck_check *c, size_t len, bool open)
{
    bool fits = open ? c->key.len > len : c->key.len == len;
    FSCK_WANT(c, fits, "key.broken", 0, "a key of range '%c' has %zu bytes",
              *(const char *)c->key.at, c->key.len);
    return fits;
}

struct namespace_fsck_run *namespace_fsck_run(struct fsck_check *c, uint64_t id)
{
    struct namespace_fsck_run *run = &c->next.run;
    uint8_t range = *(const uint8_t *)c->key.at;
    if (run->range != range || run->id != id) {
        *run = (struct namespace_fsck_run){.range = range, .id = id};
    }
    return run;
}

/* ---- paths of what was found ---- */

/* From the names in the inodes; "..." where that ends. */
static int fsck_path(struct fsck_check *c, struct namespace_finding *f)
{
    char text[NAMESPACE_TRASH_PATH_MAX];
    struct namespace_path path = namespace_path_over(text, sizeof text);
    for (uint64_t ino = f->ino; ino != PROTO_ROOT_INO && !path.cut;) {
        struct namespace_inode n = {0};
        int rc = namespace_fsck_inode(c, ino, &n);
        if (rc < 0) {
            return rc;
        }
        namespace_path_front(&path, rc == 0 ? (struct proto_bytes){0} : n.name);
        ino = n.parent;
    }
    proto_bytes_to_c(namespace_path_end(&path), f->path, sizeof f->path);
    return 0;
}

/* ---- one record ---- */

static bool fsck_is_wanted(const struct namespace_fsck *f, uint64_t data_id)
{
    size_t low = 0, high = f->data_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (f->data_id[middle] < data_id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < f->data_count && f->data_id[low] == data_id;
}

/* Whose data is it? */
static int fsck_data(struct fsck_check *c, enum namespace_range range)
{
    struct namespace_inode n;
    int rc = range == NAMESPACE_INODE && c->key.len == 9
                 ? proto_decode(&namespace_inode_type, c->value.at, c->value.len, c->v->arena, &n)
                 : -ERR_bad_value;
    c->next.records++;
    if (rc == 0 && n.data_id != 0 && fsck_is_wanted(&c->next, n.data_id)) {
        namespace_fsck_say(c, NAMESPACE_FSCK_DATA, fsck_id(c, 1), "its data id is %llu",
                           (unsigned long long)n.data_id);
        c->found[c->count - 1].data_id = n.data_id;
    }
    return fsck_is_broken(rc) ? 0 : rc;
}

static int fsck_record(struct fsck_check *c)
{
    enum namespace_range range = *(const uint8_t *)c->key.at;
    bool known = false;
    if (c->next.data_id != NULL) {
        return fsck_data(c, range);
    }
    int rc = namespace_fsck_names_record(c, range, &known);
    rc = rc < 0 || known ? rc : namespace_fsck_session_record(c, range, &known);
    rc = rc < 0 || known ? rc : namespace_fsck_cluster_record(c, range, &known);
    if (rc == 0 && !known) {
        namespace_fsck_say(c, "record.unknown", 0, "a record of range 0x%02x, which there is not",
                           (unsigned)range);
    }
    c->next.records++;
    return rc;
}

/* Does the run end before this key (NULL: with the last one)? */
static bool fsck_run_is_over(const struct namespace_fsck_run *run, const struct kv_slice *key)
{
    return run->range != 0 && (key == NULL || *(const uint8_t *)key->at != run->range ||
                               namespace_key_read_u64(*key, 1) != run->id);
}

static int fsck_run_end(struct fsck_check *c)
{
    struct namespace_fsck_run run = c->next.run;
    c->next.run = (struct namespace_fsck_run){0};
    int rc = namespace_fsck_names_run_end(c, &run);
    return rc < 0 ? rc : namespace_fsck_session_run_end(c, &run);
}

static void fsck_counter(struct fsck_check *c, const char *name, uint64_t said, uint64_t seen)
{
    FSCK_WANT(c, said == seen, "state.counter", 0, "the state says %llu %s, and there are %llu",
              (unsigned long long)said, name, (unsigned long long)seen);
}

static void fsck_totals(struct fsck_check *c)
{
    const struct namespace_state *said = &c->state, *seen = &c->next.seen;
    fsck_counter(c, "inodes", said->inodes, seen->inodes);
    fsck_counter(c, "bytes", said->bytes, seen->bytes);
    fsck_counter(c, "sessions", said->sessions, seen->sessions);
    fsck_counter(c, "records of garbage", said->garbage, seen->garbage);
    fsck_counter(c, "data ids that look like nobody's", said->suspects, seen->suspects);
    fsck_counter(c, "files in the trash", said->trash_files, seen->trash_files);
    fsck_counter(c, "bytes in the trash", said->trash_bytes, seen->trash_bytes);
    fsck_counter(c, "directories with a retention", said->retentions, seen->retentions);
    fsck_counter(c, "files in the trash", seen->trash_files, c->next.trash_expiries);
    fsck_counter(c, "directories with a quota", said->quotas, seen->quotas);
}

/* All of one record, or of the end: told only when nothing had to be fetched. */
static int fsck_one(struct fsck_check *c, const struct kv_slice *key)
{
    int rc = 0;
    c->count = 0;
    if (fsck_run_is_over(&c->next.run, key)) {
        rc = fsck_run_end(c);
    }
    if (rc == 0 && key == NULL) {
        if (c->next.data_id == NULL) {
            fsck_totals(c);
        }
        c->next.done = true;
    } else if (rc == 0) {
        rc = fsck_record(c);
    }
    for (size_t i = 0; rc == 0 && i < c->count; i++) {
        rc = c->found[i].ino == 0 ? 0 : fsck_path(c, &c->found[i]);
    }
    return rc;
}

static void fsck_tell(const struct fsck_check *c, struct namespace_fsck *f,
                      struct namespace_fsck_sink *sink)
{
    *f = c->next;
    f->findings += c->count;
    for (size_t i = 0; i < c->count; i++) {
        sink->found(sink, &c->found[i]);
    }
}

/* What the next records lack is listed, too, so that one fetch brings it; what is found is not
 * told.
 */
static int fsck_look_ahead(struct fsck_check *c, struct kv_iter *it, size_t max,
                           const struct namespace_fsck *f)
{
    int rc = max > 0 ? kv_iter_next(it) : 0;
    for (size_t i = 0; rc == 1 && i < max; i++) {
        c->next = *f;
        c->key = it->key;
        c->value = it->value;
        rc = fsck_one(c, &c->key);
        rc = rc == 0 || rc == -ERR_need ? kv_iter_next(it) : rc;
    }
    return rc == -ENOMEM || rc == -ENOBUFS ? rc : -ERR_need;
}

static int fsck_walk(struct fsck_check *c, struct kv_iter *it, size_t max, struct namespace_fsck *f,
                     struct namespace_fsck_sink *sink)
{
    int rc = kv_iter_seek(it, namespace_key_slice(&f->after));
    bool again = rc == 1 && f->after.len > 0 &&
                 kv_slice_compare(it->key, namespace_key_slice(&f->after)) == 0;
    rc = again ? kv_iter_next(it) : rc;
    size_t done = 0;
    while (rc >= 0 && done < max && !f->done) {
        bool end = rc == 0;
        c->next = *f;
        if (!end) {
            c->key = it->key;
            c->value = it->value;
            c->next.after.len = base_min(it->key.len, sizeof c->next.after.bytes);
            memcpy(c->next.after.bytes, it->key.at, c->next.after.len);
        }
        rc = fsck_one(c, end ? NULL : &c->key);
        if (rc == 0) {
            fsck_tell(c, f, sink);
            done++;
            rc = end ? 0 : kv_iter_next(it);
        } else if (rc == -ERR_need && !end) {
            rc = fsck_look_ahead(c, it, max - done - 1, f);
        }
    }
    return rc < 0 ? rc : 0;
}

int namespace_fsck_step(const struct namespace_view *v, size_t max, struct namespace_fsck *f,
                        struct namespace_fsck_sink *sink)
{
    CLEANUP(kv_iter_freep) struct kv_iter *it = NULL;
    struct kv_iter_options opt = {.need = v->need, .ahead = (uint32_t)max + 1};
    struct fsck_check c = {.v = v};
    int rc = namespace_view_state(v, &c.state);
    if (rc < 0) {
        return rc;
    }
    c.found = mem_arena_alloc(v->arena, FSCK_FOUND_MAX * sizeof *c.found);
    if (c.found == NULL) {
        return -ENOMEM;
    }
    rc = kv_iter_new(v->snapshot, &opt, &it);
    return rc < 0 ? rc : fsck_walk(&c, it, max, f, sink);
}

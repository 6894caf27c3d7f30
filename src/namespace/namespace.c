#include "namespace/namespace.h"

#include "namespace/plan_priv.h"

#define NAMESPACE_ARENA_BYTES (32u << 20)

struct namespace
{
    struct kv *kv;
    struct mem_arena arena; /* of one command */
    struct kv_batch batch;
    struct namespace_state state; /* as it is stored; format 0: not known */
    struct namespace_memory memory;
};

int namespace_new(const struct namespace_options *opt, struct namespace **ret)
{
    struct namespace *ns = mem_zalloc(sizeof *ns);
    if (ns == NULL) {
        return -ENOMEM;
    }
    CHECK(opt->kv != NULL);
    ns->kv = opt->kv;
    mem_arena_init(&ns->arena,
                   opt->arena_max_bytes == 0 ? NAMESPACE_ARENA_BYTES : opt->arena_max_bytes);
    kv_batch_init(&ns->batch);
    *ret = ns;
    return 0;
}

struct namespace *namespace_free(struct namespace *ns)
{
    if (ns != NULL) {
        mem_arena_fini(&ns->arena);
        kv_batch_fini(&ns->batch);
        namespace_memory_clear(&ns->memory);
        mem_free(ns);
    }
    return NULL;
}

/* Was this part of the log applied before a restart? Then there is nothing to do. */
static bool namespace_was_applied(const struct namespace_state *s, const struct namespace_entry *e)
{
    if (s->format == 0 || e->index > s->applied_index) {
        CHECK(s->format == 0 || e->part == 0); /* entries come whole and in order */
        return false;
    }
    if (e->index == s->applied_index && e->part >= s->applied_parts) {
        CHECK(e->part == s->applied_parts);
        return false;
    }
    return true;
}

static int namespace_plan_entry(const struct namespace *ns, struct namespace_plan *p,
                                const struct namespace_entry *e, bool *ret_skip)
{
    struct namespace_state now = ns->state;
    int rc = now.format != 0 ? 0 : namespace_plan_state(p, &now);
    if (rc < 0) {
        return rc;
    }
    *ret_skip = namespace_was_applied(&now, e);
    if (*ret_skip) {
        *p->reply = (struct namespace_reply){.rc = -EALREADY};
        kv_batch_clear(p->batch);
        return 0;
    }
    rc = namespace_plan_run(p, &now, e->bytes, e->len);
    if (rc == 0 && p->state.format != 0) {
        struct namespace_key key = namespace_key(NAMESPACE_STATE);
        p->state.applied_index = e->index;
        p->state.applied_parts = e->part + 1;
        rc = NAMESPACE_PUT(p, &key, namespace_state, &p->state);
    }
    return rc;
}

/* What the command has changed of what is remembered. */
static void namespace_remember(struct namespace_memory *m, const struct namespace_plan *p)
{
    if (p->stored) {
        namespace_memory_put_slot(m, p->op.session, p->op.slot, p->op.sequence);
    }
    for (size_t i = 0; i < p->held_count; i++) {
        const struct namespace_held *h = &p->held[i];
        if (h->removed || h->inode.parent != h->parent_before) {
            namespace_memory_drop_dir(m, h->ino);
        }
    }
    if (p->flags_changed) {
        namespace_memory_drop_dirs(m);
    }
}

int namespace_apply(struct namespace *ns, const struct namespace_entry *e, struct kv_need *need,
                    struct namespace_reply *reply)
{
    CLEANUP(kv_snapshot_freep) struct kv_snapshot *snapshot = NULL;
    uint64_t applied = kv_applied_index(ns->kv);
    bool skip = false;
    CHECK(e->index > 0);
    int rc = kv_snapshot_new(ns->kv, &snapshot);
    if (rc < 0) { /* busy means here that there is room for a commit soon */
        return rc == -ERR_busy ? -ENOMEM : rc;
    }
    mem_arena_reset(&ns->arena);
    struct namespace_plan p = {
        .view = {.snapshot = snapshot, .need = need, .arena = &ns->arena},
        .batch = &ns->batch,
        .reply = reply,
        .memory = &ns->memory,
    };
    rc = namespace_plan_entry(ns, &p, e, &skip);
    /* Nothing is read any more: an engine need not keep what the commit replaces. */
    snapshot = kv_snapshot_free(snapshot);
    uint64_t index = e->last && e->index > applied ? e->index : applied;
    if (rc < 0 || (skip && index == applied)) {
        return rc;
    }
    rc = kv_commit(ns->kv, &ns->batch, index);
    if (rc == 0 && !skip) {
        ns->state = p.state;
        namespace_remember(&ns->memory, &p);
    }
    return rc;
}

int namespace_check(const struct namespace *ns, const struct namespace_view *v, const void *bytes,
                    size_t len, struct kv_batch *batch, struct namespace_reply *reply)
{
    struct namespace_plan p = {
        .view = *v, .batch = batch, .reply = reply, .known = ns == NULL ? NULL : &ns->memory};
    struct namespace_state now;
    int rc = namespace_plan_state(&p, &now);
    rc = rc < 0 ? rc : namespace_plan_run(&p, &now, bytes, len);
    kv_batch_clear(batch);
    return rc;
}

static uint64_t namespace_mix(uint64_t value, struct kv_slice s)
{
    uint64_t h = value ^ crc32c((uint32_t)s.len, s.at, s.len);
    h *= UINT64_C(0x9e3779b97f4a7c15); /* golden ratio: spreads 32 bits over 64 */
    return h ^ h >> 29;
}

int namespace_digest_step(const struct namespace_view *v, size_t max_records,
                          struct namespace_digest *d)
{
    CLEANUP(kv_iter_freep) struct kv_iter *it = NULL;
    struct kv_iter_options opt = {.need = v->need,
                                  .ahead = (uint32_t)base_min(max_records + 1, UINT32_MAX)};
    struct namespace_digest next = *d;
    int rc = kv_iter_new(v->snapshot, &opt, &it);
    rc = rc < 0 ? rc : kv_iter_seek(it, namespace_key_slice(&d->after));
    bool again = rc == 1 && d->after.len > 0 &&
                 kv_slice_compare(it->key, namespace_key_slice(&d->after)) == 0;
    rc = again ? kv_iter_next(it) : rc;
    for (size_t i = 0; i < max_records && rc == 1; i++) {
        next.value = namespace_mix(namespace_mix(next.value, it->key), it->value);
        next.records++;
        next.after.len = base_min(it->key.len, sizeof next.after.bytes);
        memcpy(next.after.bytes, it->key.at, next.after.len);
        rc = kv_iter_next(it);
    }
    if (rc < 0) {
        return rc;
    }
    next.done = rc == 0;
    *d = next;
    return 0;
}

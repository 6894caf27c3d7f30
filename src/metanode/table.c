/*
 * metanode/table.c -- storage classes get chains when targets have come and it has been quiet for a
 * moment, so that the first table is spread over all that were started together. Each growth is a
 * new version for new files (cluster/placement.h); so is one without the chains of full targets.
 */
#include "metanode/metanode_priv.h"

#include "base/log.h"

#define METANODE_CLASSES_MAX 256u
#define TABLE_AVOID_MS 600000u

/* One growth of one class, from reading what there is to the logged command. */
struct table_grow {
    struct metanode_read read;
    struct metanode_waiter waiter;
    struct metanode *m;
    struct peer_request *request; /* class_create, else NULL */
    uint32_t class_id;            /* 0: the first class, or that of the request */
    bool absent;                  /* class_id 0 and there is one already: the next of them */
    bool cut;                     /* as many chains as come at a time: there may be more to add */
    struct namespace_state state;
    struct proto_storage_class class;
    struct proto_table table;
    uint32_t *kept; /* chains of the next table that there are already */
    size_t kept_count;
    struct mem_arena arena; /* of what is proposed */
};

static uint64_t table_label_key(const char *text, uint32_t id)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (const char *p = text; *p != '\0'; p++) {
        h = (h ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
    }
    return *text == '\0' ? id : h; /* without a label: a place of its own */
}

static bool table_has_label(const char *labels, const uint8_t *word, size_t len)
{
    for (const char *p = labels; *p != '\0';) {
        size_t n = strcspn(p, " ");
        if (n == len && memcmp(p, word, len) == 0) {
            return true;
        }
        p += n + strspn(p + n, " ");
    }
    return false;
}

bool metanode_target_suits(const struct metanode_target *t, struct proto_bytes labels)
{
    for (size_t at = 0; at < labels.len;) {
        size_t end = at;
        while (end < labels.len && labels.at[end] != ' ') {
            end++;
        }
        if (end > at && !table_has_label(t->labels, labels.at + at, end - at)) {
            return false;
        }
        at = end + 1;
    }
    return true;
}

struct cluster_target metanode_target_place(const struct metanode_target *t)
{
    return (struct cluster_target){.id = t->id,
                                   .weight = t->weight,
                                   .host_key = table_label_key(t->host, t->id),
                                   .rack_key = table_label_key(t->rack, t->id)};
}

/* Those that take new chains: not what is to be emptied, nor what has no room above its reserve;
 * `sick`: also those that chains are to do without. */
static size_t table_targets(const struct table_grow *g, bool sick, struct cluster_target *out)
{
    size_t n = 0;
    LIST_FOR_EACH(node, &g->m->targets.all)
    {
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        if (t->alive && t->registered && metanode_target_stays(t) && !t->low_space &&
            (sick || !t->ejected) && metanode_target_suits(t, g->class.labels)) {
            out[n++] = metanode_target_place(t);
        }
    }
    return n;
}

/* Unless it is named: hosts, if there are enough of them for all copies. */
enum proto_failure_domain metanode_table_domain(const struct proto_storage_class *class,
                                                const struct cluster_target *t, size_t n)
{
    size_t hosts = 0;
    if (class->failure_domain != 0) {
        return (enum proto_failure_domain) class->failure_domain;
    }
    for (size_t i = 0; i < n; i++) {
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++) {
            seen = t[j].host_key == t[i].host_key;
        }
        hosts += seen ? 0 : 1;
    }
    return hosts >= class->copies ? PROTO_DOMAIN_HOST : PROTO_DOMAIN_TARGET;
}

static void table_end(struct table_grow *g, int rc)
{
    struct metanode *m = g->m;
    uint32_t next = g->cut ? g->class.id : g->class_id + 1;
    bool all = g->request == NULL && g->class_id > 0; /* one class after the other */
    bool more = !g->absent && rc == 0 && (g->cut || all);
    if (g->request != NULL) {
        struct proto_class_create_reply answer = {.class_id = g->class.id,
                                                  .map_epoch = m->map_epoch};
        if (rc < 0) {
            metanode_refuse(m, NULL, g->request, rc, NULL);
        } else {
            peer_request_answer(g->request, &answer, NULL);
        }
    }
    mem_arena_fini(&g->arena);
    mem_free(g);
    m->tables.growing = false;
    if (more) {
        m->tables.next = next;
        loop_timer_in(m->env->loop, &m->tables.quiet, 0);
    }
}

static void table_logged(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    struct table_grow *g = container_of(w, struct table_grow, waiter);
    rc = rc == 0 ? reply->rc : rc;
    if (rc < 0) {
        log_warn(g->m->env->log, "cannot publish a chain table", LOG_RC(rc));
        if (g->request == NULL && rc == -ESTALE) {
            metanode_tables_touch(g->m);
        }
    } else {
        g->class.id = reply->id;
        log_info(g->m->env->log, "chain table published", LOG_U64("class", reply->id),
                 LOG_U64("chains", g->table.chains.count));
    }
    table_end(g, rc);
}

/* The command: the chains that there are, with the new ones behind them. */
static int table_propose(struct table_grow *g, const struct cluster_row *rows, size_t count)
{
    size_t old = g->kept_count;
    struct proto_row *row = mem_arena_alloc(&g->arena, (count + 1) * sizeof *row);
    struct proto_member *member =
        mem_arena_alloc(&g->arena, (count + 1) * CLUSTER_MEMBERS_MAX * sizeof *member);
    uint32_t *chains = mem_arena_alloc(&g->arena, (old + count) * sizeof *chains);
    if (row == NULL || member == NULL || chains == NULL) {
        return -ENOMEM;
    }
    if (old > 0) {
        memcpy(chains, g->kept, old * sizeof *chains);
    }
    for (size_t i = 0; i < count; i++) {
        cluster_row_to_proto(&rows[i], member + i * CLUSTER_MEMBERS_MAX, &row[i]);
        row[i].born = g->class.id == 0 ? 1 : g->class.table_version + 1;
        chains[old + i] = rows[i].chain;
    }
    g->table.chains = (struct proto_u32s){.at = chains, .count = old + count};
    struct namespace_table_put put = {.storage_class = g->class,
                                      .first_chain = g->state.next_chain,
                                      .rows = {.at = row, .count = count},
                                      .chains = g->table.chains};
    g->waiter.done = table_logged;
    return metanode_propose(g->m, NAMESPACE_TABLE_PUT, &namespace_table_put_type, &put, &g->waiter);
}

static bool table_is_full(struct metanode *m, const struct cluster_row *row)
{
    bool full = false;
    for (size_t i = 0; i < row->count; i++) {
        const struct metanode_target *t = metanode_target_find(m, row->member[i].target);
        full = full || (t != NULL && t->low_space);
    }
    return full;
}

/* New files get the chains in which nobody is below its reserve, as long as there are such. */
static int table_keep(struct table_grow *g, const struct cluster_row *have, size_t count)
{
    g->kept = mem_arena_alloc(&g->arena, (count + 1) * sizeof *g->kept);
    if (g->kept == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        if (!table_is_full(g->m, &have[i])) {
            g->kept[g->kept_count++] = have[i].chain;
        }
    }
    if (g->kept_count == 0) { /* all are full: then it does not matter */
        for (size_t i = 0; i < count; i++) {
            g->kept[g->kept_count++] = have[i].chain;
        }
    }
    return 0;
}

/* Is another table wanted, without any new chain? Not too often: versions are kept for ever. */
static bool table_avoids(struct table_grow *g)
{
    struct metanode *m = g->m;
    const struct proto_u32s *now = &g->table.chains;
    bool same = g->kept_count == now->count &&
                (now->count == 0 || memcmp(g->kept, now->at, now->count * sizeof *now->at) == 0);
    if (same || g->request != NULL || g->kept_count == 0) {
        return false;
    }
    uint64_t due = m->tables.avoided_ns + TABLE_AVOID_MS * METANODE_NS_PER_MS;
    if (m->tables.avoided_ns != 0 && metanode_now(m) < due) {
        loop_timer_at(m->env->loop, &m->tables.again, due);
        return false;
    }
    m->tables.avoided_ns = metanode_now(m);
    return true;
}

/* A class that has no chains yet gets some with sick targets, where there are not enough others. */
static int table_place(const struct table_grow *g, struct cluster_placement *p,
                       struct cluster_target *targets, struct cluster_row **ret, size_t *ret_count)
{
    bool enough = false;
    p->target_count = table_targets(g, true, targets);
    p->domain = metanode_table_domain(&g->class, targets, p->target_count);
    p->target_count = table_targets(g, false, targets);
    int rc = cluster_placement_grow(p, g->state.next_chain, ret, ret_count, &enough);
    if (rc == 0 && *ret_count == 0 && !enough && p->row_count == 0) {
        p->target_count = table_targets(g, true, targets);
        rc = cluster_placement_grow(p, g->state.next_chain, ret, ret_count, &enough);
    }
    return rc;
}

/* 1: a command is under way; 0: nothing to do. */
static int table_compute(struct table_grow *g)
{
    struct metanode *m = g->m;
    struct cluster_target *targets =
        mem_arena_alloc(&g->arena, (m->targets.count + 1) * sizeof *targets);
    struct cluster_row *have = mem_arena_alloc(&g->arena, (m->chains.count + 1) * sizeof *have);
    struct cluster_row *rows = NULL;
    size_t have_count = 0, count = 0;
    if (targets == NULL || have == NULL) {
        return -ENOMEM;
    }
    LIST_FOR_EACH(node, &m->chains.all)
    {
        const struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, all);
        if (g->class.id != 0 && c->row.class_id == g->class.id) {
            have[have_count++] = c->row;
        }
    }
    struct cluster_placement p = {.copies = g->class.copies, .target = targets, .row = have};
    p.row_count = have_count;
    int rc = table_place(g, &p, targets, &rows, &count);
    rc = rc < 0 ? rc : table_keep(g, have, have_count);
    bool more = rc == 0 && (count > 0 || table_avoids(g));
    g->cut = count >= cluster_rows_at_once(g->class.copies);
    rc = more ? table_propose(g, rows, count) : rc;
    mem_free(rows);
    return rc < 0 ? rc : more ? 1 : g->request != NULL ? -ENOSPC : 0;
}

size_t metanode_table_spread(struct metanode *m, const struct proto_storage_class *class,
                             struct cluster_spread *ret)
{
    CLEANUP(mem_freep)
    struct cluster_target *targets = mem_calloc(m->targets.count + 1, sizeof *targets);
    CLEANUP(mem_freep) struct cluster_row *rows = mem_calloc(m->chains.count + 1, sizeof *rows);
    struct cluster_placement p = {.copies = class->copies, .target = targets, .row = rows};
    if (targets == NULL || rows == NULL) {
        return 0;
    }
    LIST_FOR_EACH(node, &m->targets.all)
    { /* in order of their ids: as they were given */
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        if (metanode_target_stays(t) && metanode_target_suits(t, class->labels)) {
            targets[p.target_count++] = metanode_target_place(t);
        }
    }
    LIST_FOR_EACH(node, &m->chains.all)
    {
        const struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, all);
        if (c->row.class_id == class->id) {
            rows[p.row_count++] = c->row;
        }
    }
    p.domain = metanode_table_domain(class, targets, p.target_count);
    if (cluster_placement_spread(&p, ret) < 0) {
        *ret = (struct cluster_spread){0}; /* the figures are missing, the rest is not */
    }
    return p.row_count;
}

static int table_copy(struct table_grow *g)
{
    struct proto_bytes *texts[] = {&g->class.name, &g->class.labels};
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        texts[i]->at = mem_arena_dup(&g->arena, texts[i]->at, texts[i]->len + (texts[i]->len == 0));
        if (texts[i]->at == NULL) {
            return -ENOMEM;
        }
    }
    size_t bytes = g->table.chains.count * sizeof *g->table.chains.at;
    if (bytes > 0) {
        g->table.chains.at = mem_arena_dup(&g->arena, g->table.chains.at, bytes);
    }
    return bytes > 0 && g->table.chains.at == NULL ? -ENOMEM : 0;
}

static void table_read_done(struct metanode_read *read, int rc)
{
    struct table_grow *g = container_of(read, struct table_grow, read);
    if (rc == 0 && !g->absent) {
        rc = table_copy(g); /* what was read goes with the snapshot */
        rc = rc < 0 ? rc : table_compute(g);
        if (rc == 1) {
            return;
        }
    }
    table_end(g, rc);
}

static struct proto_storage_class table_default_class(const struct metanode *m)
{
    return (struct proto_storage_class){.name = proto_bytes_text("default"),
                                        .copies = m->opt.copies,
                                        .failure_domain = (uint8_t)m->opt.failure_domain,
                                        .labels = proto_bytes_text(""),
                                        .chunk_size = m->opt.chunk_bytes,
                                        .inline_limit = m->opt.inline_bytes};
}

/* Classes are made by administrators, and by root at a client. */
static int table_may(const struct table_grow *g, const struct namespace_view *v)
{
    struct namespace_cred cred;
    const struct peer_link *link = g->request == NULL ? NULL : g->request->link;
    if (g->request == NULL || (link != NULL && link->role != PROTO_ROLE_CLIENT)) {
        return 0;
    }
    const struct proto_class_create_request *q = g->request->body;
    int rc = namespace_view_cred(v, q->caller.session, q->caller.cred, &cred);
    return rc == 0 && cred.uid != 0 ? -EPERM : rc;
}

static int table_read(struct metanode_read *read, const struct namespace_view *v)
{
    struct table_grow *g = container_of(read, struct table_grow, read);
    struct proto_storage_class_list classes;
    int may = table_may(g, v);
    if (may < 0) {
        return may;
    }
    int rc = namespace_view_state(v, &g->state);
    int listed = namespace_classes(v, g->class_id, METANODE_CLASSES_MAX, &classes);
    rc = namespace_view_both(rc, listed);
    if (rc < 0 || g->request != NULL) {
        return rc;
    }
    g->table = (struct proto_table){0};
    g->absent = classes.count == 0 && g->class_id > 0;
    if (g->absent) {
        return 0;
    }
    if (classes.count == 0) {
        g->class = table_default_class(g->m);
        return 0;
    }
    g->class = classes.at[0];
    g->class_id = g->class.id;
    return namespace_view_table(v, g->class.id, g->class.table_version, &g->table);
}

static void table_start(struct metanode *m, uint32_t from, struct peer_request *r)
{
    struct table_grow *g = m->tables.growing ? NULL : mem_zalloc(sizeof *g);
    if (g == NULL) {
        if (r != NULL) {
            metanode_refuse(m, NULL, r, -ERR_busy, NULL);
        }
        return;
    }
    *g = (struct table_grow){.m = m, .class_id = from, .request = r};
    mem_arena_init(&g->arena, METANODE_ARENA_BYTES);
    if (r != NULL) {
        const struct proto_class_create_request *q = r->body;
        g->class = q->storage_class;
        g->class.id = 0;
    }
    m->tables.growing = true;
    g->read = (struct metanode_read){.run = table_read, .done = table_read_done};
    metanode_read(m, &g->read);
}

static void tables_quiet(struct loop_timer *t)
{
    struct metanode *m = container_of(t, struct metanode, tables.quiet);
    if (m->tables.growing) {
        metanode_tables_touch(m);
    } else if (m->phase == METANODE_SERVING && m->stop == NULL) {
        table_start(m, m->tables.next, NULL);
    }
}

static void tables_again(struct loop_timer *t)
{
    metanode_tables_touch(container_of(t, struct metanode, tables.again));
}

void metanode_tables_touch(struct metanode *m)
{
    m->tables.again.fire = tables_again;
    m->tables.quiet.fire = tables_quiet;
    m->tables.next = 0;
    loop_timer_in(m->env->loop, &m->tables.quiet, m->opt.table_quiet_ms * METANODE_NS_PER_MS);
}

void metanode_tables_fini(struct metanode *m)
{
    loop_timer_cancel(m->env->loop, &m->tables.quiet);
    loop_timer_cancel(m->env->loop, &m->tables.again);
}

/* What the placement relies on; the state machine checks the rest. */
static const char *class_fault(const struct proto_storage_class *c)
{
    if (c->copies == 0 || c->copies > CLUSTER_MEMBERS_MAX) {
        return "a storage class has between 1 and 16 copies";
    }
    if (c->failure_domain > PROTO_DOMAIN_RACK) {
        return "there is no such failure domain";
    }
    return NULL;
}

void metanode_class_create(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_class_create_request *q = r->body;
    if (!metanode_admit(m, r)) {
        return;
    }
    const char *fault = class_fault(&q->storage_class);
    if (fault != NULL) {
        metanode_refuse(m, NULL, r, -EINVAL, fault);
        return;
    }
    table_start(m, 0, r);
}

/*
 * metanode/status.c -- how the cluster is, for people (text) and programs (JSON, one object).
 */
#include "metanode/promote_priv.h"

#define STATUS_BYTES ((size_t)1000 * 1024)
#define STATUS_CLASSES_MAX 256u
#define STATUS_DAMAGES 256u /* chunks that are named */

struct status {
    struct metanode_read read;
    struct metanode *m;
    struct peer_request *request;
    struct namespace_state state;
    struct proto_storage_class_list classes;
    struct text out;
    struct metanode_counts n;
};

static int status_read(struct metanode_read *r, const struct namespace_view *v)
{
    struct status *s = container_of(r, struct status, read);
    int rc = namespace_view_state(v, &s->state);
    return namespace_view_both(rc, namespace_classes(v, 0, STATUS_CLASSES_MAX, &s->classes));
}

/* One line; metanode_problems() says more. */
static void status_words(const struct status *s, struct text *out)
{
    const struct metanode_counts *n = &s->n;
    if (n->log.full != 0 || n->log.nearly_full) { /* reading goes on without room for the log */
        text_add(out, "the disk of the metadata is %s; ",
                 n->log.full != 0 ? "full: changes are refused" : "nearly full");
    }
    if (metanode_memory_is_short(s->m)) {
        text_add(out, "the memory of the metadata server is nearly used up: new work waits; ");
    }
    if (n->chains == 0) {
        metanode_starting_words(s->m, n, out);
    } else if (n->dark > 0) {
        text_add(out, "%zu of %zu chains have no serving copy", n->dark, n->chains);
    } else if (n->full < n->chains) {
        text_add(out, "%zu of %zu chains miss a copy, %zu of them are being filled",
                 n->chains - n->full, n->chains, n->syncing);
    } else {
        text_add(out, "all %zu chains have all copies", n->chains);
    }
}

static const char *status_target_state(const struct metanode_target *t)
{
    bool down = !t->alive || !t->registered;
    return down ? "down" : t->sick[0] != 0 ? "sick" : t->low_space ? "full" : "up";
}

/* What is to become of it. */
static const char *status_target_plan(const struct metanode_target *t)
{
    static const char *const names[] = {[PROTO_PLAN_NORMAL] = "stays",
                                        [PROTO_PLAN_DRAIN] = "drains",
                                        [PROTO_PLAN_REPLACE] = "is replaced",
                                        [PROTO_PLAN_REMOVE] = "is removed",
                                        [PROTO_PLAN_REMOVED] = "removed"};
    return t->plan < ARRAY_COUNT(names) ? names[t->plan] : "?";
}

/* What keeps its chunks. */
static const char *status_target_engine(const struct metanode_target *t)
{
    static const char *const names[] = {
        [PROTO_ENGINE_EXTENT] = "extent", [PROTO_ENGINE_FILE] = "file", [PROTO_ENGINE_RAM] = "ram"};
    bool known = t->engine < ARRAY_COUNT(names) && names[t->engine] != NULL;
    return known ? names[t->engine] : "?";
}

static size_t status_target_chains(const struct metanode_target *t, size_t *ret_serving)
{
    size_t n = 0;
    *ret_serving = 0;
    LIST_FOR_EACH(node, &t->m->chains.all)
    {
        const struct cluster_row *row = &LIST_ENTRY(node, struct metanode_chain, all)->row;
        size_t i = cluster_row_find(row, t->id);
        n += i < row->count;
        *ret_serving += i < row->count && row->member[i].state == PROTO_MEMBER_SERVING;
    }
    return n;
}

void metanode_json_text(struct text *out, const char *text)
{
    text_add(out, "\"");
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\') {
            text_add(out, "\\%c", c);
        } else if (c < 0x20 || c > 0x7e) {
            text_add(out, "\\u%04x", c);
        } else {
            text_add(out, "%c", c);
        }
    }
    text_add(out, "\"");
}

/* Since its last heartbeat to this leader; 0: there was none. */
static uint64_t status_silent_ms(const struct metanode_target *t)
{
    return t->heard_ns == 0 ? 0 : (metanode_now(t->m) - t->heard_ns) / METANODE_NS_PER_MS;
}

/* What its worker has reported: report.c. */
static void status_json_told(const struct metanode_target *t, struct text *out)
{
    const struct proto_report_figures *f = &t->figures;
    if (metanode_disk_failed(t)) {
        text_add(out, ",\"disk_error\":");
        metanode_json_text(out, t->disk_text);
    }
    if (t->has_figures) {
        text_add(out, ",\"chunks\":%llu,\"dirty\":%llu,\"reserved\":%llu,\"resting\":%llu",
                 (unsigned long long)f->chunks, (unsigned long long)f->dirty,
                 (unsigned long long)f->reserved, (unsigned long long)f->resting);
        text_add(out,
                 ",\"scrub\":{\"begun_ms\":%llu,\"permille\":%u,\"found\":%llu,"
                 "\"last_ms\":%llu,\"last_took_ms\":%llu,\"last_found\":%llu,"
                 "\"found_ever\":%llu,\"repaired\":%llu}",
                 (unsigned long long)f->scrub.begun_ms, f->scrub.permille,
                 (unsigned long long)f->scrub.found, (unsigned long long)f->scrub.last_ms,
                 (unsigned long long)f->scrub.last_took_ms, (unsigned long long)f->scrub.last_found,
                 (unsigned long long)f->scrub.found_ever, (unsigned long long)f->scrub.repaired);
        text_add(out, ",\"move_rate\":%llu", (unsigned long long)f->move_rate);
        text_add(out,
                 ",\"reads\":{\"cached\":%llu,\"fetched\":%llu,\"streamed\":%llu,"
                 "\"copied\":%llu,\"stream_full\":%llu,\"busy\":%llu}",
                 (unsigned long long)f->reads.cached, (unsigned long long)f->reads.fetched,
                 (unsigned long long)f->reads.streamed, (unsigned long long)f->reads.copied,
                 (unsigned long long)f->reads.stream_full, (unsigned long long)f->reads.busy);
    }
    text_add(out, "}");
}

static void status_json_damages(struct status *s)
{
    struct metanode *m = s->m;
    const char *comma = "";
    size_t count = 0;
    text_add(&s->out, "\"damages\":[");
    LIST_FOR_EACH(node, &m->reports.damages)
    {
        const struct metanode_damage *d = LIST_ENTRY(node, struct metanode_damage, all);
        if (!metanode_damage_stands(m, d) || count == STATUS_DAMAGES) {
            continue;
        }
        text_add(&s->out,
                 "%s{\"target\":%u,\"chain\":%u,\"data\":\"%llu\",\"index\":%u,"
                 "\"copy\":%s}",
                 comma, d->target, d->chain, (unsigned long long)d->chunk.data_id, d->chunk.index,
                 d->damage == PROTO_DAMAGE_NO_COPY ? "false" : "true");
        comma = ",";
        count++;
    }
    text_add(&s->out, "],");
}

static void status_json_targets(struct status *s)
{
    struct text *out = &s->out;
    const char *comma = "";
    text_add(out, "\"targets\":[");
    LIST_FOR_EACH(node, &s->m->targets.all)
    {
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        char uuid[UUID_TEXT_SIZE];
        size_t serving, chains = status_target_chains(t, &serving);
        if (metanode_target_is_past(t)) {
            continue;
        }
        uuid_to_text(&t->uuid, uuid);
        text_add(out, "%s{\"id\":%u,\"uuid\":\"%s\",\"name\":", comma, t->id, uuid);
        metanode_json_text(out, t->name);
        text_add(out, ",\"state\":\"%s\",\"address\":", status_target_state(t));
        metanode_json_text(out, t->address);
        text_add(out, ",\"host\":");
        metanode_json_text(out, t->host);
        text_add(out, ",\"rack\":");
        metanode_json_text(out, t->rack);
        text_add(out, ",\"labels\":"); /* by which it is placed, whatever its configuration says */
        metanode_json_text(out, t->labels);
        if (t->sick[0] != 0) {
            text_add(out, ",\"ejected\":%s,\"sick\":", t->ejected ? "true" : "false");
            metanode_json_text(out, t->sick);
        }
        text_add(out,
                 ",\"weight\":%u,\"chains\":%zu,\"serving\":%zu,\"total\":%llu,\"free\":%llu,"
                 "\"used\":%llu,\"incarnation\":%llu,\"damaged\":%u,\"silent_ms\":%llu,"
                 "\"plan\":\"%s\",\"heir\":%u,\"engine\":\"%s\"",
                 t->weight, chains, serving, (unsigned long long)t->total,
                 (unsigned long long)t->free, (unsigned long long)t->used,
                 (unsigned long long)t->incarnation, t->damaged,
                 (unsigned long long)status_silent_ms(t), status_target_plan(t), t->heir,
                 status_target_engine(t));
        status_json_told(t, out);
        comma = ",";
    }
    text_add(out, "]");
}

static void status_json_moves(struct status *s)
{
    const struct metanode *m = s->m;
    const struct cluster_moves_sum *x = &m->moves.sum;
    bool paused = s->state.balance_paused;
    uint64_t ms, since = m->moves.begun_ns;
    size_t left = metanode_moves_left(m, &ms);
    const char *state = x->stuck > 0               ? "stuck"
                        : left == 0                ? "done"
                        : x->making > 0 || !paused ? "moving"
                                                   : "paused";
    text_add(&s->out,
             "\"moves\":{\"state\":\"%s\",\"balance\":%s,\"left\":%zu,\"making\":%zu,"
             "\"done\":%zu,\"leaving\":%zu,\"lost\":%zu,\"uneven\":%zu,\"endangered\":%zu,"
             "\"stuck\":%zu,\"clashing\":%zu,\"left_bytes\":%llu,\"since_ms\":%llu,"
             "\"left_ms\":%llu},",
             state, paused ? "false" : "true", left, x->making, m->moves.done, x->leaving, x->lost,
             x->uneven, x->endangered, x->stuck, x->clashing,
             (unsigned long long)(left == 0 ? 0 : m->moves.left_bytes),
             (unsigned long long)(since == 0 ? 0 : (metanode_now(m) - since) / METANODE_NS_PER_MS),
             (unsigned long long)ms);
}

/* How evenly the chains of each class lie. */
static void status_json_classes(struct status *s)
{
    struct text *out = &s->out;
    text_add(out, "\"classes\":[");
    for (size_t i = 0; i < s->classes.count; i++) {
        const struct proto_storage_class *class = &s->classes.at[i];
        struct cluster_spread spread = {0};
        char name[65];
        size_t chains = metanode_table_spread(s->m, class, &spread);
        proto_bytes_to_c(class->name, name, sizeof name);
        text_add(out, "%s{\"id\":%u,\"name\":", i == 0 ? "" : ",", class->id);
        metanode_json_text(out, name);
        text_add(out,
                 ",\"copies\":%u,\"chains\":%zu,\"version\":%u,\"load\":%u,\"heads\":%u,"
                 "\"rebuild\":%u,\"rebuild_of\":%u}",
                 class->copies, chains, class->table_version, spread.load_permille,
                 spread.heads_permille, spread.rebuild_permille, spread.worst);
    }
    text_add(out, "],");
}

struct status_problems {
    struct metanode_problem_visitor visitor;
    struct text *out;
    bool json, some;
};

static void status_problem(struct metanode_problem_visitor *v, const struct metanode_problem *p)
{
    static const char *const severities[] = {
        [HEALTH_NOTE] = "note", [HEALTH_WARNING] = "warning", [HEALTH_UNAVAILABLE] = "unavailable"};
    struct status_problems *x = container_of(v, struct status_problems, visitor);
    if (!x->json) {
        text_add(x->out, "%s: %s. %s %s\n", severities[p->severity], p->what, p->means, p->help);
        return;
    }
    text_add(x->out, "%s{\"severity\":\"%s\",\"what\":", x->some ? "," : "",
             severities[p->severity]);
    metanode_json_text(x->out, p->what);
    text_add(x->out, ",\"means\":");
    metanode_json_text(x->out, p->means);
    text_add(x->out, ",\"help\":");
    metanode_json_text(x->out, p->help);
    text_add(x->out, "}");
    x->some = true;
}

static void status_json_engine(struct metanode *m, struct text *out)
{
    struct kv_statistics k = kv_statistics(m->kv);
    struct err e = {0};
    text_add(out, "\"engine\":{\"name\":");
    metanode_json_text(out, k.engine);
    text_add(out,
             ",\"cache\":%llu,\"cache_limit\":%llu,\"unsaved\":%llu,\"file\":%llu,"
             "\"busy\":%llu,\"failed\":%s}",
             (unsigned long long)k.cache_used, (unsigned long long)k.cache_limit,
             (unsigned long long)k.dirty_bytes, (unsigned long long)k.file_bytes,
             (unsigned long long)k.busy, kv_failed(m->kv, &e) < 0 ? "true" : "false");
}

/* The metadata servers: this one, while there are no others. */
static void status_json_metadata(struct status *s)
{
    struct metanode *m = s->m;
    struct text *out = &s->out;
    text_add(out, "\"metadata\":[{\"name\":");
    metanode_json_text(out, m->name);
    text_add(out, ",\"address\":");
    metanode_json_text(out, m->address.text);
    text_add(out, ",\"role\":\"leader\",\"directory\":");
    metanode_json_text(out, m->directory);
    text_add(out,
             ",\"log_bytes\":%llu,\"log_full\":%s,\"log_nearly_full\":%s,"
             "\"log_waiting\":%u,\"checkpoint_failing\":%s,\"memory\":%llu,"
             "\"memory_limit\":%llu,\"leads_for_ms\":%llu",
             (unsigned long long)s->n.log.log_bytes, s->n.log.full != 0 ? "true" : "false",
             s->n.log.nearly_full ? "true" : "false", s->n.log.waiting,
             m->checkpoints.failing ? "true" : "false", (unsigned long long)s->n.memory,
             (unsigned long long)m->opt.memory_bytes,
             (unsigned long long)((metanode_now(m) - m->lead_ns) / METANODE_NS_PER_MS));
    const struct metanode_disk_space *d = &s->n.disk;
    if (d->known) {
        text_add(out,
                 ",\"disk_total\":%llu,\"disk_free\":%llu,\"disk_log\":%llu,\"disk_images\":%llu",
                 (unsigned long long)d->total_bytes, (unsigned long long)d->free_bytes,
                 (unsigned long long)d->part_bytes[METANODE_SPACE_LOG],
                 (unsigned long long)d->part_bytes[METANODE_SPACE_STATE]);
    }
    text_add(out, ",");
    status_json_engine(m, out);
    text_add(out, "}],");
}

static void status_json(struct status *s)
{
    struct metanode *m = s->m;
    struct text *out = &s->out;
    char uuid[UUID_TEXT_SIZE];
    uuid_to_text(&m->opt.cluster_id, uuid);
    text_add(out, "{\"cluster\":\"%s\",\"name\":", uuid);
    metanode_json_text(out, m->opt.cluster_name);
    text_add(out, ",\"health\":\"%s\",\"text\":\"", metanode_health(s->m, &s->n));
    status_words(s, out);
    text_add(out, "\",\"address\":");
    metanode_json_text(out, m->address.text);
    text_add(out,
             ",\"chains\":{\"total\":%zu,\"full\":%zu,\"degraded\":%zu,\"syncing\":%zu,"
             "\"dark\":%zu},\"total\":%llu,\"free\":%llu,\"files\":%llu,\"bytes\":%llu,"
             "\"garbage\":%llu,\"trash_files\":%llu,\"trash_bytes\":%llu,\"sessions\":%zu,"
             "\"fences\":%zu,\"map_epoch\":%llu,\"version\":%llu,"
             "\"log_bytes\":%llu,\"memory\":%llu,\"memory_limit\":%llu,\"connections\":%zu,",
             m->chains.count, s->n.full, s->n.degraded, s->n.syncing, s->n.dark,
             (unsigned long long)s->n.total, (unsigned long long)s->n.free,
             (unsigned long long)s->state.inodes, (unsigned long long)s->state.bytes,
             (unsigned long long)s->state.garbage, (unsigned long long)s->state.trash_files,
             (unsigned long long)s->state.trash_bytes, m->sessions.by_id.count, m->cleanup.fences,
             (unsigned long long)m->map_epoch, (unsigned long long)s->state.version,
             (unsigned long long)s->n.log.log_bytes, (unsigned long long)s->n.memory,
             (unsigned long long)m->opt.memory_bytes, peer_server_link_count(m->server));
    struct status_problems p = {.visitor.visit = status_problem, .out = out, .json = true};
    text_add(out, "\"problems\":[");
    metanode_problems(m, &s->n, &p.visitor);
    text_add(out, "],");
    status_json_metadata(s);
    status_json_moves(s);
    status_json_classes(s);
    status_json_damages(s);
    metanode_audit_json(m, out);
    metanode_dark_json(m, out);
    status_json_targets(s);
    text_add(out, "}\n");
}

static void status_disk(const struct metanode_disk_space *d, struct text *out)
{
    char total[TEXT_UNIT_SIZE], room[TEXT_UNIT_SIZE], log[TEXT_UNIT_SIZE], images[TEXT_UNIT_SIZE];
    if (d->known) {
        text_add(out, "disk: %s of %s free; log %s, checkpoints %s\n",
                 text_from_bytes(d->free_bytes, room), text_from_bytes(d->total_bytes, total),
                 text_from_bytes(d->part_bytes[METANODE_SPACE_LOG], log),
                 text_from_bytes(d->part_bytes[METANODE_SPACE_STATE], images));
    }
}

static void status_engine(struct metanode *m, struct text *out)
{
    struct kv_statistics k = kv_statistics(m->kv);
    char used[TEXT_UNIT_SIZE], limit[TEXT_UNIT_SIZE], dirty[TEXT_UNIT_SIZE], file[TEXT_UNIT_SIZE];
    text_add(out, "records: engine %s, %s", k.engine, text_from_bytes(k.cache_used, used));
    if (k.cache_limit > 0) {
        text_add(out, " of %s", text_from_bytes(k.cache_limit, limit));
    }
    text_add(out, " in memory, %s not saved yet, %s on the disk\n",
             text_from_bytes(k.dirty_bytes, dirty), text_from_bytes(k.file_bytes, file));
}

static void status_text(struct status *s)
{
    struct metanode *m = s->m;
    struct text *out = &s->out;
    char uuid[UUID_TEXT_SIZE], total[TEXT_UNIT_SIZE], room[TEXT_UNIT_SIZE];
    uuid_to_text(&m->opt.cluster_id, uuid);
    text_add(out, "cluster %s %s at %s: %s, ", m->opt.cluster_name, uuid, m->address.text,
             metanode_health(s->m, &s->n));
    status_words(s, out);
    text_add(out, "\n%llu files, %zu sessions, %zu chains\n", (unsigned long long)s->state.inodes,
             m->sessions.by_id.count, m->chains.count);
    text_add(out, "%zu connections; memory: %s of %s used\n", peer_server_link_count(m->server),
             text_from_bytes(metanode_memory_look(m), room),
             text_from_bytes(m->opt.memory_bytes, total));
    status_engine(m, out);
    status_disk(&s->n.disk, out);
    LIST_FOR_EACH(node, &m->targets.all)
    {
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        size_t serving, chains = status_target_chains(t, &serving);
        if (metanode_target_is_past(t)) {
            continue;
        }
        text_add(out, "target %u %s %s %s on %s%s%s: %s of %s free, serving %zu of %zu chains\n",
                 t->id, t->name, t->address, status_target_state(t), t->host,
                 t->rack[0] == 0 ? "" : ", rack ", t->rack, text_from_bytes(t->free, room),
                 text_from_bytes(t->total, total), serving, chains);
    }
    struct status_problems p = {.visitor.visit = status_problem, .out = out};
    metanode_problems(m, &s->n, &p.visitor);
    LIST_FOR_EACH(node, &m->chains.all)
    {
        const struct cluster_row *row = &LIST_ENTRY(node, struct metanode_chain, all)->row;
        if (cluster_row_serving_count(row) < row->count) {
            char line[512];
            cluster_row_to_text(row, line, sizeof line);
            text_add(out, "%s\n", line);
        }
    }
}

static void status_done(struct metanode_read *r, int rc)
{
    struct status *s = container_of(r, struct status, read);
    uint8_t format = ((const struct proto_status_request *)s->request->body)->format;
    char *at = rc == 0 ? mem_alloc(STATUS_BYTES) : NULL;
    if (at == NULL) {
        metanode_refuse(s->m, NULL, s->request, rc < 0 ? rc : -ERR_busy, NULL);
        return;
    }
    text_init(&s->out, at, STATUS_BYTES);
    metanode_count(s->m, &s->n);
    if (format == PROTO_FORMAT_JSON) {
        status_json(s);
    } else {
        status_text(s);
    }
    struct proto_status_reply answer = {.format = format == PROTO_FORMAT_JSON ? PROTO_FORMAT_JSON
                                                                              : PROTO_FORMAT_TEXT,
                                        .body = proto_bytes_of(at, s->out.len)};
    if (s->out.cut && format == PROTO_FORMAT_JSON) {
        metanode_refuse(s->m, NULL, s->request, -EMSGSIZE, NULL); /* half an object helps nobody */
    } else {
        peer_request_answer(s->request, &answer, NULL);
    }
    mem_free(at);
}

void metanode_status(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    if (!metanode_admit(m, r)) {
        return;
    }
    struct status *s = mem_arena_alloc(&r->arena, sizeof *s); /* goes with the request */
    if (s == NULL) {
        metanode_refuse(m, NULL, r, -ERR_busy, NULL);
        return;
    }
    *s = (struct status){.m = m, .request = r, .read = {.run = status_read, .done = status_done}};
    metanode_read(m, &s->read);
}

/* metanode/health.c -- see health_priv.h. */
#include "metanode/health_priv.h"

#include "metanode/promote_priv.h"

#include <stdio.h>

#define NAMES_SIZE 400u
#define WHAT_SIZE 700u
#define HELP_SIZE 320u
#define LITTLE_BYTES (UINT64_C(1) << 30)
#define LITTLE_SHARE 10u /* a tenth */
#define ENGINE_WAIT_NS (UINT64_C(5) * 1000 * METANODE_NS_PER_MS)
#define FENCES_COUNTED_NS \
    (UINT64_C(5) * 1000000000) /* a new leader has looked how many there are */

static bool is_up(const struct metanode_target *t)
{
    return t->alive && t->registered;
}

void metanode_count(struct metanode *m, struct metanode_counts *ret)
{
    struct metanode_counts n = {.targets = m->targets.count, .chains = m->chains.count};
    LIST_FOR_EACH(node, &m->targets.all)
    {
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        if (metanode_target_is_past(t)) {
            n.targets--;
            continue;
        }
        n.up += is_up(t);
        n.low_space += is_up(t) && t->low_space;
        n.sick += is_up(t) && t->sick[0] != 0;
        n.damaged += t->damaged;
        n.total += t->total;
        n.free += t->free;
    }
    LIST_FOR_EACH(node, &m->chains.all)
    {
        const struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, all);
        size_t serving = cluster_row_serving_count(&c->row);
        size_t copies = c->copies == 0 ? c->row.count : c->copies; /* more while one is moved */
        bool lacks = serving > 0 && serving < copies;
        bool syncs = serving < c->row.count && c->row.member[serving].state == PROTO_MEMBER_SYNCING;
        n.full += serving >= copies;
        n.dark += serving == 0;
        n.syncing += lacks && syncs;
        n.degraded += lacks && !syncs;
    }
    LIST_FOR_EACH(node, &m->reports.damages)
    {
        const struct metanode_damage *d = LIST_ENTRY(node, struct metanode_damage, all);
        n.no_copy += d->damage == PROTO_DAMAGE_NO_COPY && metanode_damage_stands(m, d) ? 1U : 0U;
    }
    n.differing = metanode_differences(m);
    consensus_info(m->consensus, &n.log);
    if (n.log.full == 0 && kv_disk(m->kv) != KV_DISK_ROOM) {
        n.log.full = -ENOSPC; /* changes are refused, to whoever of both it belongs */
    }
    n.disk = m->space.now;
    n.memory = metanode_memory_look(m);
    *ret = n;
}

/* ---- Problems ---- */

struct health {
    struct metanode *m;
    const struct metanode_counts *n;
    struct metanode_problem_visitor *v;
};

PRINTF_LIKE(5, 6)
static void tell(struct health *h, enum metanode_severity severity, const char *means,
                 const char *help, const char *fmt, ...)
{
    char what[WHAT_SIZE];
    struct text t;
    va_list args;
    text_init(&t, what, sizeof what);
    va_start(args, fmt);
    text_add_va(&t, fmt, args);
    va_end(args);
    const struct metanode_problem p = {
        .severity = severity, .what = what, .means = means, .help = help};
    h->v->visit(h->v, &p);
}

static bool is_down(const struct metanode_target *t)
{
    return !is_up(t) && !metanode_target_is_past(t);
}

static bool is_full(const struct metanode_target *t)
{
    return is_up(t) && t->low_space;
}

static bool is_broken(const struct metanode_target *t)
{
    return metanode_disk_failed(t);
}

static bool is_damaged(const struct metanode_target *t)
{
    return t->damaged > 0;
}

/* "target.0 (host a), target.2 (host b) and 3 more" of those that `fits`. How many. */
static size_t name_targets(const struct metanode *m, bool (*fits)(const struct metanode_target *t),
                           char out[NAMES_SIZE])
{
    struct text t;
    size_t count = 0, named = 0;
    text_init(&t, out, NAMES_SIZE);
    LIST_FOR_EACH(node, &m->targets.all)
    {
        const struct metanode_target *target = LIST_ENTRY(node, struct metanode_target, all);
        if (!fits(target)) {
            continue;
        }
        count++;
        if (t.len + 2 * (size_t)64 + 40 < NAMES_SIZE) {
            text_add(&t, "%s%s (host %s)", named == 0 ? "" : ", ", target->name, target->host);
            named++;
        }
    }
    if (count > named) {
        text_add(&t, " and %zu more", count - named);
    }
    return count;
}

/* In how many racks, or on how many hosts, are the targets that are up? */
static size_t count_domains(const struct metanode *m, bool racks)
{
    size_t n = 0;
    LIST_FOR_EACH(node, &m->targets.all)
    {
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        struct cluster_target own = metanode_target_place(t);
        bool seen = !is_up(t);
        LIST_FOR_EACH(before, &m->targets.all)
        {
            const struct metanode_target *o = LIST_ENTRY(before, struct metanode_target, all);
            struct cluster_target other = metanode_target_place(o);
            if (o == t) {
                break;
            }
            seen = seen || (is_up(o) && (racks ? own.rack_key == other.rack_key
                                               : own.host_key == other.host_key));
        }
        n += seen ? 0 : 1;
    }
    return n;
}

void metanode_starting_words(struct metanode *m, const struct metanode_counts *n, struct text *out)
{
    bool racks = m->opt.failure_domain == PROTO_DOMAIN_RACK;
    bool apart = racks || m->opt.failure_domain == PROTO_DOMAIN_HOST;
    if (apart && n->up >= m->opt.copies) {
        text_add(out,
                 "no storage yet: there are %zu targets in %zu of the %u %s that %u copies need",
                 n->up, count_domains(m, racks), m->opt.copies, racks ? "racks" : "hosts",
                 m->opt.copies);
    } else {
        text_add(out, "no storage yet: %zu of the %u targets that %u copies need have come", n->up,
                 m->opt.copies, m->opt.copies);
    }
}

static void tell_starting(struct health *h)
{
    char words[WHAT_SIZE];
    struct text t;
    if (h->n->chains == 0) {
        text_init(&t, words, sizeof words);
        metanode_starting_words(h->m, h->n, &t);
        tell(h, HEALTH_WARNING, "Files that fit into the metadata can be stored, others wait.",
             "Start the data nodes; `opendfs data` on each machine, or `opendfs up`.", "%s", words);
    }
}

/* Old copies that could serve, if nothing newer ever comes back. */
static void tell_way_out(struct health *h)
{
    char help[HELP_SIZE];
    size_t count;
    struct metanode_chain *c = metanode_way_first(h->m, &count);
    struct metanode_way way;
    if (c == NULL) {
        return;
    }
    metanode_way_out(c, &way);
    (void)snprintf(
        help, sizeof help,
        "Bring one back that has all. Only when none of them will ever come back: `%s`%s",
        way.command, count > 1 ? ", and `opendfs chain list` for the others." : ".");
    tell(h, HEALTH_UNAVAILABLE,
         "Old copies are there; what was written since they were whole would be lost with them.",
         help, "%zu of %zu chains wait for targets that have all: chain %u: %s", count,
         h->n->chains, c->row.chain, way.words);
}

static void tell_dark(struct health *h)
{
    char names[NAMES_SIZE];
    if (h->n->dark == 0) {
        return;
    }
    size_t down = name_targets(h->m, is_down, names);
    tell_way_out(h);
    tell(
        h, HEALTH_UNAVAILABLE,
        "Reads and writes of the data there wait. It is not lost while the disk of the target that "
        "had the newest copy is.",
        down > 0 ? "Bring the targets back that are down, above all the one that went last."
                 : "Wait some seconds: targets that have just come are being looked at.",
        "%zu of %zu chains have no serving copy%s%s", h->n->dark, h->n->chains,
        down > 0 ? "; down: " : "", down > 0 ? names : "");
}

static void tell_lost(struct health *h)
{
    if (h->n->no_copy > 0) {
        tell(h, HEALTH_UNAVAILABLE,
             "Reading them fails (input/output error); the rest of their files can be read.",
             "Bring targets back that are down, they may have a good copy; else write those files "
             "anew, or remove them. `opendfs status --json` names the chunks.",
             "%llu damaged chunk%s without a good copy", (unsigned long long)h->n->no_copy,
             h->n->no_copy == 1 ? "" : "s");
    }
}

/* Before the log finds no room at all. */
static void tell_space(struct health *h)
{
    const struct metanode_disk_space *d = &h->n->disk;
    bool told = h->n->log.full != 0 || h->n->log.nearly_full;
    bool little = d->free_bytes < LITTLE_BYTES;
    if (told || !d->known || (!little && d->free_bytes >= d->total_bytes / LITTLE_SHARE)) {
        return;
    }
    char room[TEXT_UNIT_SIZE], total[TEXT_UNIT_SIZE];
    tell(h, little ? HEALTH_WARNING : HEALTH_NOTE, "When it is full, changes are refused.",
         "Make room on that disk.", "the disk of the metadata server has %s of %s free (%s)",
         text_from_bytes(d->free_bytes, room), text_from_bytes(d->total_bytes, total),
         h->m->directory);
}

static void tell_log(struct health *h)
{
    const struct metanode *m = h->m;
    if (h->n->log.full != 0) {
        tell(h, HEALTH_WARNING, "Changes are refused; reading goes on.",
             "Make room on that disk; the server notices by itself.",
             "the disk of the metadata is full (%s)", m->directory);
    } else if (h->n->log.nearly_full) {
        tell(h, HEALTH_WARNING, "When it is full, changes are refused.", "Make room on that disk.",
             "the disk of the metadata is nearly full (%s)", m->directory);
    }
    tell_space(h);
    if (m->checkpoints.failing) {
        tell(h, HEALTH_WARNING, "The log cannot be trimmed: it grows, and a restart takes longer.",
             "The log of the metadata server says why; mostly its disk is full or broken.",
             "checkpoints of the metadata fail");
    }
}

/* Short waits are how an engine slows down who is faster than its disk. */
static void tell_engine(struct health *h)
{
    struct metanode *m = h->m;
    uint64_t since = m->apply.waiting_ns;
    if (since != 0 && metanode_now(m) - since > ENGINE_WAIT_NS) {
        tell(
            h, HEALTH_WARNING, "Changes wait, and what they would change cannot be changed.",
            "Make room on the disk of the metadata directory, or see whether it is slow or broken.",
            "the engine of the metadata has had no room for changes for %llu s",
            (unsigned long long)((metanode_now(m) - since) / (1000 * METANODE_NS_PER_MS)));
    }
}

static void tell_sick(struct health *h)
{
    LIST_FOR_EACH(node, &h->m->targets.all)
    {
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        if (t->sick[0] == 0 || !is_up(t)) {
            continue;
        }
        tell(
            h, HEALTH_WARNING,
            t->ejected ? "Chains that have another serving copy do without it, and get it back "
                         "when it has rested."
                       : "It goes on serving: too many are sick at once, which may be too much "
                         "work or something that they share.",
            "Look at the disk (kernel log, smartctl); exchange it, or restart its worker to try it "
            "again at once.",
            "the disk of %s (host %s) is sick: %s", t->name, t->host, t->sick);
    }
}

static void tell_targets(struct health *h)
{
    char names[NAMES_SIZE];
    size_t count = name_targets(h->m, is_down, names);
    if (count > 0 && h->n->dark == 0 && h->n->chains > 0) {
        tell(h, HEALTH_WARNING,
             "Their data is served by the other copies, of which there are fewer now.",
             "See whether the machine is on and `opendfs data` runs there; its log tells why it "
             "ended.",
             "%zu of %zu targets %s down: %s", count, h->n->targets, count == 1 ? "is" : "are",
             names);
    }
    count = name_targets(h->m, is_full, names);
    if (count > 0) {
        tell(h, HEALTH_WARNING, "New data for their chains is refused (no space left on device).",
             "Remove files, or add targets; removed files give their space back within minutes.",
             "%zu of %zu targets %s full: %s", count, h->n->targets, count == 1 ? "is" : "are",
             names);
    }
    count = name_targets(h->m, is_broken, names);
    if (count > 0) {
        tell(h, HEALTH_WARNING,
             "It is started again and filled with what it lacks; what it goes on losing has one "
             "copy less meanwhile.",
             "When it comes again, exchange the disk; the log of the node has the cause.",
             "the disk of %zu target%s has failed within the last hour: %s", count,
             count == 1 ? "" : "s", names);
    }
    count = name_targets(h->m, is_damaged, names);
    if (count > 0) {
        tell(h, HEALTH_WARNING,
             "Other copies are read instead, and the chunks are repaired from them.",
             "When it does not pass within minutes, or comes back, exchange the disk.",
             "%llu damaged chunk%s at %s", (unsigned long long)h->n->damaged,
             h->n->damaged == 1 ? "" : "s", names);
    }
}

static void tell_copies(struct health *h)
{
    size_t missing = h->n->degraded + h->n->syncing;
    if (missing > 0) {
        tell(h, HEALTH_WARNING,
             "All data is there and can be changed, but one more failure may take some away.",
             h->n->degraded == 0 ? "Nothing: the copies are being made."
                                 : "Bring the missing targets back; what stays away is made anew "
                                   "on others after a while.",
             "%zu of %zu chains miss a copy, %zu of them are being filled", missing, h->n->chains,
             h->n->syncing);
    }
}

/* What is moved, and what cannot be. */
static void tell_moves(struct health *h)
{
    const struct cluster_moves_sum *s = &h->m->moves.sum;
    uint64_t ms;
    size_t left = metanode_moves_left(h->m, &ms);
    char time[TEXT_UNIT_SIZE];
    if (s->stuck > 0) {
        tell(h, HEALTH_WARNING,
             "They stay as they are: what is to be emptied is not, what is lost is not made anew.",
             "Add targets, on hosts of their own, or make room on those that are full.",
             "for the copies of %zu chains there is no target", s->stuck);
    }
    if (s->clashing > 0) {
        tell(h, HEALTH_WARNING, "If that one fails, more than one copy is away.",
             "Add targets on other hosts or racks; the copies then move apart by themselves.",
             "%zu chains have more than one copy in one failure domain", s->clashing);
    }
    if (left > 0) {
        tell(h, HEALTH_NOTE, "Reading and writing go on as always.",
             h->m->moves.paused
                 ? "`opendfs rebalance start` lets what only lies unevenly move, too."
                 : "Nothing.",
             "%zu copies are being moved or made anew (%zu at this moment)%s%s", left, s->making,
             ms > 0 ? ", which may take " : "", ms > 0 ? text_from_ms(ms, time) : "");
    }
}

/* Chunks that were found to differ by full listings, twice. */
static void tell_differences(struct health *h)
{
    uint64_t count = h->n->differing;
    if (count > 0) {
        tell(h, HEALTH_WARNING, "Which content a reader gets of them may depend on where it reads.",
             "`opendfs fsck --data` names the files and who has what; write those files anew.",
             "%llu chunk%s not the same at all members of %s chain%s", (unsigned long long)count,
             count == 1 ? " is" : "s are", count == 1 ? "its" : "their", count == 1 ? "" : "s");
    }
}

/* What may have more than an old copy that was promoted. */
static void tell_aside(struct health *h)
{
    char word[METANODE_WORD_SIZE], promoted[METANODE_WORD_SIZE], help[HELP_SIZE];
    struct metanode_chain *c = NULL;
    size_t i = 0, count = metanode_aside_count(h->m, &c, &i);
    if (count == 0) {
        return;
    }
    metanode_target_word(h->m, c->row.member[i].target, word);
    metanode_target_word(h->m, c->row.promotion.target, promoted);
    (void)snprintf(help, sizeof help,
                   "`opendfs chain list` names them. When what they have is not needed any more: "
                   "`opendfs chain discard %s %u`.",
                   word, c->row.chain);
    tell(h, HEALTH_WARNING,
         "They may have what the promoted copies lack. Nobody uses or changes them.", help,
         "%zu cop%s set aside when older ones were promoted; the first: that of %s of chain %u, "
         "for that of %s",
         count, count == 1 ? "y was" : "ies were", word, c->row.chain, promoted);
}

/* What looks for orphans have found; no reader notices any of it. */
static void tell_orphans(struct health *h)
{
    const char *code = NULL;
    char words[WHAT_SIZE];
    struct text t;
    text_init(&t, words, sizeof words);
    for (size_t i = 0; metanode_audit_words(h->m, i, &t, &code); i++) {
        bool strange = strcmp(code, "audit.strange") == 0;
        tell(h, strange ? HEALTH_WARNING : HEALTH_NOTE,
             strange ? "Files may be missing that were made since that state of the metadata."
                     : "Files are not touched by it; it only takes space.",
             strange ? "Look whether the metadata directory was put back by hand; restore the "
                       "newest backup instead."
                     : "`opendfs audit status` tells more.",
             "%s", words);
        text_init(&t, words, sizeof words);
    }
}

/* What restores have leapt over, as long as nobody has let go of it. */
static void tell_leaps(struct health *h)
{
    const struct metanode_audit_known *k = &h->m->cleanup.audits->now;
    for (size_t i = 0; i < base_min(k->leap_count, METANODE_LEAPS_TOLD); i++) {
        const struct namespace_leap *l = &k->leap[i];
        if (!l->released) {
            tell(h, HEALTH_NOTE,
                 "Data of files made after that backup is kept, and looks like nobody's.",
                 "When no newer backup will ever be used: `opendfs audit release FIRST-LAST`.",
                 "data ids %llu-%llu %s", (unsigned long long)k->leap_first[i],
                 (unsigned long long)l->last,
                 l->unknown ? "are of before it was written down what restores leap over"
                            : "were leapt over by a restore");
        }
    }
}

static void tell_others(struct health *h)
{
    const struct metanode *m = h->m;
    bool counted = metanode_now(m) - m->lead_ns > FENCES_COUNTED_NS;
    if (m->cleanup.fences > 0 && counted) {
        tell(h, HEALTH_NOTE,
             "Files that they were writing open for others when every data node has heard of it.",
             "Nothing, when all targets are up.", "%zu client%s went silent and %s being shut out",
             m->cleanup.fences, m->cleanup.fences == 1 ? "" : "s",
             m->cleanup.fences == 1 ? "is" : "are");
    }
    tell_differences(h);
    tell_aside(h);
    tell_orphans(h);
    tell_leaps(h);
    char used[TEXT_UNIT_SIZE], limit[TEXT_UNIT_SIZE];
    if (metanode_memory_is_short(m)) {
        tell(h, HEALTH_WARNING, "What makes more of anything waits; reads and removals go on.",
             "Give the metadata server more memory ([meta.N] memory), or remove files.",
             "the metadata server uses %s of its %s of memory", text_from_bytes(h->n->memory, used),
             text_from_bytes(m->opt.memory_bytes, limit));
    }
}

void metanode_problems(struct metanode *m, const struct metanode_counts *n,
                       struct metanode_problem_visitor *v)
{
    struct health h = {.m = m, .n = n, .v = v};
    tell_dark(&h);
    tell_lost(&h);
    tell_starting(&h);
    tell_log(&h);
    tell_engine(&h);
    tell_targets(&h);
    tell_sick(&h);
    tell_copies(&h);
    tell_moves(&h);
    tell_others(&h);
}

struct worst {
    struct metanode_problem_visitor visitor;
    enum metanode_severity severity;
};

static void worst_visit(struct metanode_problem_visitor *v, const struct metanode_problem *p)
{
    struct worst *w = container_of(v, struct worst, visitor);
    w->severity = p->severity > w->severity ? p->severity : w->severity;
}

const char *metanode_health(struct metanode *m, const struct metanode_counts *n)
{
    static const char *const names[] = {[HEALTH_NOTE] = "healthy",
                                        [HEALTH_WARNING] = "degraded",
                                        [HEALTH_UNAVAILABLE] = "unavailable"};
    struct worst w = {.visitor.visit = worst_visit, .severity = HEALTH_NOTE};
    metanode_problems(m, n, &w.visitor);
    return n->chains == 0 ? "starting" : names[w.severity];
}

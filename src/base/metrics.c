/*
 * base/metrics.c -- see metrics.h. All leaves are gathered first: the lines of one name must stand
 * together, and those of equal names and labels are one sample.
 */
#include "base/metrics.h"

#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NAME_SIZE 112u
#define LABEL_SIZE 64u
#define BUCKET_STEP 4u /* one of four: powers of two */

struct metric {
    char name[NAME_SIZE];
    const char *key;        /* of the label; NULL: it has none */
    char label[LABEL_SIZE]; /* its value */
    char path[STATS_PATH_SIZE];
    size_t order; /* of the first one of its name */
    int kind;
    int64_t value;
    struct stats_histogram *histogram; /* owned */
};
struct gather {
    struct stats_visitor visitor;
    const char *prefix;
    struct metric *metric;
    size_t count, size;
    int rc;
};

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), n = strlen(end);
    return len >= n && strcmp(text + len - n, end) == 0;
}

/* Groups of which each member is a value of a label. */
static const struct {
    const char *group, *key;
} label_groups[] = {{"messages/", "message"}, {"targets/", "target"}};

/* "server/messages/create/latency": the name, and "create" for the label. */
static void metric_label(struct metric *m, const char *path, struct text *plain)
{
    for (size_t i = 0; i < ARRAY_COUNT(label_groups); i++) {
        const char *group = strstr(path, label_groups[i].group);
        const char *value = group == NULL ? NULL : group + strlen(label_groups[i].group);
        const char *leaf = value == NULL ? NULL : strchr(value, '/');
        if (leaf != NULL) {
            struct text label;
            text_add(plain, "%.*s%s", (int)(value - path), path, leaf + 1);
            text_init(&label, m->label, sizeof m->label);
            text_add(&label, "%.*s", (int)(leaf - value), value);
            m->key = label_groups[i].key;
            return;
        }
    }
    text_add(plain, "%s", path);
}

static void metric_name(struct metric *m, const char *path)
{
    char plain[STATS_PATH_SIZE];
    struct text t;
    text_init(&t, plain, sizeof plain);
    metric_label(m, path, &t);
    for (char *p = plain; *p != 0; p++) {
        bool good = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || *p == '_' ||
                    (*p >= '0' && *p <= '9');
        if (!good) {
            *p = '_';
        }
    }
    const char *suffix = m->kind == STATS_IS_COUNTER     ? "_total"
                         : m->kind == STATS_IS_HISTOGRAM ? "_seconds"
                                                         : "";
    size_t len = strlen(plain);
    if (m->kind == STATS_IS_HISTOGRAM) { /* the unit is told once */
        len -= ends_with(plain, "_time") ? 5 : ends_with(plain, "_ns") ? 3 : 0;
    }
    text_init(&t, m->name, sizeof m->name);
    text_add(&t, "opendfs_%.*s%s", (int)len, plain, suffix);
    memcpy(m->path, path, base_min(strlen(path) + 1, sizeof m->path));
}

static void gather_visit(struct stats_visitor *visitor, const struct stats_value *v)
{
    struct gather *g = container_of(visitor, struct gather, visitor);
    if (g->rc < 0 || strncmp(v->path, g->prefix, strlen(g->prefix)) != 0) {
        return;
    }
    g->rc = mem_grow(&g->metric, &g->size, g->count + 1, sizeof *g->metric);
    if (g->rc < 0) {
        return;
    }
    struct metric m = {.kind = (int)v->kind, .value = v->value, .order = g->count};
    metric_name(&m, v->path);
    bool never = v->kind == STATS_IS_HISTOGRAM ? v->histogram->count == 0 : v->value == 0;
    if (never && m.key != NULL) {
        return;
    }
    if (v->kind == STATS_IS_HISTOGRAM) {
        m.histogram = mem_dup(v->histogram, sizeof *v->histogram);
        g->rc = m.histogram == NULL ? -ENOMEM : 0;
        if (g->rc < 0) {
            return;
        }
    }
    g->metric[g->count++] = m;
}

/* ---- Bringing together ---- */

static int compare_names(const void *a, const void *b)
{
    const struct metric *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    order = order != 0 ? order : x->kind - y->kind;
    order = order != 0 ? order : strcmp(x->label, y->label);
    return order != 0 ? order : x->order < y->order ? -1 : x->order > y->order ? 1 : 0;
}

static int compare_order(const void *a, const void *b)
{
    const struct metric *x = a, *y = b;
    int order = x->order < y->order ? -1 : x->order > y->order ? 1 : 0;
    return order != 0 ? order : strcmp(x->label, y->label);
}

static void add_up(struct metric *to, const struct metric *m)
{
    to->value += m->value;
    if (to->histogram == NULL || m->histogram == NULL) {
        return;
    }
    to->histogram->sum_ns += m->histogram->sum_ns;
    for (unsigned i = 0; i < STATS_BUCKETS; i++) {
        to->histogram->bucket[i] += m->histogram->bucket[i];
    }
}

/* Equal ones become one; then in the order of the tree again, by names. A name has one kind: what
 * has the same of another kind is left out. */
static void merge(struct gather *g)
{
    if (g->count == 0) {
        return;
    }
    qsort(g->metric, g->count, sizeof *g->metric, compare_names);
    size_t kept = 0;
    for (size_t i = 0; i < g->count; i++) {
        struct metric *m = &g->metric[i], *last = kept == 0 ? NULL : &g->metric[kept - 1];
        bool same = last != NULL && strcmp(last->name, m->name) == 0;
        if (same && last->kind == m->kind && strcmp(last->label, m->label) != 0) {
            m->order = last->order;
            g->metric[kept++] = *m;
            continue;
        }
        if (!same) {
            g->metric[kept++] = *m;
            continue;
        }
        if (last->kind == m->kind) {
            add_up(last, m);
        }
        mem_free(m->histogram);
    }
    g->count = kept;
    qsort(g->metric, g->count, sizeof *g->metric, compare_order);
}

/* ---- Text ---- */

void metrics_label_text(struct text *out, const char *value)
{
    for (; *value != 0; value++) {
        if (*value == '"' || *value == '\\') {
            text_add(out, "\\%c", *value);
        } else if (*value == '\n') {
            text_add(out, "\\n");
        } else {
            text_add(out, "%c", *value);
        }
    }
}

static void add_sample(struct text *out, const struct metric *m, const char *labels,
                       const char *suffix, const char *le)
{
    const char *comma = "";
    text_add(out, "%s%s", m->name, suffix);
    if (labels[0] == 0 && m->key == NULL && le[0] == 0) {
        return;
    }
    text_add(out, "{%s", labels);
    comma = labels[0] == 0 ? "" : ",";
    if (m->key != NULL) {
        text_add(out, "%s%s=\"", comma, m->key);
        metrics_label_text(out, m->label);
        text_add(out, "\"");
        comma = ",";
    }
    if (le[0] != 0) {
        text_add(out, "%sle=\"%s\"", comma, le);
    }
    text_add(out, "}");
}

static void add_histogram(struct text *out, const struct metric *m, const char *labels)
{
    const struct stats_histogram *h = m->histogram;
    uint64_t total = 0;
    for (unsigned i = 0; i < STATS_BUCKETS; i++) {
        total += h->bucket[i];
        char le[32] = "+Inf";
        if (i + 1 < STATS_BUCKETS && i % BUCKET_STEP != BUCKET_STEP - 1) {
            continue;
        }
        if (i + 1 < STATS_BUCKETS) {
            struct text t;
            uint64_t ns = stats_bucket_to_ns(i);
            text_init(&t, le, sizeof le);
            text_add(&t, "%llu.%09llu", (unsigned long long)(ns / 1000000000),
                     (unsigned long long)(ns % 1000000000));
        }
        add_sample(out, m, labels, "_bucket", le);
        text_add(out, " %llu\n", (unsigned long long)total);
    }
    uint64_t sum = h->sum_ns;
    add_sample(out, m, labels, "_sum", "");
    text_add(out, " %llu.%09llu\n", (unsigned long long)(sum / 1000000000),
             (unsigned long long)(sum % 1000000000));
    add_sample(out, m, labels, "_count", "");
    text_add(out, " %llu\n", (unsigned long long)total);
}

static const char *help_of(const struct metric *m)
{
#define METRIC(name, text) {name, text},
    static const struct {
        const char *name, *text;
    } helps[] = {
#include "base/metrics.def"
    };
#undef METRIC
    for (size_t i = 0; i < ARRAY_COUNT(helps); i++) {
        if (strcmp(m->name, helps[i].name) == 0) {
            return helps[i].text;
        }
    }
    return NULL;
}

static void add_head(struct text *out, const struct metric *m)
{
    static const char *const types[] = {[STATS_IS_COUNTER] = "counter",
                                        [STATS_IS_GAUGE] = "gauge",
                                        [STATS_IS_HISTOGRAM] = "histogram"};
    const char *help = help_of(m);
    text_add(out, "# HELP %s %s%s\n# TYPE %s %s\n", m->name, help == NULL ? "Statistics " : help,
             help == NULL ? m->path : "", m->name, types[m->kind]);
}

int metrics_to_text(struct stats *s, const struct metrics_options *opt, struct text *out)
{
    struct gather g = {.visitor.visit = gather_visit,
                       .prefix = opt->prefix == NULL ? "" : opt->prefix};
    int rc = stats_walk(s, &g.visitor);
    rc = rc < 0 ? rc : g.rc;
    if (rc == 0) {
        merge(&g);
    }
    for (size_t i = 0; rc == 0 && i < g.count; i++) {
        const struct metric *m = &g.metric[i];
        if (i == 0 || strcmp(m->name, g.metric[i - 1].name) != 0) {
            add_head(out, m);
        }
        if (m->histogram != NULL) {
            add_histogram(out, m, opt->labels);
        } else {
            add_sample(out, m, opt->labels, "", "");
            text_add(out, " %lld\n", (long long)m->value);
        }
    }
    for (size_t i = 0; i < g.count; i++) {
        mem_free(g.metric[i].histogram);
    }
    mem_free(g.metric);
    return rc;
}

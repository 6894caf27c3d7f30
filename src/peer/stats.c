/* peer/stats.c -- see stats.h. */
#include "peer/stats.h"

#include "base/mem.h"
#include "base/metrics.h"

#include <string.h>

#define STATS_BYTES ((size_t)1000 * 1024)

struct dump {
    struct stats_visitor visitor;
    struct text *out;
    const char *prefix;
    bool json, first;
};

static void dump_number(struct dump *d, const char *path, const char *suffix, int64_t v)
{
    if (d->json) {
        text_add(d->out, "%s\"%s%s\":%lld", d->first ? "" : ",", path, suffix, (long long)v);
    } else {
        text_add(d->out, "%s%s %lld\n", path, suffix, (long long)v);
    }
    d->first = false;
}

static void dump_visit(struct stats_visitor *visitor, const struct stats_value *v)
{
    struct dump *d = container_of(visitor, struct dump, visitor);
    if (strncmp(v->path, d->prefix, strlen(d->prefix)) != 0) {
        return;
    }
    if (v->kind == STATS_IS_HISTOGRAM) {
        const struct stats_histogram *h = v->histogram;
        dump_number(d, v->path, "_count", (int64_t)h->count);
        dump_number(d, v->path, "_sum", (int64_t)h->sum_ns);
        dump_number(d, v->path, "_p50", (int64_t)stats_quantile_ns(h, 500));
        dump_number(d, v->path, "_p99", (int64_t)stats_quantile_ns(h, 990));
        dump_number(d, v->path, "_max", (int64_t)h->max_ns);
    } else {
        dump_number(d, v->path, "", v->value);
    }
}

static int dump(struct stats *s, const char *prefix, bool json, struct text *out)
{
    struct dump d = {
        .visitor.visit = dump_visit, .out = out, .prefix = prefix, .json = json, .first = true};
    text_add(out, "%s", json ? "{" : "");
    int rc = stats_walk(s, &d.visitor);
    text_add(out, "%s", json ? "}\n" : "");
    return rc;
}

void peer_answer_stats(struct peer_request *r, struct stats *s, const char *labels)
{
    const struct proto_stats_request *q = r->body;
    char prefix[256];
    CLEANUP(mem_freep) char *at = mem_alloc(STATS_BYTES);
    if (at == NULL) {
        peer_request_fail(r, -ERR_busy, NULL);
        return;
    }
    struct text out;
    text_init(&out, at, STATS_BYTES);
    proto_bytes_to_c(q->prefix, prefix, sizeof prefix);
    const struct metrics_options opt = {.labels = labels, .prefix = prefix};
    int rc = q->format == PROTO_FORMAT_PROMETHEUS
                 ? metrics_to_text(s, &opt, &out)
                 : dump(s, prefix, q->format == PROTO_FORMAT_JSON, &out);
    if (rc < 0 || out.cut) {
        peer_request_fail(r, rc < 0 ? -ERR_busy : -EMSGSIZE, NULL);
        return;
    }
    struct proto_stats_reply answer = {.format = q->format, .body = proto_bytes_of(at, out.len)};
    peer_request_answer(r, &answer, NULL);
}

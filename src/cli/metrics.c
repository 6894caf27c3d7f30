/*
 * cli/metrics.c -- metrics: the statistics of all servers as one text of Prometheus. Each server
 * tells its own with labels that say whose they are; here the lines of each name come together.
 */
#include "cli/local_priv.h"
#include "cli/tables_priv.h"

#include "base/mem.h"
#include "base/metrics.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_SIZE 2048u

/* All lines of one name. */
struct family {
    char *name, *head; /* head: HELP and TYPE */
    char *lines;
    size_t len, size;
};
struct metrics {
    struct cli *c;
    struct family *family;
    size_t count, size, asked;
    int status;
};
struct metrics_job {
    struct cli_job job;
    struct metrics *m;
    const char *daemon; /* lent */
    uint64_t target;
    bool asked;
};

/* ---- Bringing together ---- */

static void no_memory(struct metrics *m)
{
    m->status = cli_fail(m->c, "%s", err_text(-ENOMEM));
}

static struct family *family_of(struct metrics *m, const char *name, size_t len)
{
    for (size_t i = 0; i < m->count; i++) {
        if (strlen(m->family[i].name) == len && memcmp(m->family[i].name, name, len) == 0) {
            return &m->family[i];
        }
    }
    char *copy = mem_printf("%.*s", (int)len, name);
    if (copy == NULL || mem_grow(&m->family, &m->size, m->count + 1, sizeof *m->family) < 0) {
        mem_free(copy);
        no_memory(m);
        return NULL;
    }
    m->family[m->count] = (struct family){.name = copy};
    return &m->family[m->count++];
}

static void add_line(struct metrics *m, struct family *f, const char *line, size_t len)
{
    if (mem_grow(&f->lines, &f->size, f->len + len + 2, 1) < 0) {
        no_memory(m);
        return;
    }
    memcpy(f->lines + f->len, line, len);
    f->lines[f->len + len] = '\n';
    f->lines[f->len + len + 1] = 0;
    f->len += len + 1;
}

/* "# HELP name ..." or "# TYPE name ...". */
static struct family *take_head(struct metrics *m, const char *line, size_t len)
{
    const char *name = line + strlen("# HELP ");
    struct family *f = family_of(m, name, strcspn(name, " \n"));
    bool type = strncmp(line, "# TYPE ", 7) == 0;
    if (f == NULL || (f->head != NULL && (!type || strstr(f->head, "# TYPE ") != NULL))) {
        return f; /* another server has told it already */
    }
    char *head = mem_printf("%s%.*s\n", f->head == NULL ? "" : f->head, (int)len, line);
    if (head == NULL) {
        no_memory(m);
        return NULL;
    }
    mem_free(f->head);
    f->head = head;
    return f;
}

static void take_text(struct metrics *m, const char *text)
{
    struct family *f = NULL;
    while (*text != 0) {
        size_t len = strcspn(text, "\n");
        if (strncmp(text, "# HELP ", 7) == 0 || strncmp(text, "# TYPE ", 7) == 0) {
            f = take_head(m, text, len);
        } else if (f != NULL && len > 0 && text[0] != '#') {
            add_line(m, f, text, len);
        }
        text += len;
        text += *text == '\n' ? 1 : 0;
    }
}

/* ---- What is known without asking ---- */

static void add_up(struct metrics *m, const char *cluster, const char *daemon, bool up)
{
    char line[LINE_SIZE];
    struct text t;
    text_init(&t, line, sizeof line);
    text_add(&t, "# HELP opendfs_up 1 when the server has answered.\n# TYPE opendfs_up gauge\n"
                 "opendfs_up{cluster=\"");
    metrics_label_text(&t, cluster);
    text_add(&t, "\",daemon=\"");
    metrics_label_text(&t, daemon);
    text_add(&t, "\"} %d\n", up ? 1 : 0);
    take_text(m, line);
}

static void add_info(struct metrics *m, const char *cluster, const char *name)
{
    char line[LINE_SIZE];
    struct text t;
    text_init(&t, line, sizeof line);
    text_add(&t, "# HELP opendfs_cluster_info Always 1: the name of the cluster.\n"
                 "# TYPE opendfs_cluster_info gauge\nopendfs_cluster_info{cluster=\"");
    metrics_label_text(&t, cluster);
    text_add(&t, "\",name=\"");
    metrics_label_text(&t, name);
    text_add(&t, "\",version=\"%s\"} 1\n", opendfs_version());
    take_text(m, line);
}

/* ---- Asking ---- */

static void answered(struct cli_job *j)
{
    struct metrics_job *x = container_of(j, struct metrics_job, job);
    x->m->asked--;
    loop_stop(x->m->c->loop, 0);
}

static void ask(struct metrics *m, struct metrics_job *x)
{
    x->m = m;
    x->asked = true;
    cli_job_prepare(m->c, &x->job, answered);
    m->asked++;
    opendfs_async_metrics(m->c->fs, &x->job.op, (uint32_t)x->target);
}

/* All at once: the one that does not answer costs its time once. */
static size_t ask_all(struct metrics *m, const struct cJSON *status, struct metrics_job *x)
{
    size_t count = 0;
    const struct cJSON *t;
    x[count++] = (struct metrics_job){.daemon = NULL};
    cJSON_ArrayForEach(t, cJSON_GetObjectItemCaseSensitive(status, "targets"))
    {
        x[count++] = (struct metrics_job){.daemon = cli_json_text(t, "name"),
                                          .target = cli_json_number(t, "id")};
        bool up = strcmp(cli_json_text(t, "state"), "down") != 0;
        if (up) {
            ask(m, &x[count - 1]);
        }
    }
    const struct cJSON *metadata = cJSON_GetObjectItemCaseSensitive(status, "metadata");
    x[0].daemon = cli_json_text(cJSON_GetArrayItem(metadata, 0), "name");
    ask(m, &x[0]);
    while (m->asked > 0) {
        loop_run(m->c->loop);
    }
    return count;
}

static void collect(struct metrics *m, const struct cJSON *status)
{
    const char *cluster = cli_json_text(status, "cluster");
    size_t targets =
        (size_t)cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(status, "targets"));
    CLEANUP(mem_freep) struct metrics_job *x = mem_calloc(targets + 1, sizeof *x);
    if (x == NULL) {
        no_memory(m);
        return;
    }
    size_t count = ask_all(m, status, x);
    add_info(m, cluster, cli_json_text(status, "name"));
    for (size_t i = 0; i < count; i++) {
        const struct opendfs_op *op = &x[i].job.op;
        bool good = x[i].asked && op->result >= 0;
        add_up(m, cluster, x[i].daemon, good);
        if (good) {
            take_text(m, op->data);
        } else {
            m->status = cli_fail(m->c, "%s: %s", x[i].daemon, x[i].asked ? op->error : "is down");
        }
        if (x[i].asked) {
            opendfs_async_release(m->c->fs, &x[i].job.op);
        }
    }
}

/* ---- Output ---- */

/* {a="b",c="d"}: into an object; returns what stands behind. */
static const char *labels_to_json(const char *p, struct cJSON *to)
{
    while (*p == '{' || *p == ',') {
        char name[64], value[LINE_SIZE];
        size_t len = strcspn(++p, "=");
        snprintf(name, sizeof name, "%.*s", (int)len, p);
        p += len;
        p += strncmp(p, "=\"", 2) == 0 ? 2 : 0;
        struct text t;
        for (text_init(&t, value, sizeof value); *p != 0 && *p != '"'; p++) {
            p += *p == '\\' && p[1] != 0 ? 1 : 0;
            text_add(&t, "%c", p[-1] == '\\' && *p == 'n' ? '\n' : *p);
        }
        cJSON_AddStringToObject(to, name, value);
        p += *p == '"' ? 1 : 0;
    }
    return p + (*p == '}' ? 1 : 0);
}

static void print_json(const struct family *f)
{
    for (const char *line = f->lines; line != NULL && *line != 0;) {
        size_t len = strcspn(line, "\n"), name = strcspn(line, "{ ");
        CLEANUP(mem_freep) char *copy = mem_printf("%.*s", (int)len, line);
        struct cJSON *o = cJSON_CreateObject();
        if (copy != NULL && o != NULL) {
            char value = copy[name];
            copy[name] = 0;
            cJSON_AddStringToObject(o, "name", copy);
            copy[name] = value;
            const char *end = labels_to_json(copy + name, cJSON_AddObjectToObject(o, "labels"));
            cJSON_AddNumberToObject(o, "value", strtod(end, NULL));
            cli_print_json(o);
        } else {
            cJSON_Delete(o);
        }
        line += len + (line[len] == '\n' ? 1 : 0);
    }
}

static int run_metrics(struct cli *c)
{
    struct metrics m = {.c = c};
    struct cJSON *status = NULL;
    int rc = cli_status_json(c, &status);
    if (rc != 0) {
        return rc;
    }
    collect(&m, status);
    cJSON_Delete(status);
    for (size_t i = 0; i < m.count; i++) {
        struct family *f = &m.family[i];
        if (c->json) {
            print_json(f);
        } else if (f->lines != NULL) {
            printf("%s%s", f->head == NULL ? "" : f->head, f->lines);
        }
        mem_free(f->name);
        mem_free(f->head);
        mem_free(f->lines);
    }
    mem_free(m.family);
    return m.status;
}

const struct cli_command cli_metrics_commands[] = {
    {.name = "metrics",
     .arguments = "",
     .summary = "print the statistics of all servers for Prometheus",
     .details =
         "The text format of Prometheus (0.0.4). Labels: cluster (its id; opendfs_cluster_info has "
         "the name), daemon\n(meta.0, target.2), message. opendfs_up tells who has answered; when "
         "somebody has not, the exit status is 1.\nWith --json one object for each sample.",
     .run = run_metrics},
};
const size_t cli_metrics_command_count = ARRAY_COUNT(cli_metrics_commands);

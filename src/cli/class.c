/* cli/class.c -- storage classes. */
#include "cli/usage_priv.h"

#include "cli/cli_priv.h"
#include "opendfs/usage.h"

#include "base/mem.h"
#include "base/text.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

static const char *const domains[] = {"chosen", "target", "host", "rack"};

static const char *domain_name(uint32_t domain)
{
    return domain < ARRAY_COUNT(domains) ? domains[domain] : "?";
}

/* All of them, to be freed by opendfs_free(); -1: said why. */
static int ask_classes(struct cli *c, struct opendfs_class **ret)
{
    int n = opendfs_classes(c->fs, ret);
    if (n < 0) {
        (void)cli_fail_op(c, NULL);
    }
    return n < 0 ? -1 : n;
}

static struct cJSON *class_to_json(const struct opendfs_class *k)
{
    struct cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "id", k->id);
    cJSON_AddStringToObject(o, "name", k->name);
    cJSON_AddBoolToObject(o, "default", k->is_default != 0);
    cJSON_AddNumberToObject(o, "copies", k->copies);
    cJSON_AddStringToObject(o, "domain", domain_name(k->failure_domain));
    cJSON_AddNumberToObject(o, "chunk", k->chunk_bytes);
    cJSON_AddNumberToObject(o, "inline", k->inline_bytes);
    cJSON_AddStringToObject(o, "labels", k->labels);
    return o;
}

static void print_class(const struct opendfs_class *k)
{
    char chunk[TEXT_UNIT_SIZE], small[TEXT_UNIT_SIZE];
    text_from_bytes(k->chunk_bytes, chunk);
    text_from_bytes(k->inline_bytes == 0 ? 4096 : k->inline_bytes, small);
    cli_print_name(k->name);
    printf("%s: %u copies (domain %s), chunks of %s, up to %s in the metadata",
           k->is_default ? " (default)" : "", k->copies, domain_name(k->failure_domain), chunk,
           small);
    if (k->labels[0] != 0) {
        printf(", targets with: ");
        cli_print_name(k->labels);
    }
    printf("\n");
}

int cli_run_class_list(struct cli *c)
{
    struct opendfs_class *at = NULL;
    int status = cli_connect(c);
    int n = status != 0 ? -1 : ask_classes(c, &at);
    if (n < 0) {
        return status != 0 ? status : CLI_EXIT_FAILED;
    }
    for (int i = 0; i < n; i++) {
        if (c->json) {
            cli_print_json(class_to_json(&at[i]));
        } else {
            print_class(&at[i]);
        }
    }
    opendfs_free(at);
    return 0;
}

/* ---- create ---- */

static int parse_size(struct cli *c, const char *option, uint32_t *ret)
{
    const char *text = cli_value(c, option);
    uint64_t bytes = 0;
    if (text == NULL) {
        return 0;
    }
    if (text_to_bytes(text, &bytes) < 0 || bytes > UINT32_MAX) {
        return cli_usage(c, "--%s '%s' is not a size, as 4MiB", option, text);
    }
    *ret = (uint32_t)bytes;
    return 0;
}

static int parse_domain(struct cli *c, uint32_t *ret)
{
    const char *text = cli_value(c, "domain");
    if (text == NULL) {
        return 0;
    }
    for (uint32_t i = 1; i < ARRAY_COUNT(domains); i++) {
        if (strcmp(text, domains[i]) == 0) {
            *ret = i;
            return 0;
        }
    }
    return cli_usage(c, "--domain '%s' is none of target, host, rack", text);
}

static int parse_class(struct cli *c, struct opendfs_class *k)
{
    const char *name = c->argument[0], *copies = cli_value(c, "copies");
    const char *labels = cli_value(c, "labels");
    uint64_t n = 2;
    if (name[0] == 0 || strlen(name) >= sizeof k->name) {
        return cli_usage(c, "a name has between 1 and %zu bytes", sizeof k->name - 1);
    }
    if (copies != NULL && (text_to_u64(copies, &n) < 0 || n == 0 || n > 16)) {
        return cli_usage(c, "--copies '%s' is not a number between 1 and 16", copies);
    }
    if (labels != NULL && strlen(labels) >= sizeof k->labels) {
        return cli_usage(c, "labels have at most %zu bytes", sizeof k->labels - 1);
    }
    *k = (struct opendfs_class){.copies = (uint32_t)n, .chunk_bytes = 4U << 20};
    snprintf(k->name, sizeof k->name, "%s", name);
    snprintf(k->labels, sizeof k->labels, "%s", labels == NULL ? "" : labels);
    int rc = parse_domain(c, &k->failure_domain);
    rc = rc != 0 ? rc : parse_size(c, "chunk", &k->chunk_bytes);
    return rc != 0 ? rc : parse_size(c, "inline", &k->inline_bytes);
}

int cli_run_class_create(struct cli *c)
{
    struct opendfs_class k = {0};
    int status = parse_class(c, &k);
    status = status != 0 ? status : cli_connect(c);
    if (status != 0) {
        return status;
    }
    int rc = opendfs_create_class(c->fs, &k);
    if (rc == -ENOSPC) {
        return cli_fail(c, "%s: there are not enough targets for %u copies with these labels",
                        k.name, k.copies);
    }
    return rc < 0 ? cli_fail_path(c, k.name, rc) : 0;
}

/* ---- set, show ---- */

int cli_run_class_set(struct cli *c)
{
    struct opendfs_class *at = NULL;
    int status = cli_connect(c);
    int n = status != 0 ? -1 : ask_classes(c, &at);
    if (n < 0) {
        return status != 0 ? status : CLI_EXIT_FAILED;
    }
    uint32_t id = 0;
    for (int i = 0; i < n; i++) {
        id = strcmp(at[i].name, c->argument[0]) == 0 ? at[i].id : id;
    }
    opendfs_free(at);
    if (id == 0) {
        return cli_fail(c, "there is no storage class '%s'", c->argument[0]);
    }
    for (size_t i = 1; i < c->argument_count; i++) {
        CLEANUP(mem_freep) char *path = cli_path(c, c->argument[i]);
        if (path == NULL) {
            return CLI_EXIT_USAGE;
        }
        int rc = opendfs_set_class(c->fs, path, id);
        if (rc == -EBUSY) {
            status = cli_fail(c, "%s: has data where its class says: copy it instead", path);
        } else if (rc < 0) {
            status = cli_fail_op(c, NULL);
        }
    }
    return status;
}

static void show_class(const struct cli *c, const char *path, uint32_t id,
                       const struct opendfs_class *k)
{
    const char *name = k == NULL ? "none" : k->name;
    if (c->json) {
        struct cJSON *o = cli_json_of_path(path);
        cJSON_AddStringToObject(o, "class", name);
        cJSON_AddBoolToObject(o, "own", id != 0);
        cli_print_json(o);
        return;
    }
    cli_print_name(path);
    printf(": ");
    cli_print_name(name);
    printf("%s\n", id == 0 ? " (default)" : "");
}

int cli_run_class_show(struct cli *c)
{
    struct opendfs_class *at = NULL;
    int status = cli_connect(c);
    int n = status != 0 ? -1 : ask_classes(c, &at);
    if (n < 0) {
        return status != 0 ? status : CLI_EXIT_FAILED;
    }
    for (size_t i = 0; i < c->argument_count && status != CLI_EXIT_USAGE; i++) {
        CLEANUP(mem_freep) char *path = cli_path(c, c->argument[i]);
        struct opendfs_dir_stats s;
        const struct opendfs_class *k = NULL;
        int rc = path == NULL ? -EINVAL : opendfs_dir_stats(c->fs, path, &s);
        for (int j = 0; rc == 0 && j < n; j++) {
            bool it = s.class_id == 0 ? at[j].is_default != 0 : at[j].id == s.class_id;
            k = it ? &at[j] : k;
        }
        if (path == NULL) {
            status = CLI_EXIT_USAGE;
        } else if (rc < 0) {
            status = cli_fail_op(c, NULL);
        } else {
            show_class(c, path, s.class_id, k);
        }
    }
    opendfs_free(at);
    return status;
}

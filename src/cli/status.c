/* cli/status.c -- what the metadata leader says, in words. */
#include "cli/local_priv.h"

#include "base/text.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#define GREEN "\033[32m"
#define RED "\033[31m"
#define PLAIN "\033[0m"

/* Asks and parses; *ret is freed by cJSON_Delete(). */
static int ask(struct cli *c, struct cJSON **ret)
{
    int status = cli_connect(c);
    if (status != 0) {
        return status;
    }
    char *text = NULL;
    if (opendfs_status_json(c->fs, &text) < 0) {
        return cli_fail_op(c, NULL);
    }
    *ret = cJSON_Parse(text);
    opendfs_free(text);
    return *ret == NULL ? cli_fail(c, "the server's answer is not JSON") : 0;
}

static const char *text_of(const struct cJSON *o, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));
    return text == NULL ? "?" : text;
}

static uint64_t number_of(const struct cJSON *o, const char *name)
{
    const struct cJSON *n = cJSON_GetObjectItemCaseSensitive(o, name);
    return cJSON_IsNumber(n) && n->valuedouble > 0 ? (uint64_t)n->valuedouble : 0;
}

static bool is_up(const struct cJSON *target)
{
    return strcmp(text_of(target, "state"), "down") != 0;
}

int cli_status_ask(struct cli *c, struct cluster_health *ret)
{
    struct cJSON *o = NULL;
    int status = ask(c, &o);
    if (status != 0) {
        return status;
    }
    *ret = (struct cluster_health){.good = strcmp(text_of(o, "health"), "healthy") == 0};
    snprintf(ret->words, sizeof ret->words, "%s", text_of(o, "text"));
    const struct cJSON *t;
    cJSON_ArrayForEach(t, cJSON_GetObjectItemCaseSensitive(o, "targets"))
    {
        ret->targets_up += is_up(t) ? 1 : 0;
    }
    cJSON_Delete(o);
    return 0;
}

static void print_target(const struct cJSON *t, bool colour)
{
    char free_text[TEXT_UNIT_SIZE], total_text[TEXT_UNIT_SIZE];
    text_from_bytes(number_of(t, "free"), free_text);
    text_from_bytes(number_of(t, "total"), total_text);
    printf(
        "  %-10s (%llu) %s%-5s%s %-21s host %-10s %9s of %9s free   %llu of %llu chains served\n",
        text_of(t, "name"), (unsigned long long)number_of(t, "id"),
        colour ? (is_up(t) ? GREEN : RED) : "", text_of(t, "state"), colour ? PLAIN : "",
        text_of(t, "address"), text_of(t, "host"), free_text, total_text,
        (unsigned long long)number_of(t, "serving"), (unsigned long long)number_of(t, "chains"));
}

static void print_cluster(const struct cJSON *o, bool colour)
{
    bool good = strcmp(text_of(o, "health"), "healthy") == 0;
    printf("cluster %s (%s): %s%s%s, %s\n", text_of(o, "name"), text_of(o, "cluster"),
           colour ? (good ? GREEN : RED) : "", text_of(o, "health"), colour ? PLAIN : "",
           text_of(o, "text"));
    char bytes[TEXT_UNIT_SIZE];
    uint64_t clients = number_of(o, "sessions");
    printf("  metadata at %s: %llu files and directories with %s, %llu client%s\n",
           text_of(o, "address"), (unsigned long long)number_of(o, "files"),
           text_from_bytes(number_of(o, "bytes"), bytes), (unsigned long long)clients,
           clients == 1 ? "" : "s");
    uint64_t removed = number_of(o, "trash_files");
    if (removed > 0) {
        printf("  trash: %llu removed file%s with %s\n", (unsigned long long)removed,
               removed == 1 ? "" : "s", text_from_bytes(number_of(o, "trash_bytes"), bytes));
    }
    const struct cJSON *t;
    cJSON_ArrayForEach(t, cJSON_GetObjectItemCaseSensitive(o, "targets"))
    {
        print_target(t, colour);
    }
}

int cli_run_status(struct cli *c)
{
    struct cJSON *o = NULL;
    int status = ask(c, &o);
    if (status != 0) {
        return status;
    }
    if (c->json) {
        cli_print_json(o);
        return 0;
    }
    print_cluster(o, cli_terminal_has_colour(c->terminal));
    cJSON_Delete(o);
    return 0;
}

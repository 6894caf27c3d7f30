/* cli/status.c -- what the metadata leader says, in words. */
#include "cli/local_priv.h"

#include "base/text.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GREEN "\033[32m"
#define RED "\033[31m"
#define PLAIN "\033[0m"

int cli_status_json(struct cli *c, struct cJSON **ret)
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

const char *cli_json_text(const struct cJSON *o, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));
    return text == NULL ? "?" : text;
}

uint64_t cli_json_number(const struct cJSON *o, const char *name)
{
    const struct cJSON *n = cJSON_GetObjectItemCaseSensitive(o, name);
    return cJSON_IsNumber(n) && n->valuedouble > 0 ? (uint64_t)n->valuedouble : 0;
}

static bool is_up(const struct cJSON *target)
{
    return strcmp(cli_json_text(target, "state"), "down") != 0;
}

int cli_status_ask(struct cli *c, struct cluster_health *ret)
{
    struct cJSON *o = NULL;
    int status = cli_status_json(c, &o);
    if (status != 0) {
        return status;
    }
    const struct cJSON *chains = cJSON_GetObjectItemCaseSensitive(o, "chains");
    uint64_t total = cli_json_number(chains, "total");
    /* A disk that is nearly full is no reason to wait for it. */
    *ret = (struct cluster_health){.good = total > 0 && cli_json_number(chains, "full") == total};
    snprintf(ret->words, sizeof ret->words, "%s", cli_json_text(o, "text"));
    const struct cJSON *t;
    cJSON_ArrayForEach(t, cJSON_GetObjectItemCaseSensitive(o, "targets"))
    {
        ret->targets_up += is_up(t) ? 1 : 0;
    }
    cJSON_Delete(o);
    return 0;
}

/* As it counts, whatever the configuration of its node says. */
static void print_placed_by(const struct cJSON *t)
{
    const char *labels = cli_json_text(t, "labels");
    if (cJSON_GetObjectItemCaseSensitive(t, "weight") != NULL) { /* else of an earlier server */
        printf(", weight %llu", (unsigned long long)cli_json_number(t, "weight"));
    }
    if (labels[0] != 0 && strcmp(labels, "?") != 0) {
        printf(", labels ");
        cli_print_name(labels);
    }
}

static void print_target(const struct cJSON *t, bool colour)
{
    char free_text[TEXT_UNIT_SIZE], total_text[TEXT_UNIT_SIZE];
    text_from_bytes(cli_json_number(t, "free"), free_text);
    text_from_bytes(cli_json_number(t, "total"), total_text);
    printf("  %-10s (%llu) %s%-5s%s %-21s host %-10s %9s of %9s free   %llu of %llu chains served",
           cli_json_text(t, "name"), (unsigned long long)cli_json_number(t, "id"),
           colour ? (is_up(t) ? GREEN : RED) : "", cli_json_text(t, "state"), colour ? PLAIN : "",
           cli_json_text(t, "address"), cli_json_text(t, "host"), free_text, total_text,
           (unsigned long long)cli_json_number(t, "serving"),
           (unsigned long long)cli_json_number(t, "chains"));
    const char *plan = cli_json_text(t, "plan"), *engine = cli_json_text(t, "engine");
    const char *rack = cli_json_text(t, "rack");
    if (rack[0] != 0 && strcmp(rack, "?") != 0) {
        printf(", rack %s", rack);
    }
    if (strcmp(engine, "?") != 0) { /* of a server that says it, and has heard it */
        printf(", engine %s", engine);
    }
    print_placed_by(t);
    if (strcmp(plan, "stays") != 0 && strcmp(plan, "?") != 0) {
        printf(", %s", plan);
    }
    uint64_t silent_ms = cli_json_number(t, "silent_ms");
    if (!is_up(t) && silent_ms > 0) {
        char since[TEXT_UNIT_SIZE];
        printf(", silent for %s", text_from_ms(silent_ms, since));
    }
    printf("\n");
}

/* What is wrong, what it means, what helps. */
static void print_problem(const struct cJSON *p, bool colour)
{
    const char *severity = cli_json_text(p, "severity");
    bool bad = strcmp(severity, "note") != 0;
    printf("  %s%s%s: %s\n      %s\n      %s\n", colour && bad ? RED : "", severity,
           colour && bad ? PLAIN : "", cli_json_text(p, "what"), cli_json_text(p, "means"),
           cli_json_text(p, "help"));
}

/* NULL: a server of before does not say. */
static void print_engine(const struct cJSON *e)
{
    char used[TEXT_UNIT_SIZE], limit[TEXT_UNIT_SIZE], file[TEXT_UNIT_SIZE];
    uint64_t limit_bytes = e == NULL ? 0 : cli_json_number(e, "cache_limit");
    if (e != NULL) {
        printf(", engine %s", cli_json_text(e, "name"));
    }
    if (limit_bytes > 0) {
        printf(" with %s on the disk, %s of %s cache",
               text_from_bytes(cli_json_number(e, "file"), file),
               text_from_bytes(cli_json_number(e, "cache"), used),
               text_from_bytes(limit_bytes, limit));
    }
}

static void print_server(const struct cJSON *m)
{
    char log[TEXT_UNIT_SIZE], used[TEXT_UNIT_SIZE], limit[TEXT_UNIT_SIZE], since[TEXT_UNIT_SIZE];
    uint64_t limit_bytes = cli_json_number(m, "memory_limit");
    printf("  %-10s %s at %s for %s, log %s", cli_json_text(m, "name"), cli_json_text(m, "role"),
           cli_json_text(m, "address"), text_from_ms(cli_json_number(m, "leads_for_ms"), since),
           text_from_bytes(cli_json_number(m, "log_bytes"), log));
    if (limit_bytes > 0) {
        printf(", %s of %s memory", text_from_bytes(cli_json_number(m, "memory"), used),
               text_from_bytes(limit_bytes, limit));
    }
    print_engine(cJSON_GetObjectItemCaseSensitive(m, "engine"));
    if (cli_json_number(m, "disk_total") > 0) {
        char room[TEXT_UNIT_SIZE], total[TEXT_UNIT_SIZE], images[TEXT_UNIT_SIZE];
        printf(", checkpoints %s, disk %s of %s free",
               text_from_bytes(cli_json_number(m, "disk_images"), images),
               text_from_bytes(cli_json_number(m, "disk_free"), room),
               text_from_bytes(cli_json_number(m, "disk_total"), total));
    }
    printf("\n");
}

static void print_contents(const struct cJSON *o)
{
    char bytes[TEXT_UNIT_SIZE], room[TEXT_UNIT_SIZE], total[TEXT_UNIT_SIZE];
    uint64_t clients = cli_json_number(o, "sessions"), garbage = cli_json_number(o, "garbage");
    printf("  %llu files and directories with %s, %s of %s free, %llu client%s",
           (unsigned long long)cli_json_number(o, "files"),
           text_from_bytes(cli_json_number(o, "bytes"), bytes),
           text_from_bytes(cli_json_number(o, "free"), room),
           text_from_bytes(cli_json_number(o, "total"), total), (unsigned long long)clients,
           clients == 1 ? "" : "s");
    if (garbage > 0) {
        printf(", %llu removed file%s to be cleaned up", (unsigned long long)garbage,
               garbage == 1 ? "" : "s");
    }
    printf("\n");
    uint64_t removed = cli_json_number(o, "trash_files");
    if (removed > 0) {
        printf("  trash: %llu removed file%s with %s\n", (unsigned long long)removed,
               removed == 1 ? "" : "s", text_from_bytes(cli_json_number(o, "trash_bytes"), bytes));
    }
}

static void print_cluster(const struct cJSON *o, bool colour)
{
    const struct cJSON *at;
    bool good = strcmp(cli_json_text(o, "health"), "healthy") == 0;
    printf("cluster %s (%s): %s%s%s, %s\n", cli_json_text(o, "name"), cli_json_text(o, "cluster"),
           colour ? (good ? GREEN : RED) : "", cli_json_text(o, "health"), colour ? PLAIN : "",
           cli_json_text(o, "text"));
    cJSON_ArrayForEach(at, cJSON_GetObjectItemCaseSensitive(o, "problems"))
    {
        print_problem(at, colour);
    }
    print_contents(o);
    cli_print_moves(o);
    cJSON_ArrayForEach(at, cJSON_GetObjectItemCaseSensitive(o, "metadata"))
    {
        print_server(at);
    }
    cJSON_ArrayForEach(at, cJSON_GetObjectItemCaseSensitive(o, "targets"))
    {
        print_target(at, colour);
    }
}

int cli_run_status(struct cli *c)
{
    struct cJSON *o = NULL;
    int status = cli_status_json(c, &o);
    if (status != 0) {
        return status;
    }
    bool good = strcmp(cli_json_text(o, "health"), "healthy") == 0;
    if (c->json) {
        cli_print_json(o);
    } else {
        print_cluster(o, cli_terminal_has_colour(c->terminal) && isatty(STDOUT_FILENO) == 1);
        cJSON_Delete(o);
    }
    return cli_flag(c, "check") && !good ? CLI_EXIT_FAILED : 0;
}

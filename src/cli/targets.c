/* cli/targets.c -- emptying, replacing and removing targets and nodes; how copies lie. */
#include "opendfs/targets.h"
#include "cli/local_priv.h"
#include "cli/tables_priv.h"

#include "base/text.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#define TARGET_PREFIX "target."
#define ID_PREFIX "id:"
#define MANY 1000u
#define WEIGHT_MAX 1000000u

/* By its name ("target.3" or "3"), its uuid, or its number ("id:7"). */
static bool target_is(const struct cJSON *t, const char *word)
{
    const char *name = cli_json_text(t, "name");
    uint64_t id = 0;
    if (strncmp(word, ID_PREFIX, strlen(ID_PREFIX)) == 0) {
        return text_to_u64(word + strlen(ID_PREFIX), &id) == 0 && id == cli_json_number(t, "id");
    }
    size_t prefix = strlen(TARGET_PREFIX);
    bool suffix = strncmp(name, TARGET_PREFIX, prefix) == 0 && strcmp(name + prefix, word) == 0;
    return suffix || strcmp(name, word) == 0 || strcmp(cli_json_text(t, "uuid"), word) == 0;
}

uint32_t cli_target_find(struct cli *c, const struct cJSON *status, const char *word)
{
    const struct cJSON *t;
    uint32_t found = 0;
    cJSON_ArrayForEach(t, cJSON_GetObjectItemCaseSensitive(status, "targets"))
    {
        if (!target_is(t, word)) {
            continue;
        }
        if (found != 0) {
            (void)cli_fail(
                c, "several targets are called '%s': say id:NUMBER, as `status` shows it", word);
            return 0;
        }
        found = (uint32_t)cli_json_number(t, "id");
    }
    if (found == 0) {
        (void)cli_fail(c, "there is no target '%s'", word);
    }
    return found;
}

static int plan_one(struct cli *c, const struct opendfs_target_plan *plan)
{
    return opendfs_plan_target(c->fs, plan) < 0 ? cli_fail_op(c, NULL) : 0;
}

/* Of all that the command names, before anything is changed. */
static int plan_targets(struct cli *c, uint32_t kind)
{
    struct cJSON *o = NULL;
    int status = cli_status_json(c, &o);
    for (size_t i = 0; status == 0 && i < c->argument_count; i++) {
        status = cli_target_find(c, o, c->argument[i]) == 0 ? CLI_EXIT_FAILED : 0;
    }
    for (size_t i = 0; status == 0 && i < c->argument_count; i++) {
        status = plan_one(c, &(struct opendfs_target_plan){
                                 .target = cli_target_find(c, o, c->argument[i]), .plan = kind});
    }
    cJSON_Delete(o);
    return status;
}

static int run_drain(struct cli *c)
{
    return plan_targets(c, OPENDFS_TARGET_DRAIN);
}

static int run_undrain(struct cli *c)
{
    return plan_targets(c, OPENDFS_TARGET_STAYS);
}

static int run_remove(struct cli *c)
{
    return plan_targets(c, OPENDFS_TARGET_REMOVE);
}

static int run_replace(struct cli *c)
{
    struct cJSON *o = NULL;
    struct opendfs_target_plan plan = {.plan = OPENDFS_TARGET_REPLACE};
    int status = cli_status_json(c, &o);
    if (status == 0) {
        plan.target = cli_target_find(c, o, c->argument[0]);
        plan.heir = plan.target == 0 ? 0 : cli_target_find(c, o, c->argument[1]);
        status = plan.heir == 0 ? CLI_EXIT_FAILED : plan_one(c, &plan);
    }
    cJSON_Delete(o);
    return status;
}

/* ---- Weight and labels ---- */

static int parse_values(struct cli *c, struct opendfs_target_values *v)
{
    const char *weight = cli_value(c, "weight"), *labels = cli_value(c, "labels");
    uint64_t n = 0;
    if (weight == NULL && labels == NULL) {
        return cli_usage(c, "say --weight, --labels or both");
    }
    if (weight != NULL && (text_to_u64(weight, &n) < 0 || n > WEIGHT_MAX)) {
        return cli_usage(c, "--weight '%s' is not a number up to %u", weight, WEIGHT_MAX);
    }
    if (labels != NULL && strlen(labels) >= sizeof v->labels) {
        return cli_usage(c, "labels have at most %zu bytes", sizeof v->labels - 1);
    }
    v->mask =
        (weight != NULL ? OPENDFS_TARGET_WEIGHT : 0) | (labels != NULL ? OPENDFS_TARGET_LABELS : 0);
    v->weight = (uint32_t)n;
    snprintf(v->labels, sizeof v->labels, "%s", labels == NULL ? "" : labels);
    return 0;
}

static int run_set(struct cli *c)
{
    struct opendfs_target_values v = {0};
    struct cJSON *o = NULL;
    int status = parse_values(c, &v);
    status = status != 0 ? status : cli_status_json(c, &o);
    if (status == 0) {
        v.target = cli_target_find(c, o, c->argument[0]);
        status = v.target == 0                       ? CLI_EXIT_FAILED
                 : opendfs_set_target(c->fs, &v) < 0 ? cli_fail_op(c, NULL)
                                                     : 0;
    }
    cJSON_Delete(o);
    return status;
}

/* ---- Nodes: all targets of a host ---- */

static int plan_node(struct cli *c, uint32_t kind)
{
    struct cJSON *o = NULL;
    const struct cJSON *t;
    size_t count = 0;
    int status = cli_status_json(c, &o);
    if (status != 0) {
        return status;
    }
    cJSON_ArrayForEach(t, cJSON_GetObjectItemCaseSensitive(o, "targets"))
    {
        if (strcmp(cli_json_text(t, "host"), c->argument[0]) == 0 && status == 0) {
            count++;
            status = plan_one(c, &(struct opendfs_target_plan){
                                     .target = (uint32_t)cli_json_number(t, "id"), .plan = kind});
        }
    }
    cJSON_Delete(o);
    if (status == 0 && count == 0) {
        return cli_fail(c, "no target is on a host '%s'", c->argument[0]);
    }
    return status;
}

static int run_node_drain(struct cli *c)
{
    return plan_node(c, OPENDFS_TARGET_DRAIN);
}

static int run_node_undrain(struct cli *c)
{
    return plan_node(c, OPENDFS_TARGET_STAYS);
}

static int run_node_remove(struct cli *c)
{
    return plan_node(c, OPENDFS_TARGET_REMOVE);
}

/* The nth target of a host; 0: it has not so many. */
static uint32_t node_target(const struct cJSON *status, const char *host, size_t nth)
{
    const struct cJSON *t;
    cJSON_ArrayForEach(t, cJSON_GetObjectItemCaseSensitive(status, "targets"))
    {
        bool gone = strcmp(cli_json_text(t, "plan"), "removed") == 0;
        if (!gone && strcmp(cli_json_text(t, "host"), host) == 0 && nth-- == 0) {
            return (uint32_t)cli_json_number(t, "id");
        }
    }
    return 0;
}

static size_t node_count(const struct cJSON *status, const char *host)
{
    size_t n = 0;
    while (node_target(status, host, n) != 0) {
        n++;
    }
    return n;
}

/* In their order; when the new host has fewer, some get the copies of several. */
static int run_node_replace(struct cli *c)
{
    struct cJSON *o = NULL;
    const char *from = c->argument[0], *to = c->argument[1];
    int status = cli_status_json(c, &o);
    if (status != 0) {
        return status;
    }
    size_t count = node_count(o, from), heirs = node_count(o, to), heir = 0;
    if (count == 0 || heirs == 0) {
        status = cli_fail(c, "no target is on a host '%s'", count == 0 ? from : to);
    } else if (strcmp(from, to) == 0) {
        status = cli_fail(c, "'%s' cannot replace itself", from);
    }
    for (size_t i = 0; i < count && status == 0; i++) {
        status = plan_one(c, &(struct opendfs_target_plan){.target = node_target(o, from, i),
                                                           .plan = OPENDFS_TARGET_REPLACE,
                                                           .heir = node_target(o, to, heir)});
        heir = heir + 1 < heirs ? heir + 1 : 0;
    }
    cJSON_Delete(o);
    return status;
}

/* ---- What is moved ---- */

void cli_print_moves(const struct cJSON *status)
{
    const struct cJSON *m = cJSON_GetObjectItemCaseSensitive(status, "moves");
    uint64_t left = cli_json_number(m, "left"), done = cli_json_number(m, "done"),
             all = done + left;
    uint64_t left_ms = cli_json_number(m, "left_ms");
    bool balance = !cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(m, "balance"));
    char time[TEXT_UNIT_SIZE];
    if (left > 0) {
        printf("  moving copies: %llu of %llu done, %llu under way", (unsigned long long)done,
               (unsigned long long)all, (unsigned long long)cli_json_number(m, "making"));
        if (left_ms > 0) {
            printf(", about %s to go", text_from_ms(left_ms, time));
        }
        printf(" (from targets that leave %llu, lost %llu, uneven %llu)\n",
               (unsigned long long)cli_json_number(m, "leaving"),
               (unsigned long long)cli_json_number(m, "lost"),
               (unsigned long long)cli_json_number(m, "uneven"));
    }
    if (m != NULL && !balance) {
        printf("  what lies unevenly stays where it is: `opendfs rebalance start`\n");
    }
}

static int set_balance(struct cli *c, int on)
{
    int status = cli_connect(c);
    if (status != 0) {
        return status;
    }
    return opendfs_set_balance(c->fs, on) < 0 ? cli_fail_op(c, NULL) : 0;
}

static int run_start(struct cli *c)
{
    return set_balance(c, 1);
}

static int run_stop(struct cli *c)
{
    return set_balance(c, 0);
}

static int run_moves(struct cli *c)
{
    struct cJSON *o = NULL;
    int status = cli_status_json(c, &o);
    if (status != 0) {
        return status;
    }
    struct cJSON *m = cJSON_DetachItemFromObjectCaseSensitive(o, "moves");
    if (m == NULL) {
        status = cli_fail(c, "this metadata server does not say");
    } else if (c->json) {
        cli_print_json(m);
    } else {
        cJSON_AddItemToObject(o, "moves", m);
        printf("%s\n", cli_json_text(m, "state"));
        cli_print_moves(o);
    }
    cJSON_Delete(o);
    return status;
}

/* ---- How chains lie ---- */

static void print_ratio(const char *what, uint64_t permille)
{
    printf(", %s %llu.%02llu", what, (unsigned long long)(permille / 1000),
           (unsigned long long)(permille % 1000 / 10));
}

static void print_class(const struct cJSON *k)
{
    uint64_t rebuild = cli_json_number(k, "rebuild");
    cli_print_name(cli_json_text(k, "name"));
    printf(": %llu chains of %llu copies, version %llu; most / mean: load",
           (unsigned long long)cli_json_number(k, "chains"),
           (unsigned long long)cli_json_number(k, "copies"),
           (unsigned long long)cli_json_number(k, "version"));
    uint64_t load = cli_json_number(k, "load");
    printf(" %llu.%02llu", (unsigned long long)(load / 1000),
           (unsigned long long)(load % 1000 / 10));
    print_ratio("heads", cli_json_number(k, "heads"));
    if (rebuild > 0) {
        print_ratio("rebuild of a lost target", rebuild);
        printf(" (target id:%llu)", (unsigned long long)cli_json_number(k, "rebuild_of"));
    }
    printf("\n");
}

static int run_table(struct cli *c)
{
    struct cJSON *o = NULL;
    const char *name = cli_argument(c, 0);
    int status = cli_status_json(c, &o);
    if (status != 0) {
        return status;
    }
    const struct cJSON *k;
    size_t count = 0;
    cJSON_ArrayForEach(k, cJSON_GetObjectItemCaseSensitive(o, "classes"))
    {
        if (name != NULL && strcmp(name, cli_json_text(k, "name")) != 0) {
            continue;
        }
        count++;
        if (c->json) {
            cli_print_json(cJSON_Duplicate(k, true));
        } else {
            print_class(k);
        }
    }
    cJSON_Delete(o);
    if (name != NULL && count == 0) {
        return cli_fail(c, "there is no storage class '%s'", name);
    }
    return 0;
}

/* ---- The table ---- */

#define RESUMES                                                                                  \
    "Answers when the cluster has noted it; it goes on by itself then, also after a failure of " \
    "any server.\nCopies are made before any is given up, so that there are never fewer than "   \
    "before. `opendfs status` shows\nhow far it is."
static const struct cli_option set_options[] = {
    {"weight", 0, "N", "its share of the copies, in any unit; 0: none, it is emptied"},
    {"labels", 0, "WORDS", "with blanks between them; \"\": none. Storage classes place by them"},
    {NULL, 0, NULL, NULL},
};
const struct cli_command cli_target_commands[] = {
    {.name = "target drain",
     .arguments = "TARGET...",
     .summary = "move all copies away from targets",
     .details = "TARGET: its name, its uuid, or id:NUMBER. " RESUMES " They stay in the cluster, "
                "empty.",
     .min_arguments = 1,
     .max_arguments = MANY,
     .run = run_drain},
    {.name = "target undrain",
     .arguments = "TARGET...",
     .summary = "let targets hold copies again",
     .details = "What `drain`, `replace` and `remove` began ends; what was moved away comes back "
                "as far as evenness asks for it.",
     .min_arguments = 1,
     .max_arguments = MANY,
     .run = run_undrain},
    {.name = "target replace",
     .arguments = "TARGET NEW",
     .summary = "move all copies of a target to another one, and remove it",
     .details = RESUMES " What may not lie on NEW, because another copy is on its host, goes "
                        "elsewhere.",
     .min_arguments = 2,
     .max_arguments = 2,
     .run = run_replace},
    {.name = "target remove",
     .arguments = "TARGET...",
     .summary = "move all copies away from targets, and remove them",
     .details = "Also for targets that are lost: their copies are made anew at once. " RESUMES,
     .min_arguments = 1,
     .max_arguments = MANY,
     .run = run_remove},
    {.name = "target set",
     .arguments = "TARGET",
     .summary = "change weight and labels of a target",
     .details = "They count at once, and instead of what its configuration says: that counts when "
                "a target registers\nfor the first time. Copies move to where they belong then; "
                "`opendfs status --json` shows the values.",
     .options = set_options,
     .min_arguments = 1,
     .max_arguments = 1,
     .run = run_set},
    {.name = "node drain",
     .arguments = "HOST",
     .summary = "move all copies away from the targets of a host",
     .details = RESUMES,
     .min_arguments = 1,
     .max_arguments = 1,
     .run = run_node_drain},
    {.name = "node undrain",
     .arguments = "HOST",
     .summary = "let the targets of a host hold copies again",
     .min_arguments = 1,
     .max_arguments = 1,
     .run = run_node_undrain},
    {.name = "node replace",
     .arguments = "HOST NEW",
     .summary = "move all copies of a host to another one, and remove its targets",
     .details =
         RESUMES " The first target of HOST goes to the first of NEW and so on; what may not "
                 "lie there, because another copy is on that host, goes elsewhere.",
     .min_arguments = 2,
     .max_arguments = 2,
     .run = run_node_replace},
    {.name = "node remove",
     .arguments = "HOST",
     .summary = "move all copies away from the targets of a host, and remove them",
     .details = RESUMES,
     .min_arguments = 1,
     .max_arguments = 1,
     .run = run_node_remove},
    {.name = "rebalance start",
     .arguments = "",
     .summary = "move copies to where there are fewer (as it is at first)",
     .details = "New targets get their share of what there is, members in one failure domain move "
                "apart.",
     .run = run_start},
    {.name = "rebalance stop",
     .arguments = "",
     .summary = "leave copies where they are",
     .details = "What is under way ends. What is drained, removed or lost is moved all the same.",
     .run = run_stop},
    {.name = "rebalance status",
     .arguments = "",
     .summary = "tell how many copies are moved, and how long it may take",
     .run = run_moves},
    {.name = "class table",
     .arguments = "[NAME]",
     .summary = "tell how evenly the chains of storage classes lie over targets",
     .details = "Each figure is what the target with most has, relative to the mean of all, by "
                "weight: 1.00 is even. `rebuild`:\nof the work that the loss of a target makes for "
                "the others, of that target for which it is the least even.",
     .max_arguments = 1,
     .run = run_table},
};
const size_t cli_target_command_count = ARRAY_COUNT(cli_target_commands);

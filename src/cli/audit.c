/* cli/audit.c -- audit: data on data nodes that belongs to no file. */
#include "cli/cli_priv.h"
#include "cli/local_priv.h"
#include "cli/tables_priv.h"

#include "base/text.h"
#include "opendfs/check.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int run_audit_start(struct cli *c)
{
    int status = cli_connect(c);
    if (status != 0) {
        return status;
    }
    if (opendfs_audit_start(c->fs) < 0) {
        return cli_fail_op(c, NULL);
    }
    cli_say(c, "the look has begun: `opendfs audit status` tells how it goes");
    return 0;
}

/* "17-4294967312" */
static int audit_range(const char *text, uint64_t *first, uint64_t *last)
{
    char *end = NULL;
    errno = 0;
    unsigned long long a = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '-' || end[1] < '0' || end[1] > '9' || text[0] < '0' ||
        text[0] > '9') {
        return -EINVAL;
    }
    const char *second = end + 1;
    unsigned long long b = strtoull(second, &end, 10);
    if (errno != 0 || *end != 0 || a == 0 || b < a) {
        return -EINVAL;
    }
    *first = a;
    *last = b;
    return 0;
}

static int run_audit_release(struct cli *c)
{
    uint64_t first = 0, last = 0;
    if (audit_range(cli_argument(c, 0), &first, &last) < 0) {
        return cli_fail(c,
                        "'%s' is no range of data ids: FIRST-LAST, as `opendfs audit status` "
                        "names it",
                        cli_argument(c, 0));
    }
    int status = cli_connect(c);
    if (status != 0) {
        return status;
    }
    if (opendfs_audit_release(c->fs, first, last) < 0) {
        return cli_fail_op(c, NULL);
    }
    return 0;
}

static void print_count(uint64_t count, const char *words)
{
    if (count > 0) {
        printf("  %llu %s\n", (unsigned long long)count, words);
    }
}

static void print_time(const char *words, uint64_t ms)
{
    char text[CLI_TIME_SIZE];
    if (ms > 0) {
        cli_time_to_text((int64_t)ms * 1000000, false, text);
        printf("%s %s", words, text);
    }
}

static void print_audit(const struct cJSON *a, const struct cJSON *leaps)
{
    char wait[TEXT_UNIT_SIZE];
    const struct cJSON *at;
    uint64_t missed = (uint64_t)cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(a, "missed"));
    printf("newest look: %s", cli_json_text(a, "state"));
    print_time(", begun", cli_json_number(a, "begun_ms"));
    print_time(", ended", cli_json_number(a, "ended_ms"));
    printf("\n");
    print_count(cli_json_number(a, "ids"), "data ids were looked at, each at every target");
    print_count(cli_json_number(a, "found"), "were found to belong to no file for the first time");
    print_count(cli_json_number(a, "waiting"), "were found before, but not long enough ago");
    print_count(cli_json_number(a, "removed"), "were found before, too, and are removed");
    print_count(cli_json_number(a, "held"), "may belong to files of another state: kept");
    print_count(cli_json_number(a, "unclear"), "were left alone: too many to note");
    print_count(missed, "targets were down, and are not looked at");
    print_count(cli_json_number(a, "suspects"), "data ids wait for a second look");
    printf("what two looks find is removed when there is %s between them\n",
           text_from_ms(cli_json_number(a, "wait_ms"), wait));
    cJSON_ArrayForEach(at, leaps)
    {
        printf("data ids %s-%s %s", cli_json_text(at, "first"), cli_json_text(at, "last"),
               cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(at, "unknown"))
                   ? "were given before it was written down what restores leap over"
                   : "were leapt over by a restore");
        print_time(" on", cli_json_number(at, "time_ms"));
        printf(": %s\n", cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(at, "released"))
                             ? "let go of, what belongs to no file is removed"
                             : "what is there is kept");
    }
}

static int run_audit_status(struct cli *c)
{
    struct cJSON *o = NULL;
    int status = cli_status_json(c, &o);
    if (status != 0) {
        return status;
    }
    struct cJSON *a = cJSON_DetachItemFromObjectCaseSensitive(o, "audit");
    struct cJSON *leaps = cJSON_DetachItemFromObjectCaseSensitive(o, "leaps");
    cJSON_Delete(o);
    if (a == NULL || leaps == NULL) {
        cJSON_Delete(a);
        cJSON_Delete(leaps);
        return cli_fail(c, "this metadata server does not say");
    }
    if (c->json) {
        cJSON_AddItemToObject(a, "leaps", leaps);
        cli_print_json(a);
        return 0;
    }
    print_audit(a, leaps);
    cJSON_Delete(a);
    cJSON_Delete(leaps);
    return 0;
}

const struct cli_command cli_audit_commands[] = {
    {.name = "audit start",
     .arguments = "",
     .summary = "look for data on data nodes that belongs to no file",
     .details =
         "For root. Compares what every data node holds with all files, those in the trash and "
         "those that are\nonly open included, and with what is being removed; in the background, "
         "a page at a time. What belongs\nto nothing is noted, and nothing is removed: that is "
         "done by a later look which finds the same, a day\nafter the first one or more "
         "(audit_wait in the configuration). Targets that are down are left out. The\ndata of "
         "files that were made after a backup which was restored is never removed by itself.",
     .run = run_audit_start},
    {.name = "audit status",
     .arguments = "",
     .summary = "tell what looks for data that belongs to no file have found",
     .details = "Also the ranges of data ids that restores have leapt over: files of the state "
                "before the restore may have\nthem, and a newer backup of it may still be found.",
     .run = run_audit_status},
    {.name = "audit release",
     .arguments = "FIRST-LAST",
     .summary = "let go of what lies in a range of data ids that a restore has leapt over",
     .details =
         "For root. FIRST-LAST is a whole range as `opendfs audit status` names it. Say so only "
         "when no other state\nof the metadata, newer than the backup that was restored, will "
         "ever be used: the data of files that\nonly that state knows is then removed by the "
         "next two looks. It cannot be taken back.",
     .min_arguments = 1,
     .max_arguments = 1,
     .run = run_audit_release},
};
const size_t cli_audit_command_count = ARRAY_COUNT(cli_audit_commands);

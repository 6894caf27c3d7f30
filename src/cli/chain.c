/* cli/chain.c -- chain: the last way out when the newest copies of a chain are lost for good. */
#include "cli/local_priv.h"
#include "cli/tables_priv.h"
#include "opendfs/targets.h"

#include "base/text.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CHAIN_ARGUMENTS 1000u
#define ANSWER "yes\n"

static bool chain_flag(const struct cJSON *o, const char *name)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, name));
}

static const char *chain_time(const struct cJSON *o, const char *name, char out[CLI_TIME_SIZE])
{
    uint64_t ms = cli_json_number(o, name);
    if (ms == 0) {
        return "a time that is not known";
    }
    cli_time_to_text((int64_t)ms * 1000000, true, out);
    return out;
}

/* The element of a list with this number in its member `key`; NULL: there is none. */
static const struct cJSON *chain_find(const struct cJSON *list, const char *key, uint64_t number)
{
    const struct cJSON *o;
    cJSON_ArrayForEach(o, list)
    {
        if (cli_json_number(o, key) == number) {
            return o;
        }
    }
    return NULL;
}

/* ---- What there is ---- */

static const char *member_has(const struct cJSON *m)
{
    const char *state = cli_json_text(m, "state"), *held = cli_json_text(m, "held");
    bool set = strcmp(state, "last-serving") == 0;
    return set                          ? "has what was synced"
           : strcmp(held, "whole") == 0 ? "has a whole copy"
           : strcmp(held, "part") == 0  ? "has only a part of it"
           : chain_flag(m, "up")        ? "does not say what it has"
                                        : "nobody knows what it has";
}

static void print_member(const struct cJSON *m)
{
    char time[CLI_TIME_SIZE];
    printf("    %-10s (id:%llu) host %-12s %-4s %-12s %s", cli_json_text(m, "name"),
           (unsigned long long)cli_json_number(m, "target"), cli_json_text(m, "host"),
           chain_flag(m, "up") ? "up" : "down", cli_json_text(m, "state"), member_has(m));
    if (cli_json_number(m, "left_epoch") > 0) {
        printf(", of %s (epoch %llu)", chain_time(m, "left_ms", time),
               (unsigned long long)cli_json_number(m, "left_epoch"));
    }
    printf("%s\n", chain_flag(m, "aside") ? ", set aside" : "");
}

void cli_dark_print(const struct cJSON *o)
{
    const struct cJSON *m;
    const char *command = cli_json_text(o, "command");
    char since[TEXT_UNIT_SIZE];
    printf("chain %llu: nobody has served it for %s; %s\n",
           (unsigned long long)cli_json_number(o, "chain"),
           text_from_ms(cli_json_number(o, "since_ms"), since), cli_json_text(o, "text"));
    cJSON_ArrayForEach(m, cJSON_GetObjectItemCaseSensitive(o, "members"))
    {
        print_member(m);
    }
    if (command[0] != 0 && strcmp(command, "?") != 0) {
        printf("    only when nothing newer will ever come back: %s\n", command);
    }
}

static void print_aside(const struct cJSON *o)
{
    char left[CLI_TIME_SIZE], of[CLI_TIME_SIZE], when[CLI_TIME_SIZE];
    printf("chain %llu: the copy of %s (id:%llu, host %s, %s), of %s, is set aside: that of %s was "
           "promoted at %s, which is of %s\n",
           (unsigned long long)cli_json_number(o, "chain"), cli_json_text(o, "name"),
           (unsigned long long)cli_json_number(o, "target"), cli_json_text(o, "host"),
           chain_flag(o, "up") ? "up" : "down", chain_time(o, "left_ms", left),
           cli_json_text(o, "promoted"), chain_time(o, "promoted_ms", when),
           chain_time(o, "of_ms", of));
}

static bool chain_wanted(const struct cli *c, const struct cJSON *o)
{
    char number[24];
    bool named = c->argument_count == 0;
    (void)snprintf(number, sizeof number, "%llu", (unsigned long long)cli_json_number(o, "chain"));
    for (size_t i = 0; i < c->argument_count && !named; i++) {
        named = strcmp(c->argument[i], number) == 0;
    }
    return named;
}

static int run_list(struct cli *c)
{
    struct cJSON *status = NULL;
    const struct cJSON *o;
    int rc = cli_status_json(c, &status);
    if (rc != 0) {
        return rc;
    }
    const char *const lists[] = {"dark", "aside"};
    for (size_t i = 0; i < ARRAY_COUNT(lists); i++) {
        cJSON_ArrayForEach(o, cJSON_GetObjectItemCaseSensitive(status, lists[i]))
        {
            if (!chain_wanted(c, o)) {
                continue;
            }
            if (c->json) {
                cli_print_json(cJSON_Duplicate(o, true));
            } else if (i == 0) {
                cli_dark_print(o);
            } else {
                print_aside(o);
            }
        }
    }
    cJSON_Delete(status);
    return 0;
}

/* ---- Orders ---- */

/* What is ordered of one chain; its element of the status is lent. */
struct chain_order {
    const struct cJSON *chain;
    uint32_t target;
};
struct chain_orders {
    struct cli *c;
    struct cJSON *status;
    const struct cJSON *list; /* where chains of that order are */
    uint32_t action, target;
    struct chain_order order[CHAIN_ARGUMENTS];
    size_t count;
};

static bool chain_fits(const struct chain_orders *x, const struct cJSON *o)
{
    const char *key = x->action == OPENDFS_CHAIN_PROMOTE ? "promote" : "target";
    return cli_json_number(o, key) == x->target;
}

static int chain_add(struct chain_orders *x, const struct cJSON *o)
{
    if (x->count == CHAIN_ARGUMENTS) {
        return cli_fail(x->c, "more than %u chains at a time", CHAIN_ARGUMENTS);
    }
    x->order[x->count++] = (struct chain_order){.chain = o, .target = x->target};
    return 0;
}

/* Of the chain that a word names; one that is not in the list is told why by the server. */
static int chain_add_named(struct chain_orders *x, const char *word)
{
    uint64_t number = 0;
    const struct cJSON *o = NULL;
    if (text_to_u64(word, &number) < 0 || number == 0 || number > UINT32_MAX) {
        return cli_usage(x->c, "'%s' is no number of a chain", word);
    }
    cJSON_ArrayForEach(o, x->list)
    {
        bool fits = x->action == OPENDFS_CHAIN_PROMOTE || chain_fits(x, o);
        if (fits && cli_json_number(o, "chain") == number) {
            return chain_add(x, o);
        }
    }
    return cli_fail(x->c,
                    x->action == OPENDFS_CHAIN_PROMOTE
                        ? "chain %llu is not dark: somebody serves it, or there is no such chain"
                        : "chain %llu: that target's copy was not set aside",
                    (unsigned long long)number);
}

static int chain_choose(struct chain_orders *x)
{
    struct cli *c = x->c;
    const struct cJSON *o;
    int rc = 0;
    bool all = cli_flag(c, "all");
    if (all != (c->argument_count == 1)) {
        return cli_usage(c, "name chains, or --all");
    }
    for (size_t i = 1; i < c->argument_count && rc == 0; i++) {
        rc = chain_add_named(x, c->argument[i]);
    }
    if (all) {
        cJSON_ArrayForEach(o, x->list)
        {
            rc = rc == 0 && chain_fits(x, o) ? chain_add(x, o) : rc;
        }
    }
    if (rc == 0 && x->count == 0) {
        rc = cli_fail(c,
                      x->action == OPENDFS_CHAIN_PROMOTE
                          ? "there is no chain for which a copy of '%s' would be promoted"
                          : "no copy of '%s' was set aside",
                      c->argument[0]);
    }
    return rc;
}

/* Since when it lacks what was written; 0: not known. */
static uint64_t say_lost(const struct chain_orders *x, const struct chain_order *y)
{
    const struct cJSON *list = cJSON_GetObjectItemCaseSensitive(y->chain, "members"), *m;
    const struct cJSON *own = chain_find(list, "target", y->target);
    char time[CLI_TIME_SIZE];
    fprintf(stderr,
            "chain %llu: %s (host %s) %s, of %s; what was written to this chain since "
            "then is lost.\n",
            (unsigned long long)cli_json_number(y->chain, "chain"), x->c->argument[0],
            own == NULL ? "?" : cli_json_text(own, "host"),
            own == NULL ? "is no member" : member_has(own),
            own == NULL ? "a time that is not known" : chain_time(own, "left_ms", time));
    cJSON_ArrayForEach(m, list)
    {
        if (m != own && chain_flag(m, "puts_aside")) {
            fprintf(
                stderr, "    given up: %s (host %s, %s), which %s%s\n", cli_json_text(m, "name"),
                cli_json_text(m, "host"), chain_flag(m, "up") ? "up" : "down", member_has(m),
                strcmp(cli_json_text(m, "state"), "last-serving") == 0 ? "" : ", and may be newer");
        }
    }
    return own == NULL ? 0 : cli_json_number(own, "left_ms");
}

static void say_promotion(const struct chain_orders *x)
{
    uint64_t since = 0;
    for (size_t i = 0; i < x->count; i++) {
        uint64_t left = say_lost(x, &x->order[i]);
        since = i == 0 || left < since ? left : since;
    }
    fprintf(stderr,
            "Files that were written since then read as they were at that time, or as zeros where "
            "they are longer now, also\nwhere programs were told that their data was safe. It "
            "cannot be taken back. Is one of those that are given up\nonly switched off, or its "
            "disk in another machine: bring it back instead.\n");
    if (since > 0) {
        char time[CLI_TIME_SIZE];
        cli_time_to_text((int64_t)since * 1000000, false, time);
        fprintf(stderr,
                "Which files that may be, where nobody has set times by hand: opendfs find --type "
                "f --newer '%s' /\n",
                time);
    }
}

static void say_discard(const struct chain_orders *x)
{
    char left[CLI_TIME_SIZE], of[CLI_TIME_SIZE];
    for (size_t i = 0; i < x->count; i++) {
        const struct cJSON *o = x->order[i].chain;
        fprintf(stderr,
                "chain %llu: the copy of %s, of %s, is made equal to that of %s, which is of %s "
                "and what was written later.\n",
                (unsigned long long)cli_json_number(o, "chain"), cli_json_text(o, "name"),
                chain_time(o, "left_ms", left), cli_json_text(o, "promoted"),
                chain_time(o, "of_ms", of));
    }
    fprintf(stderr, "What only the copies that are set aside have is lost. It cannot be taken "
                    "back.\n");
}

/* Asked at a terminal; elsewhere --yes has to say it. */
static bool chain_agreed(const struct chain_orders *x)
{
    char line[16] = "";
    if (cli_flag(x->c, "yes")) {
        return true;
    }
    if (isatty(STDIN_FILENO) != 1) {
        (void)cli_fail(x->c, "nothing was changed: --yes says that this is what you want");
        return false;
    }
    fprintf(stderr, "Type 'yes' to go on: ");
    if (fgets(line, sizeof line, stdin) == NULL || strcmp(line, ANSWER) != 0) {
        (void)cli_fail(x->c, "nothing was changed");
        return false;
    }
    return true;
}

/* A status names only the first ones. */
static void say_more(const struct chain_orders *x)
{
    const struct cJSON *chains = cJSON_GetObjectItemCaseSensitive(x->status, "chains");
    uint64_t all = x->action == OPENDFS_CHAIN_PROMOTE ? cli_json_number(chains, "dark")
                                                      : cli_json_number(x->status, "asides");
    if (cli_flag(x->c, "all") && all > (uint64_t)cJSON_GetArraySize(x->list)) {
        cli_say(x->c, "there are more: say it again for them");
    }
}

static int chain_send(struct chain_orders *x)
{
    int status = 0;
    for (size_t i = 0; i < x->count; i++) {
        const struct opendfs_chain_order order = {
            .action = x->action,
            .chain = (uint32_t)cli_json_number(x->order[i].chain, "chain"),
            .epoch = (uint32_t)cli_json_number(x->order[i].chain, "epoch"),
            .target = x->order[i].target};
        if (opendfs_order_chain(x->c->fs, &order) < 0) {
            status = cli_fail_op(x->c, NULL);
        } else {
            cli_done(x->c);
        }
    }
    say_more(x);
    return status;
}

static int run_order(struct cli *c, uint32_t action)
{
    CLEANUP(mem_freep) struct chain_orders *x = mem_zalloc(sizeof *x); /* too large for a stack */
    if (x == NULL) {
        return cli_fail(c, "not enough memory");
    }
    x->c = c;
    x->action = action;
    int rc = cli_status_json(c, &x->status);
    if (rc == 0) {
        x->list = cJSON_GetObjectItemCaseSensitive(
            x->status, action == OPENDFS_CHAIN_PROMOTE ? "dark" : "aside");
        x->target = cli_target_find(c, x->status, c->argument[0]);
        rc = x->target == 0 ? CLI_EXIT_FAILED : chain_choose(x);
    }
    if (rc == 0) {
        if (action == OPENDFS_CHAIN_PROMOTE) {
            say_promotion(x);
        } else {
            say_discard(x);
        }
        rc = chain_agreed(x) ? chain_send(x) : CLI_EXIT_FAILED;
    }
    cJSON_Delete(x->status);
    return rc;
}

static int run_promote(struct cli *c)
{
    return run_order(c, OPENDFS_CHAIN_PROMOTE);
}

static int run_discard(struct cli *c)
{
    return run_order(c, OPENDFS_CHAIN_DISCARD);
}

const struct cJSON *cli_dark_find(const struct cJSON *status, uint32_t chain)
{
    return chain_find(cJSON_GetObjectItemCaseSensitive(status, "dark"), "chain", chain);
}

/* ---- The table ---- */

static const struct cli_option order_options[] = {
    {"all", 'a', NULL, "all chains for which `opendfs chain list` says so of this target"},
    {"yes", 'y', NULL, "do not ask: what is said here is what you want"},
    {NULL, 0, NULL, NULL},
};
const struct cli_command cli_chain_commands[] = {
    {.name = "chain list",
     .arguments = "[CHAIN...]",
     .summary = "chains that nobody serves, and copies that were set aside",
     .details =
         "Who has what of each chain that nobody serves, what it waits for, and the command that "
         "lets an old copy serve\nwhen that never comes. Behind them, copies that were set aside "
         "by such commands.",
     .max_arguments = CHAIN_ARGUMENTS,
     .run = run_list},
    {.name = "chain promote",
     .arguments = "TARGET [CHAIN...]",
     .summary = "let an old copy serve: all newer ones are lost for good",
     .details =
         "For root. The last way out for chains that nobody serves: what was written since the "
         "copy of TARGET was whole is\nlost, also what was synced. Says what that is, and asks. "
         "Refused while anything else may help: while somebody\nserves the chain, when one that "
         "has all is back, when TARGET has only a part, and when another target that is up has\na "
         "newer copy. Copies that may be newer are set aside: when their targets come back they "
         "are neither used nor\noverwritten before `opendfs chain discard` says so. TARGET: as in "
         "`opendfs target drain`.",
     .options = order_options,
     .min_arguments = 1,
     .max_arguments = CHAIN_ARGUMENTS,
     .run = run_promote},
    {.name = "chain discard",
     .arguments = "TARGET [CHAIN...]",
     .summary = "give up what a copy has that was set aside",
     .details =
         "For root. The copy of TARGET is made equal to those that serve, as any that comes back; "
         "what only it has is lost.\nIf the target never comes back its copies are made anew on "
         "others. Refused while nobody serves the chain.",
     .options = order_options,
     .min_arguments = 1,
     .max_arguments = CHAIN_ARGUMENTS,
     .run = run_discard},
};
const size_t cli_chain_command_count = ARRAY_COUNT(cli_chain_commands);

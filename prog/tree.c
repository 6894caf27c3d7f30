/* prog/tree.c -- `opendfs tree verify`, `dump`, `stats`, `copy`, `rebuild`: the file of a tree
 * engine, offline. */
#include "servers.h"

#include "base/text.h"
#include "host.h"
#include "tree/check.h"
#include "tree/copy.h"
#include "tree/dump.h"
#include "tree/rebuild.h"

#include <stdio.h>

static void lines_print(void *arg, const char *text, size_t len)
{
    (void)arg;
    fwrite(text, 1, len, stdout);
    putchar('\n');
}

struct tree_lines server_lines(const struct cli *c)
{
    return (struct tree_lines){.json = cli_json(c), .line = lines_print};
}

/* A number behind an option; not given: `otherwise`. */
static int tree_number(struct cli *c, const char *option, uint64_t otherwise, uint64_t *ret)
{
    const char *text = cli_value(c, option);
    *ret = otherwise;
    if (text != NULL && text_to_u64(text, ret) < 0) {
        return cli_usage(c, "--%s: '%s' is not a number", option, text);
    }
    return 0;
}

/* ---- verify ---- */

struct tree_verify {
    struct tree_lines to;
    struct tree_line line;
    int rc;
    bool notes;
};

static void verify_found(void *arg, const struct tree_finding *f)
{
    struct tree_verify *v = arg;
    if (v->rc == 0 && (v->notes || f->severity != TREE_FINDING_NOTE)) {
        v->rc = tree_finding_print(f, &v->line, &v->to);
    }
}

static int verify_summary(struct tree_verify *v, const struct tree_check_result *r, unsigned level)
{
    struct tree_line *l = &v->line;
    tree_line_begin(l, &v->to, r->damages > 0 ? "damaged" : r->warnings > 0 ? "unsound" : "sound");
    tree_line_number(l, "checkpoint", r->checkpoint);
    tree_line_number(l, "applied_index", r->applied_index);
    tree_line_number(l, "level", level);
    tree_line_number(l, "damages", r->damages);
    tree_line_number(l, "warnings", r->warnings);
    tree_line_number(l, "nodes", r->nodes);
    tree_line_number(l, "leaves", r->leaves);
    tree_line_number(l, "records", r->records);
    tree_line_number(l, "messages", r->messages);
    tree_line_number(l, "segments", r->segments);
    tree_line_number(l, "read_bytes", r->read_bytes);
    return tree_line_end(l, &v->to);
}

int server_tree_verify(struct cli *c)
{
    struct host h = {0};
    struct err e = {0};
    struct tree_check_result result = {0};
    struct tree_verify v = {.to = server_lines(c), .notes = cli_flag(c, "notes")};
    uint64_t level = 0;
    int status = tree_number(c, "level", TREE_CHECK_LEVEL_MAX, &level);
    if (status != 0) {
        return status;
    }
    if (level < 1 || level > TREE_CHECK_LEVEL_MAX) {
        return cli_usage(c, "--level is 1 to %u", TREE_CHECK_LEVEL_MAX);
    }
    int rc = host_init_bare(&h, &e);
    if (rc == 0) {
        struct tree_check_options opt = {.disk = h.disk,
                                         .path = cli_argument(c, 0),
                                         .level = (unsigned)level,
                                         .older = cli_flag(c, "older"),
                                         .found = verify_found,
                                         .arg = &v};
        rc = tree_check(&opt, &result, &e);
    }
    rc = rc < 0 ? rc : v.rc;
    rc = rc < 0 ? rc : verify_summary(&v, &result, (unsigned)level);
    tree_line_fini(&v.line);
    host_fini(&h);
    if (rc < 0) {
        return cli_fail(c, "%s: %s", cli_argument(c, 0), err_message(&e, rc));
    }
    if (result.changed) {
        return cli_fail(c,
                        "%s: somebody has written the file meanwhile: what was found says "
                        "nothing. Stop the server first",
                        cli_argument(c, 0));
    }
    return result.damages + result.warnings > 0 ? CLI_EXIT_FAILED : 0;
}

/* ---- dump, stats ---- */

static int tree_finish(struct cli *c, int rc, uint64_t damages, const struct err *e)
{
    if (rc < 0) {
        return cli_fail(c, "%s: %s", cli_argument(c, 0), err_message(e, rc));
    }
    return damages > 0 ? CLI_EXIT_FAILED : 0;
}

/* "\xNN" stands for a byte, as it is printed. Into `out`, of TREE_KEY_MAX bytes or less. */
static int tree_key(struct cli *c, const char *option, uint8_t *out, struct kv_slice *ret)
{
    const char *text = cli_value(c, option);
    size_t len = 0;
    for (; text != NULL && *text != 0; len++) {
        bool escaped = text[0] == '\\' && text[1] == 'x';
        char digits[3] = {0};
        if (len == KV_KEY_MAX) {
            return cli_usage(c, "--%s: more than %u bytes", option, KV_KEY_MAX);
        }
        out[len] = (uint8_t)*text;
        if (escaped) {
            snprintf(digits, sizeof digits, "%s", text + 2);
            if (text_unhex(&out[len], 1, digits) < 0) {
                return cli_usage(c, "--%s: two digits of 0 to f must follow \\x", option);
            }
        }
        text += escaped ? 4 : 1;
    }
    *ret = kv_slice_of(out, len);
    return 0;
}

int server_tree_dump(struct cli *c)
{
    struct host h = {0};
    struct err e = {0};
    uint8_t low[KV_KEY_MAX], high[KV_KEY_MAX];
    uint64_t damages = 0;
    bool range = cli_flag(c, "from") || cli_flag(c, "to");
    struct tree_dump_options opt = {.path = cli_argument(c, 0),
                                    .older = cli_flag(c, "older"),
                                    .segments = cli_flag(c, "segments"),
                                    .values = cli_flag(c, "values"),
                                    .to = server_lines(c)};
    opt.keys = cli_flag(c, "keys") || opt.values || range;
    int status = tree_number(c, "block", 0, &opt.block);
    status = status != 0 ? status : tree_key(c, "from", low, &opt.low);
    status = status != 0 ? status : tree_key(c, "to", high, &opt.high);
    if (status != 0) {
        return status;
    }
    int rc = host_init_bare(&h, &e);
    opt.disk = h.disk;
    rc = rc < 0 ? rc : tree_dump(&opt, &damages, &e);
    host_fini(&h);
    return tree_finish(c, rc, damages, &e);
}

int server_tree_stats(struct cli *c)
{
    struct host h = {0};
    struct err e = {0};
    uint64_t damages = 0;
    struct tree_stats_options opt = {
        .path = cli_argument(c, 0), .older = cli_flag(c, "older"), .to = server_lines(c)};
    int rc = host_init_bare(&h, &e);
    opt.disk = h.disk;
    rc = rc < 0 ? rc : tree_stats(&opt, &damages, &e);
    host_fini(&h);
    return tree_finish(c, rc, damages, &e);
}

/* ---- copy ---- */

static int copy_summary(struct tree_verify *v, const struct tree_copy_result *r)
{
    struct tree_line *l = &v->line;
    tree_line_begin(l, &v->to, "copied");
    tree_line_number(l, "checkpoint", r->checkpoint);
    tree_line_number(l, "applied_index", r->applied_index);
    tree_line_number(l, "bytes", r->bytes);
    tree_line_number(l, "file_bytes_before", r->before_bytes);
    return tree_line_end(l, &v->to);
}

int server_tree_copy(struct cli *c)
{
    struct host h = {0};
    struct err e = {0};
    struct tree_copy_result result = {0};
    struct tree_verify v = {.to = server_lines(c)};
    int rc = host_init_bare(&h, &e);
    struct tree_copy_options opt = {.disk = h.disk,
                                    .path = cli_argument(c, 0),
                                    .out = cli_argument(c, 1),
                                    .older = cli_flag(c, "older")};
    rc = rc < 0 ? rc : tree_copy(&opt, &result, &e);
    rc = rc < 0 ? rc : copy_summary(&v, &result);
    tree_line_fini(&v.line);
    host_fini(&h);
    return tree_finish(c, rc, 0, &e);
}

/* ---- rebuild ---- */

/* As `tree dump` shows it, or as the configuration has it. */
static int rebuild_owner(struct cli *c, struct uuid *out, const uint8_t **ret)
{
    const char *text = cli_value(c, "owner");
    if (text == NULL) {
        return 0;
    }
    if (uuid_from_text(out, text) < 0 && text_unhex(out->bytes, sizeof out->bytes, text) < 0) {
        return cli_usage(c, "--owner: '%s' is no id of a cluster", text);
    }
    *ret = out->bytes;
    return 0;
}

static int rebuild_summary(struct tree_verify *v, const struct tree_rebuild_result *r)
{
    struct tree_line *l = &v->line;
    tree_line_begin(l, &v->to, r->losses > 0 ? "saved_in_part" : "saved");
    tree_line_number(l, "checkpoint", r->checkpoint);
    tree_line_number(l, "applied_index", r->applied_index);
    tree_line_text(l, "applied_index_is", r->has_super ? "of the superblock" : "as given");
    if (r->has_super) {
        tree_line_number(l, "log_needed_from", r->applied_index + 1);
    }
    if (r->left_out > 0) {
        tree_line_number(l, "newer_checkpoint_left_out", r->left_out);
    }
    if (r->left_out_index > 0) {
        tree_line_number(l, "newer_applied_index", r->left_out_index);
    }
    tree_line_number(l, "losses", r->losses);
    tree_line_number(l, "nodes_copied", r->copied);
    tree_line_number(l, "nodes_mended", r->mended);
    tree_line_number(l, "nodes_older", r->older);
    tree_line_number(l, "nodes_made", r->made);
    tree_line_number(l, "segments", r->pieces);
    tree_line_number(l, "segments_mended", r->pieces_mended);
    tree_line_number(l, "segments_lost", r->pieces_lost);
    return tree_line_end(l, &v->to);
}

int server_tree_rebuild(struct cli *c)
{
    struct host h = {0};
    struct err e = {0};
    struct uuid owner;
    struct tree_rebuild_result result = {0};
    struct tree_verify v = {.to = server_lines(c), .notes = true};
    struct tree_rebuild_options opt = {.path = cli_argument(c, 0),
                                       .out = cli_value(c, "out"),
                                       .older = cli_flag(c, "older"),
                                       .found = verify_found,
                                       .arg = &v};
    if (opt.out == NULL) {
        return cli_usage(c, "say where to: --out FILE");
    }
    int status = tree_number(c, "index", 0, &opt.index);
    status = status != 0 ? status : tree_number(c, "term", 0, &opt.term);
    status = status != 0 ? status : rebuild_owner(c, &owner, &opt.owner);
    if (status != 0) {
        return status;
    }
    int rc = host_init_bare(&h, &e);
    opt.disk = h.disk;
    rc = rc < 0 ? rc : tree_rebuild(&opt, &result, &e);
    rc = rc < 0 ? rc : v.rc;
    rc = rc < 0 ? rc : rebuild_summary(&v, &result);
    tree_line_fini(&v.line);
    host_fini(&h);
    return tree_finish(c, rc, result.losses, &e);
}

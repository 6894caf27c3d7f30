/* cli/trash.c -- trash list, restore, empty, keep, show: removed files, and how long they are kept.
 */
#include "cli/cli_priv.h"
#include "cli/tables_priv.h"

#include "base/mem.h"
#include "base/text.h"
#include "opendfs/trash.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)
#define ALL_OPTION                                                             \
    {                                                                          \
        "all", 'a', NULL, "files of everybody (root only), not only one's own" \
    }

/* Goes through the trash, page by page; `each` may keep nothing of an entry. */
struct trash_walk {
    struct cli *c;
    const char *below; /* NULL: from anywhere */
    int (*each)(struct trash_walk *w, const struct opendfs_trash_entry *e); /* 0 or exit status */
    int (*page_end)(struct trash_walk *w);                                  /* may be NULL */
};

static int walk(struct trash_walk *w)
{
    struct opendfs_trash_query q = {.path = w->below, .owner = (uint32_t)geteuid()};
    bool more = true;
    int status = 0;
    if (cli_flag(w->c, "all")) {
        q.owner = OPENDFS_TRASH_ANYBODY;
    }
    while (more && status == 0) {
        struct opendfs_trash_page *page = NULL;
        if (opendfs_trash_list(w->c->fs, &q, &page) < 0) {
            return cli_fail_op(w->c, NULL);
        }
        for (size_t i = 0; i < page->count && status == 0; i++) {
            status = w->each(w, &page->entries[i]);
        }
        more = page->at_end == 0;
        opendfs_free(page);
        if (status == 0 && w->page_end != NULL) {
            status = w->page_end(w);
        }
    }
    return status;
}

static char *entry_path(const struct opendfs_trash_entry *e)
{
    return cli_join(e->directory, e->name);
}

/* ---- list ---- */

struct listing {
    struct trash_walk walk;
    uint64_t files, bytes;
};

static void list_json(const struct opendfs_trash_entry *e, const char *path)
{
    struct cJSON *o = cli_stat_to_json(path, &e->stat);
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)e->removed_ns);
    cJSON_AddStringToObject(o, "removed_ns", text);
    snprintf(text, sizeof text, "%lld", (long long)e->expiry_ns);
    cJSON_AddStringToObject(o, "expiry_ns", text);
    cJSON_AddNumberToObject(o, "removed_by", e->removed_by);
    cJSON_AddBoolToObject(o, "directory_gone", e->parent_gone != 0);
    cli_print_json(o);
}

static int list_each(struct trash_walk *w, const struct opendfs_trash_entry *e)
{
    struct listing *l = container_of(w, struct listing, walk);
    CLEANUP(mem_freep) char *path = entry_path(e);
    CLEANUP(mem_freep) char *shown = path == NULL ? NULL : mem_alloc(strlen(path) + 1);
    if (shown == NULL) {
        return cli_fail_path(w->c, e->name, -ENOMEM);
    }
    l->files++;
    l->bytes += e->stat.size_bytes;
    if (w->c->json) {
        list_json(e, path);
        return 0;
    }
    char removed[CLI_TIME_SIZE], until[CLI_TIME_SIZE], size[TEXT_UNIT_SIZE];
    cli_time_to_text(e->removed_ns, false, removed);
    cli_time_to_text(e->expiry_ns, false, until);
    cli_printable(path, strlen(path), shown);
    printf("%8llu  %s  until %s  %10s  uid %-5u  %s%s\n", (unsigned long long)e->stat.ino, removed,
           until, text_from_bytes(e->stat.size_bytes, size), e->stat.uid, shown,
           e->parent_gone ? "  (directory gone)" : "");
    return 0;
}

static int run_list(struct cli *c)
{
    struct listing l = {.walk = {.c = c, .each = list_each}};
    CLEANUP(mem_freep) char *below = NULL;
    if (c->argument_count > 0 && (below = cli_path(c, c->argument[0])) == NULL) {
        return CLI_EXIT_USAGE;
    }
    int status = cli_connect(c);
    if (status != 0) {
        return status;
    }
    l.walk.below = below;
    status = walk(&l.walk);
    if (status == 0 && !c->json) {
        char bytes[TEXT_UNIT_SIZE];
        cli_say(c, "%llu file%s, %s", (unsigned long long)l.files, l.files == 1 ? "" : "s",
                text_from_bytes(l.bytes, bytes));
    }
    return status;
}

/* ---- restore ---- */

/* What of the trash an argument means: one file, or with -r all that was below a directory. */
struct found {
    uint64_t ino, parent_ino;
    int64_t removed_ns;
    bool parent_gone;
    char *path; /* owned */
};
struct search {
    struct trash_walk walk;
    const char *path; /* NULL: by number */
    uint64_t ino;
    bool recursive;
    struct found *found;
    size_t count, size;
    size_t older; /* with the same path, removed before */
};

static struct found *same_path(struct search *s, const char *path)
{
    for (size_t i = 0; i < s->count && !s->recursive; i++) {
        if (strcmp(s->found[i].path, path) == 0) {
            return &s->found[i];
        }
    }
    return NULL;
}

static int search_each(struct trash_walk *w, const struct opendfs_trash_entry *e)
{
    struct search *s = container_of(w, struct search, walk);
    char *path = entry_path(e);
    struct found f = {.ino = e->stat.ino,
                      .parent_ino = e->parent_ino,
                      .removed_ns = e->removed_ns,
                      .parent_gone = e->parent_gone != 0,
                      .path = path};
    bool wanted = path != NULL && (s->path == NULL ? e->stat.ino == s->ino
                                   : s->recursive  ? true
                                                   : strcmp(path, s->path) == 0);
    struct found *same = wanted ? same_path(s, path) : NULL;
    if (same != NULL) {
        bool newer = f.removed_ns > same->removed_ns;
        mem_free(newer ? same->path : path);
        *same = newer ? f : *same;
        s->older++;
        return 0;
    }
    int rc = path == NULL ? -ENOMEM
             : wanted     ? mem_grow(&s->found, &s->size, s->count + 1, sizeof *s->found)
                          : 0;
    if (!wanted || rc < 0) {
        mem_free(path);
        return rc < 0 ? cli_fail_path(w->c, e->name, rc) : 0;
    }
    s->found[s->count++] = f;
    return 0;
}

static void search_fini(struct search *s)
{
    for (size_t i = 0; i < s->count; i++) {
        mem_free(s->found[i].path);
    }
    mem_free(s->found);
}

static int restored(struct cli *c, const struct found *f, int rc, const char *to)
{
    if (rc < 0) {
        return cli_fail(c, "%s (%llu): %s", to, (unsigned long long)f->ino, opendfs_last_error());
    }
    cli_say(c, "%s is back%s%s", f->path, strcmp(f->path, to) == 0 ? "" : " as ",
            strcmp(f->path, to) == 0 ? "" : to);
    return 0;
}

/* To `to`, or into it when it is a directory. */
static int restore_to(struct cli *c, const struct found *f, const char *to)
{
    struct opendfs_stat st;
    int rc = opendfs_stat(c->fs, to, &st);
    if (rc < 0 && rc != -ENOENT) {
        return cli_fail_op(c, NULL);
    }
    bool into = rc == 0 && st.type == OPENDFS_TYPE_DIRECTORY;
    CLEANUP(mem_freep) char *inside = into ? cli_join(to, strrchr(f->path, '/') + 1) : NULL;
    if (into && inside == NULL) {
        return cli_fail_path(c, to, -ENOMEM);
    }
    to = into ? inside : to;
    return restored(c, f, opendfs_trash_restore(c->fs, f->ino, 0, to), to);
}

/* Where it was: in that very directory, whatever it is called now. */
static int restore_back(struct cli *c, const struct found *f)
{
    const char *name = strrchr(f->path, '/') + 1;
    if (f->parent_gone) {
        return cli_fail(c, "%s (%llu): its directory is gone: say where to, or use -r DIRECTORY",
                        f->path, (unsigned long long)f->ino);
    }
    return restored(c, f, opendfs_trash_restore(c->fs, f->ino, f->parent_ino, name), f->path);
}

/* All that was below `top`, with the directories, to the same place below `to`. */
static int restore_tree(struct search *s, const char *top, const char *to)
{
    struct cli *c = s->walk.c;
    size_t skip = strcmp(top, "/") == 0 ? 0 : strlen(top);
    int status = 0;
    for (size_t i = 0; i < s->count; i++) {
        CLEANUP(mem_freep)
        char *path = mem_printf("%s%s", strcmp(to, "/") == 0 ? "" : to, s->found[i].path + skip);
        CLEANUP(mem_freep) char *dir = path == NULL ? NULL : mem_strdup(path);
        if (dir == NULL) {
            return cli_fail_path(c, to, -ENOMEM);
        }
        *strrchr(dir, '/') = 0;
        if (dir[0] != 0 && opendfs_make_directories(c->fs, dir, 0755) < 0) {
            status = cli_fail_op(c, NULL);
            continue;
        }
        int rc = opendfs_trash_restore(c->fs, s->found[i].ino, 0, path);
        status = restored(c, &s->found[i], rc, path) != 0 ? CLI_EXIT_FAILED : status;
    }
    return status;
}

static int newest_first(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    return x->removed_ns > y->removed_ns ? -1 : x->removed_ns < y->removed_ns ? 1 : 0;
}

static int restore_found(struct search *s, const char *what, const char *to)
{
    struct cli *c = s->walk.c;
    if (s->count == 0) {
        return cli_fail(c, "%s: there is no such file in the trash%s", what,
                        cli_flag(c, "all") ? "" : " of this user");
    }
    if (s->recursive) { /* of several with one path the newest comes first, and wins */
        qsort(s->found, s->count, sizeof *s->found, newest_first);
        return restore_tree(s, s->path, to == NULL ? s->path : to);
    }
    if (s->older > 0) {
        cli_say(c,
                "the newest of %zu; `opendfs trash list` shows the others, which are restored "
                "by their number",
                s->older + 1);
    }
    return to == NULL ? restore_back(c, &s->found[0]) : restore_to(c, &s->found[0], to);
}

static int run_restore(struct cli *c)
{
    struct search s = {.walk = {.c = c, .each = search_each},
                       .recursive = cli_flag(c, "recursive")};
    CLEANUP(mem_freep) char *what = NULL, *to = NULL;
    bool number = text_to_u64(c->argument[0], &s.ino) == 0;
    if ((!number && (what = cli_path(c, c->argument[0])) == NULL) ||
        (c->argument_count > 1 && (to = cli_path(c, c->argument[1])) == NULL)) {
        return CLI_EXIT_USAGE;
    }
    if (number && s.recursive) {
        return cli_usage(c, "-r needs the path of a directory");
    }
    int status = cli_connect(c);
    if (status != 0) {
        return status;
    }
    s.path = what;
    CLEANUP(mem_freep) char *below = what == NULL ? NULL : mem_strdup(what);
    if (below != NULL && !s.recursive) { /* files of that directory, and below, are looked at */
        char *slash = strrchr(below, '/');
        slash[slash == below ? 1 : 0] = 0;
    }
    s.walk.below = below;
    status = walk(&s.walk);
    status = status != 0 ? status : restore_found(&s, c->argument[0], to);
    search_fini(&s);
    return status;
}

/* ---- empty ---- */

struct emptying {
    struct trash_walk walk;
    int64_t before_ns; /* removed before */
    uint64_t ino[OPENDFS_TRASH_PURGE_MAX];
    size_t count;
    uint64_t files, bytes;
};

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y ? 1 : 0;
}

static int empty_purge(struct trash_walk *w)
{
    struct emptying *m = container_of(w, struct emptying, walk);
    if (m->count == 0) {
        return 0;
    }
    qsort(m->ino, m->count, sizeof *m->ino, by_number);
    int rc = opendfs_trash_purge(w->c->fs, m->ino, m->count);
    m->files += rc < 0 ? 0 : m->count;
    m->count = 0;
    return rc < 0 ? cli_fail_op(w->c, NULL) : 0;
}

static int empty_each(struct trash_walk *w, const struct opendfs_trash_entry *e)
{
    struct emptying *m = container_of(w, struct emptying, walk);
    if (e->removed_ns > m->before_ns) {
        return 0;
    }
    m->ino[m->count++] = e->stat.ino;
    m->bytes += e->stat.size_bytes;
    return m->count == ARRAY_COUNT(m->ino) ? empty_purge(w) : 0;
}

static int run_empty(struct cli *c)
{
    struct emptying m = {.walk = {.c = c, .each = empty_each, .page_end = empty_purge},
                         .before_ns = INT64_MAX};
    CLEANUP(mem_freep) char *below = NULL;
    const char *older = cli_value(c, "older");
    uint64_t ms = 0;
    if (older != NULL && text_to_ms(older, &ms) < 0) {
        return cli_usage(c, "'%s' is not a time: 90s, 10min, 12h, 30d", older);
    }
    if (c->argument_count > 0 && (below = cli_path(c, c->argument[0])) == NULL) {
        return CLI_EXIT_USAGE;
    }
    int status = cli_connect(c);
    if (status != 0) {
        return status;
    }
    if (older != NULL) {
        int64_t now_ns = (int64_t)loop_wall_ns(c->loop);
        m.before_ns =
            ms / 1000 > (uint64_t)(now_ns / NS_PER_S) ? 0 : now_ns - (int64_t)ms * 1000000;
    }
    m.walk.below = below;
    status = walk(&m.walk);
    char bytes[TEXT_UNIT_SIZE];
    cli_say(c, "%llu file%s removed for good%s%s", (unsigned long long)m.files,
            m.files == 1 ? "" : "s", status == 0 ? ", " : "",
            status == 0 ? text_from_bytes(m.bytes, bytes) : "");
    return status;
}

/* ---- keep, show ---- */

static int parse_retention(const struct cli *c, const char *text, uint32_t *ret)
{
    uint64_t ms = 0;
    if (strcmp(text, "off") == 0 || strcmp(text, "inherit") == 0) {
        *ret = text[0] == 'o' ? OPENDFS_RETENTION_NONE : OPENDFS_RETENTION_INHERIT;
        return 0;
    }
    if (text_to_ms(text, &ms) < 0 || ms < 1000 || ms / 1000 >= OPENDFS_RETENTION_NONE) {
        return cli_usage(c, "'%s' is not a time: 90s, 10min, 12h, 30d; off; inherit", text);
    }
    *ret = (uint32_t)(ms / 1000);
    return 0;
}

static int run_keep(struct cli *c)
{
    uint32_t seconds = 0;
    CLEANUP(mem_freep) char *path = cli_path(c, c->argument[0]);
    if (path == NULL) {
        return CLI_EXIT_USAGE;
    }
    int status = parse_retention(c, c->argument[1], &seconds);
    status = status != 0 ? status : cli_connect(c);
    if (status != 0) {
        return status;
    }
    return opendfs_trash_set_retention(c->fs, path, seconds) < 0 ? cli_fail_op(c, NULL) : 0;
}

static int run_show(struct cli *c)
{
    struct opendfs_retention r;
    CLEANUP(mem_freep) char *path = cli_path(c, c->argument[0]);
    if (path == NULL) {
        return CLI_EXIT_USAGE;
    }
    int status = cli_connect(c);
    if (status != 0) {
        return status;
    }
    if (opendfs_trash_get_retention(c->fs, path, &r) < 0) {
        return cli_fail_op(c, NULL);
    }
    if (c->json) {
        struct cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "path", path);
        cJSON_AddStringToObject(o, "own",
                                r.own_s == OPENDFS_RETENTION_INHERIT ? "inherit"
                                : r.own_s == OPENDFS_RETENTION_NONE  ? "off"
                                                                     : "time");
        cJSON_AddNumberToObject(o, "holds_s", r.holds_s);
        cJSON_AddNumberToObject(o, "from_ino", (double)r.from_ino);
        cli_print_json(o);
        return 0;
    }
    char time[TEXT_UNIT_SIZE];
    const char *from = r.own_s != OPENDFS_RETENTION_INHERIT ? "set here"
                       : r.from_ino == 0                    ? "no directory says anything"
                                                            : "set on a directory above";
    if (r.holds_s == 0) {
        printf("%s: what is removed is gone (%s)\n", path, from);
    } else {
        printf("%s: what is removed is kept for %s (%s)\n", path,
               text_from_ms((uint64_t)r.holds_s * 1000, time), from);
    }
    return 0;
}

/* ---- The table ---- */

static const struct cli_option list_options[] = {ALL_OPTION, {NULL, 0, NULL, NULL}};
static const struct cli_option restore_options[] = {
    ALL_OPTION,
    {"recursive", 'r', NULL, "all that was removed below a directory, with the directories"},
    {NULL, 0, NULL, NULL},
};
static const struct cli_option empty_options[] = {
    ALL_OPTION,
    {"older", 0, "TIME", "only what was removed longer ago than that: 90s, 12h, 30d"},
    {NULL, 0, NULL, NULL},
};
const struct cli_command cli_trash_commands[] = {
    {.name = "trash list",
     .arguments = "[PATH]",
     .summary = "list removed files that can be had back",
     .details =
         "Number, when it was removed, until when it is kept, size, owner, and the path that "
         "it had\nthen. With PATH: those of that directory and below.",
     .options = list_options,
     .max_arguments = 1,
     .run = run_list},
    {.name = "trash restore",
     .arguments = "PATH|NUMBER [DESTINATION]",
     .summary = "give a removed file its name again",
     .details = "To where it was, or to DESTINATION (into it when it is a directory). Of several "
                "with one path\nthe one removed last; the others by their number in the list.",
     .options = restore_options,
     .min_arguments = 1,
     .max_arguments = 2,
     .run = run_restore},
    {.name = "trash empty",
     .arguments = "[PATH]",
     .summary = "remove what is in the trash for good",
     .details = "With PATH: what was removed from that directory and below.",
     .options = empty_options,
     .max_arguments = 1,
     .run = run_empty},
    {.name = "trash keep",
     .arguments = "DIRECTORY TIME|off|inherit",
     .summary = "say how long files removed below a directory are kept",
     .details = "Holds from now on for all below DIRECTORY but for directories that say something "
                "themselves\nand what is below those; on / for the whole cluster. What is in the "
                "trash keeps its time.",
     .min_arguments = 2,
     .max_arguments = 2,
     .run = run_keep},
    {.name = "trash show",
     .arguments = "DIRECTORY",
     .summary = "tell how long files removed from a directory are kept",
     .min_arguments = 1,
     .max_arguments = 1,
     .run = run_show},
};
const size_t cli_trash_command_count = ARRAY_COUNT(cli_trash_commands);

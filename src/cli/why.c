/* cli/why.c -- why: where the pieces of a file are, and what would lose it. */
#include "cli/local_priv.h"
#include "cli/tables_priv.h"
#include "cli/why_priv.h"

#include "base/mem.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#define SHOWN_CHUNKS 16u /* of those that are as they should be */
#define NAMES_MAX 65536u
#define DARK_CHAINS 16u /* that are told more of */

struct why_run {
    struct cli *c;
    struct why sum;
    const char *path;     /* as it was given; NULL: by number */
    struct cJSON *json;   /* with --json, else NULL */
    struct cJSON *chunks; /* in it */
    uint64_t shown, hidden;
    uint32_t dark[DARK_CHAINS]; /* chains that nobody serves */
    size_t dark_count;
};

static const char *const member_states[] = {
    [OPENDFS_MEMBER_SERVING] = "serving", [OPENDFS_MEMBER_SYNCING] = "syncing",
    [OPENDFS_MEMBER_WAITING] = "waiting", [OPENDFS_MEMBER_LAST_SERVING] = "last-serving",
    [OPENDFS_MEMBER_OFFLINE] = "offline",
};
static const char *member_state(uint32_t state)
{
    return state < ARRAY_COUNT(member_states) && member_states[state] != NULL ? member_states[state]
                                                                              : "unknown";
}

/* ---- The file ---- */

static void show_names(const struct opendfs_names_page *page, struct cJSON *list)
{
    for (size_t i = 0; i < page->count; i++) {
        CLEANUP(mem_freep) char *full = cli_join(page->names[i].directory, page->names[i].name);
        if (full == NULL) {
            continue;
        }
        if (list != NULL) {
            cJSON_AddItemToArray(list, cli_json_of_path(full));
        } else {
            printf("   name: ");
            cli_print_name(full);
            printf("\n");
        }
    }
}

/* All of them, when there are several, or it was named by its number. For others than root that is
 * not told, and nothing is missed by it but their names. */
static int why_names(struct why_run *w, const struct opendfs_stat *st)
{
    struct opendfs_names cursor = {.ino = st->ino};
    struct cJSON *list = w->json == NULL ? NULL : cJSON_AddArrayToObject(w->json, "names");
    bool more = w->path == NULL || (st->nlink > 1 && st->type != OPENDFS_TYPE_DIRECTORY);
    for (unsigned n = 0; more && n < NAMES_MAX; n++) {
        struct opendfs_names_page *page = NULL;
        int rc = opendfs_names_next(w->c->fs, &cursor, &page);
        if (rc == -EPERM) {
            return 0;
        }
        if (rc < 0) {
            return cli_fail_op(w->c, NULL);
        }
        show_names(page, list);
        more = !page->at_end && page->count > 0;
        opendfs_free(page);
    }
    return 0;
}

static void print_file(const struct why_run *w, const struct opendfs_where *p)
{
    char size[TEXT_UNIT_SIZE], chunk[TEXT_UNIT_SIZE];
    if (w->path != NULL) {
        cli_print_name(w->path);
        printf(": ");
    }
    printf("%s, inode %llu, %s, %u link%s\n", cli_type_name(p->stat.type),
           (unsigned long long)p->stat.ino, text_from_bytes(p->stat.size_bytes, size),
           p->stat.nlink, p->stat.nlink == 1 ? "" : "s");
    if (p->data_id != 0) {
        printf("  class: %s (%u), %u copies\n layout: data %llu, %llu chunks of %s, table %u, "
               "seed %u, stripe %u\n",
               p->class_name[0] == 0 ? "?" : p->class_name, p->class_id, p->copies,
               (unsigned long long)p->data_id, (unsigned long long)p->chunk_count,
               text_from_bytes(p->chunk_bytes, chunk), p->table_version, p->seed, p->stripe_width);
    }
}

static void json_file(struct why_run *w, const struct opendfs_where *p)
{
    struct cJSON *o = w->json, *class = cJSON_AddObjectToObject(o, "class");
    cli_json_add_i64(o, "ino", (int64_t)p->stat.ino);
    cJSON_AddStringToObject(o, "type", cli_type_name(p->stat.type));
    cJSON_AddNumberToObject(o, "size", (double)p->stat.size_bytes);
    cJSON_AddNumberToObject(o, "nlink", p->stat.nlink);
    cJSON_AddBoolToObject(o, "in_metadata", p->in_metadata != 0);
    cJSON_AddNumberToObject(class, "id", p->class_id);
    cJSON_AddStringToObject(class, "name", p->class_name);
    cJSON_AddNumberToObject(class, "copies", p->copies);
    struct cJSON *layout = cJSON_AddObjectToObject(o, "layout");
    cli_json_add_i64(layout, "data_id", (int64_t)p->data_id);
    cJSON_AddNumberToObject(layout, "chunk_size", p->chunk_bytes);
    cJSON_AddNumberToObject(layout, "chunks", (double)p->chunk_count);
    cJSON_AddNumberToObject(layout, "table", p->table_version);
    cJSON_AddNumberToObject(layout, "seed", p->seed);
    cJSON_AddNumberToObject(layout, "stripe", p->stripe_width);
}

/* ---- Chunks ---- */

static void print_member(const struct opendfs_where_chunk *k, const struct opendfs_where_member *m)
{
    const struct opendfs_where_target *t = m->target;
    char host[WHY_HOST_SIZE];
    cli_why_host_text(t, host);
    printf("    %-10s (%u) host %-12s %-21s %-12s ", t->name[0] == 0 ? "target" : t->name, t->id,
           host, t->address, member_state(m->state));
    if (m->state != OPENDFS_MEMBER_SERVING) {
        printf("is not asked\n");
    } else if (m->result != 0) {
        printf("does not say: %s\n", m->why);
    } else if (!m->there) {
        printf("does not have it\n");
    } else if (m->damaged) {
        printf("%u bytes, identity %u.%llu: damaged\n", m->length_bytes, m->epoch,
               (unsigned long long)m->version);
    } else {
        printf("%u bytes, identity %u.%llu%s\n", m->length_bytes, m->epoch,
               (unsigned long long)m->version, cli_why_is_good(k, m) ? "" : ": other contents");
    }
}

static void print_chunk(struct why_run *w, const struct opendfs_where_chunk *k, enum why_kind kind)
{
    static const char *const words[] = {[WHY_GOOD] = "",
                                        [WHY_FEW] = ": fewer copies than its class wants",
                                        [WHY_DIFFERENT] = ": copies differ",
                                        [WHY_UNREADABLE] = ": cannot be read now",
                                        [WHY_HOLE] = ": not stored, zeros"};
    bool usual = kind == WHY_GOOD || kind == WHY_HOLE;
    if (usual && !cli_flag(w->c, "all") && w->shown >= SHOWN_CHUNKS) {
        w->hidden++;
        return;
    }
    w->shown++;
    printf("  chunk %u on chain %u, epoch %u%s\n", k->index, k->chain, k->epoch, words[kind]);
    for (size_t i = 0; i < k->member_count; i++) {
        print_member(k, &k->members[i]);
    }
}

static void json_chunk(const struct why_run *w, const struct opendfs_where_chunk *k,
                       enum why_kind kind)
{
    static const char *const words[] = {[WHY_GOOD] = "good",
                                        [WHY_FEW] = "few",
                                        [WHY_DIFFERENT] = "different",
                                        [WHY_UNREADABLE] = "unreadable",
                                        [WHY_HOLE] = "hole"};
    struct cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "index", k->index);
    cJSON_AddNumberToObject(o, "chain", k->chain);
    cJSON_AddNumberToObject(o, "epoch", k->epoch);
    cJSON_AddStringToObject(o, "state", words[kind]);
    struct cJSON *members = cJSON_AddArrayToObject(o, "members");
    for (size_t i = 0; i < k->member_count; i++) {
        const struct opendfs_where_member *m = &k->members[i];
        struct cJSON *j = cJSON_CreateObject();
        cJSON_AddNumberToObject(j, "target", m->target->id);
        cJSON_AddStringToObject(j, "name", m->target->name);
        cJSON_AddStringToObject(j, "host", m->target->host);
        cJSON_AddStringToObject(j, "rack", m->target->rack);
        cJSON_AddStringToObject(j, "address", m->target->address);
        cJSON_AddStringToObject(j, "state", member_state(m->state));
        if (m->result != 0) {
            cJSON_AddStringToObject(j, "error", m->why);
        } else {
            cJSON_AddBoolToObject(j, "there", m->there != 0);
        }
        if (m->result == 0 && m->there) {
            cJSON_AddNumberToObject(j, "identity_epoch", m->epoch);
            cli_json_add_i64(j, "identity_version", (int64_t)m->version);
            cJSON_AddNumberToObject(j, "length", m->length_bytes);
            cJSON_AddNumberToObject(j, "allocated", (double)m->allocated_bytes);
            cJSON_AddBoolToObject(j, "damaged", m->damaged != 0);
            cJSON_AddBoolToObject(j, "good", cli_why_is_good(k, m));
        }
        cJSON_AddItemToArray(members, j);
    }
    cJSON_AddItemToArray(w->chunks, o);
}

static void why_dark(struct why_run *w, const struct opendfs_where_chunk *k)
{
    bool known = w->dark_count == DARK_CHAINS;
    for (size_t i = 0; i < k->member_count; i++) {
        known = known || k->members[i].state == OPENDFS_MEMBER_SERVING;
    }
    for (size_t i = 0; i < w->dark_count; i++) {
        known = known || w->dark[i] == k->chain;
    }
    if (!known) {
        w->dark[w->dark_count++] = k->chain;
    }
}

/* What its chains wait for, and what would help; nothing where a server does not say. */
static void why_ways(struct why_run *w)
{
    struct cJSON *status = NULL;
    if (w->dark_count == 0 || cli_status_json(w->c, &status) != 0) {
        return;
    }
    struct cJSON *list = w->json == NULL ? NULL : cJSON_AddArrayToObject(w->json, "dark");
    for (size_t i = 0; i < w->dark_count; i++) {
        const struct cJSON *o = cli_dark_find(status, w->dark[i]);
        if (o != NULL && list != NULL) {
            cJSON_AddItemToArray(list, cJSON_Duplicate(o, true));
        } else if (o != NULL) {
            cli_dark_print(o);
        }
    }
    cJSON_Delete(status);
}

static void why_page(struct why_run *w, const struct opendfs_where *p)
{
    for (size_t i = 0; i < p->count; i++) {
        why_dark(w, &p->chunks[i]);
        enum why_kind kind = cli_why_add(&w->sum, &p->chunks[i], p->copies);
        if (w->json != NULL) {
            json_chunk(w, &p->chunks[i], kind);
        } else {
            print_chunk(w, &p->chunks[i], kind);
        }
    }
}

/* ---- What would lose it ---- */

#define METADATA_TEXT "The contents are in the metadata: they are lost when the metadata are."

static void print_sum(const struct why_run *w)
{
    const struct why *y = &w->sum;
    char line[2048];
    struct text t;
    if (w->hidden > 0) {
        printf("  and %llu more chunks that are as they should be: --all shows them\n",
               (unsigned long long)w->hidden);
    }
    text_init(&t, line, sizeof line);
    cli_why_text(y, &t);
    printf("%s\n", line);
    for (size_t i = 0; i < y->set_count; i++) {
        text_init(&t, line, sizeof line);
        cli_why_set_text(&y->set[i], &t);
        printf("  %s\n", line);
    }
    if (y->elsewhere > 0) {
        printf("  %llu chunks are on other sets of hosts\n", (unsigned long long)y->elsewhere);
    }
    if (y->few > 0) {
        printf("  %llu chunks have fewer copies than their class wants\n",
               (unsigned long long)y->few);
    }
}

static void json_sum(const struct why_run *w, bool in_metadata)
{
    const struct why *y = &w->sum;
    char line[2048];
    struct text t;
    text_init(&t, line, sizeof line);
    cli_why_text(y, &t);
    cJSON_AddStringToObject(w->json, "text", in_metadata ? METADATA_TEXT : line);
    cJSON_AddNumberToObject(w->json, "hosts_least", y->least == SIZE_MAX ? 0 : (double)y->least);
    cJSON_AddNumberToObject(w->json, "holes", (double)y->holes);
    cJSON_AddNumberToObject(w->json, "few", (double)y->few);
    cJSON_AddNumberToObject(w->json, "different", (double)y->different);
    cJSON_AddNumberToObject(w->json, "unreadable", (double)y->unreadable);
    struct cJSON *list = cJSON_AddArrayToObject(w->json, "lost_with");
    for (size_t i = 0; i < y->set_count; i++) {
        const struct why_set *s = &y->set[i];
        struct cJSON *o = cJSON_CreateObject(), *hosts = cJSON_AddArrayToObject(o, "hosts");
        for (size_t n = 0; n < s->host_count; n++) {
            cJSON_AddItemToArray(hosts, cJSON_CreateString(s->host[n]));
        }
        cJSON_AddNumberToObject(o, "chunks", (double)s->chunk_count);
        cJSON_AddNumberToObject(o, "first", s->first);
        cJSON_AddItemToArray(list, o);
    }
}

static int why_end(struct why_run *w, bool in_metadata)
{
    if (w->json != NULL) {
        json_sum(w, in_metadata);
        why_ways(w);
        cli_print_json(w->json);
        w->json = NULL;
    } else if (in_metadata) {
        printf("%s\n", METADATA_TEXT);
    } else {
        print_sum(w);
        why_ways(w);
    }
    return w->sum.unreadable > 0 ? CLI_EXIT_FAILED : 0;
}

/* ---- The command ---- */

static int why_pages(struct why_run *w, struct opendfs_where_query *q)
{
    bool more = true, in_metadata = false;
    int status = 0;
    while (more && status == 0) {
        struct opendfs_where *page = NULL;
        if (opendfs_where(w->c->fs, q, &page) < 0) {
            return cli_fail_op(w->c, NULL);
        }
        if (q->first == 0) {
            in_metadata = page->in_metadata != 0;
            if (w->json != NULL) {
                json_file(w, page);
            } else {
                print_file(w, page);
            }
            status = why_names(w, &page->stat);
            w->chunks = w->json == NULL ? NULL : cJSON_AddArrayToObject(w->json, "chunks");
            q->path = NULL; /* the same file from here on, whatever its name is by then */
            q->ino = page->stat.ino;
        }
        if (status == 0) {
            why_page(w, page);
        }
        q->first += page->count;
        more = page->count > 0 && q->first < page->chunk_count;
        opendfs_free(page);
    }
    return status != 0 ? status : why_end(w, in_metadata);
}

static int why_one(struct cli *c, const char *path, uint64_t ino)
{
    struct why_run *w = mem_zalloc(sizeof *w); /* too large for a stack */
    if (w == NULL) {
        return cli_fail_path(c, path == NULL ? "" : path, -ENOMEM);
    }
    struct opendfs_where_query q = {.path = path, .ino = ino};
    w->c = c;
    w->path = path;
    cli_why_init(&w->sum);
    if (c->json) {
        w->json = path == NULL ? cJSON_CreateObject() : cli_json_of_path(path);
    }
    int status = why_pages(w, &q);
    cJSON_Delete(w->json);
    mem_free(w);
    return status;
}

static int run_why(struct cli *c)
{
    const char *number = cli_value(c, "inode");
    uint64_t ino = 0;
    if ((number == NULL) == (c->argument_count == 0)) {
        return cli_usage(c, "name files, or an inode with -i");
    }
    if (number != NULL && (text_to_u64(number, &ino) < 0 || ino == 0)) {
        return cli_usage(c, "'%s' is no number of an inode", number);
    }
    int status = cli_connect(c);
    if (status != 0 || number != NULL) {
        return status != 0 ? status : why_one(c, NULL, ino);
    }
    for (size_t i = 0; i < c->argument_count && status != CLI_EXIT_USAGE; i++) {
        CLEANUP(mem_freep) char *path = cli_path(c, c->argument[i]);
        int one = path == NULL ? CLI_EXIT_USAGE : why_one(c, path, 0);
        status = one != 0 ? one : status;
    }
    return status;
}

static const struct cli_option why_options[] = {
    {"inode", 'i', "NUMBER", "the file with this number, as `stat` shows it"},
    {"all", 'a', NULL, "every chunk, also when there are many"},
    {NULL, 0, NULL, NULL},
};
const struct cli_command cli_why_commands[] = {
    {.name = "why",
     .arguments = "[FILE...]",
     .summary = "where the pieces of a file are, and what would lose it",
     .details =
         "Shows the inode, the storage class and, for each chunk, its chain with the members: "
         "target, host, state,\nand what the member says about its copy (length and identity: "
         "equal identity is equal contents). Of many\nchunks that are as they should be only the "
         "first are shown. The end says in words which hosts may be lost.\nRoot is also told all "
         "names of a file that has several. The file must be readable for who asks. The exit\n"
         "status is 1 when a chunk cannot be read now; when nobody serves it, it is said what that "
         "waits for, and what would\nhelp.",
     .options = why_options,
     .max_arguments = 100000,
     .run = run_why},
};
const size_t cli_why_command_count = ARRAY_COUNT(cli_why_commands);

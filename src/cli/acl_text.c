/* cli/acl_text.c -- see acl_priv.h. */
#include "cli/acl_priv.h"

#include "base/text.h"
#include "cli/mode_priv.h"

#include <stdio.h>
#include <string.h>

#define ENTRY_SIZE 300u
#define RIGHTS_X 8u /* execution only where it makes sense */

/* One entry of what the user wrote. */
struct acl_item {
    char kind; /* u, g, m, o */
    bool inherit, named, has_perm;
    uint32_t id;
    uint8_t perm;
};

static const struct {
    const char *word;
    char kind;
} acl_kinds[] = {{"u", 'u'}, {"user", 'u'}, {"g", 'g'}, {"group", 'g'},
                 {"m", 'm'}, {"mask", 'm'}, {"o", 'o'}, {"other", 'o'}};

/* ---- One entry ---- */

static bool perm_of(const char *text, uint8_t *ret)
{
    static const char letters[] = "rwxX";
    static const uint8_t bits[] = {4, 2, 1, RIGHTS_X};
    uint8_t perm = 0;
    if (text[0] >= '0' && text[0] <= '7' && text[1] == 0) {
        *ret = (uint8_t)(text[0] - '0');
        return true;
    }
    for (; *text != 0; text++) {
        const char *at = strchr(letters, *text);
        if (at == NULL && *text != '-') {
            return false;
        }
        perm |= at == NULL ? 0 : bits[at - letters];
    }
    *ret = perm;
    return true;
}

/* Cuts the next word off, at a colon. NULL: there is none. */
static char *next_word(char **at)
{
    char *word = *at;
    if (word != NULL) {
        char *colon = strchr(word, ':');
        *at = colon == NULL ? NULL : colon + 1;
        if (colon != NULL) {
            *colon = 0;
        }
    }
    return word;
}

static const char *id_of(const char *name, struct acl_item *n)
{
    struct owner_change o;
    char owner[ENTRY_SIZE + 1];
    (void)snprintf(owner, sizeof owner, "%s%s", n->kind == 'g' ? ":" : "", name);
    const char *wrong = cli_owner_parse(owner, &o);
    if (wrong != NULL) {
        return wrong;
    }
    n->named = true;
    n->id = n->kind == 'g' ? o.gid : o.uid;
    return NULL;
}

static const char *kind_of(char **at, struct acl_item *n)
{
    char *word = next_word(at);
    if (word != NULL && (strcmp(word, "d") == 0 || strcmp(word, "default") == 0)) {
        n->inherit = true;
        word = next_word(at);
    }
    for (size_t i = 0; word != NULL && i < ARRAY_COUNT(acl_kinds); i++) {
        if (strcmp(word, acl_kinds[i].word) == 0) {
            n->kind = acl_kinds[i].kind;
        }
    }
    return n->kind == 0 ? "begins with none of user, group, mask, other, default" : NULL;
}

/* NULL: good; else what is wrong. `text` is taken apart. */
static const char *item_of(char *text, bool remove, struct acl_item *n)
{
    char *at = text;
    *n = (struct acl_item){.kind = 0};
    const char *wrong = kind_of(&at, n);
    if (wrong != NULL) {
        return wrong;
    }
    char *who = next_word(&at), *perm = next_word(&at);
    bool nobody = n->kind == 'm' || n->kind == 'o';
    if (nobody && who != NULL && perm == NULL && at == NULL && !remove) {
        perm = who; /* "m:rx": nobody is to be named there */
        who = NULL;
    }
    if (at != NULL) {
        return "has too many colons";
    }
    if (who != NULL && who[0] != 0) {
        wrong = nobody ? "must name nobody" : id_of(who, n);
        if (wrong != NULL) {
            return wrong;
        }
    }
    n->has_perm = perm != NULL && perm[0] != 0;
    if (n->has_perm && !perm_of(perm, &n->perm)) {
        return "has rights that are not made of r, w, x and X, or a digit up to 7";
    }
    return remove && n->has_perm     ? "is to be removed: without rights"
           : !remove && !n->has_perm ? "has no rights: \"-\" for none"
                                     : NULL;
}

/* ---- Lists ---- */

static struct proto_acl_entry *find_named(struct cli_acl *acl, const struct acl_item *n)
{
    for (size_t i = 0; i < acl->list.entries.count; i++) {
        struct proto_acl_entry *e = &acl->entry[i];
        if (e->id == n->id && e->is_group == (n->kind == 'g')) {
            return e;
        }
    }
    return NULL;
}

static uint8_t *base_of(struct cli_acl *acl, char kind)
{
    return kind == 'u'   ? &acl->list.owner
           : kind == 'g' ? &acl->list.group
           : kind == 'm' ? &acl->list.mask
                         : &acl->list.other;
}

/* Is anybody in the list allowed to execute it? Then "X" means "x". */
static bool any_exec(const struct cli_acl *acl)
{
    uint8_t all = acl->list.owner | acl->list.group | acl->list.other;
    for (size_t i = 0; i < acl->list.entries.count; i++) {
        all |= acl->entry[i].perm;
    }
    return (all & 1U) != 0;
}

static const char *set_item(struct cli_acl *acl, const struct acl_item *n, bool directory)
{
    bool exec = (n->perm & RIGHTS_X) != 0 && (directory || any_exec(acl));
    uint8_t perm = (uint8_t)((n->perm & 7U) | (exec ? 1U : 0U));
    if (!n->named) {
        *base_of(acl, n->kind) = perm;
        acl->list.has_mask = acl->list.has_mask || n->kind == 'm';
        return NULL;
    }
    struct proto_acl_entry *e = find_named(acl, n);
    if (e == NULL) {
        if (acl->list.entries.count >= PROTO_ACL_ENTRIES_MAX) {
            return "is one too many";
        }
        e = &acl->entry[acl->list.entries.count++];
        *e = (struct proto_acl_entry){.is_group = n->kind == 'g', .id = n->id};
    }
    e->perm = perm;
    return NULL;
}

static const char *remove_item(struct cli_acl *acl, const struct acl_item *n)
{
    if (n->kind == 'm') {
        acl->list.has_mask = false; /* if it is needed it is computed anew */
        return NULL;
    }
    if (!n->named) {
        return "cannot be removed: each list has it";
    }
    struct proto_acl_entry *e = find_named(acl, n);
    if (e != NULL) {
        size_t i = (size_t)(e - acl->entry);
        memmove(e, e + 1, (acl->list.entries.count - i - 1) * sizeof *e);
        acl->list.entries.count--;
    }
    return NULL;
}

/* As wide as the widest of those that it limits. */
static void compute_mask(struct cli_acl *acl)
{
    if (!acl->list.has_mask && acl->list.entries.count == 0) {
        return;
    }
    acl->list.has_mask = true;
    acl->list.mask = acl->list.group;
    for (size_t i = 0; i < acl->list.entries.count; i++) {
        acl->list.mask |= acl->entry[i].perm;
    }
}

/* The first default entry makes a whole list, from the access list. */
static void begin_inherit(struct cli_acls *a)
{
    if (!a->inherit.present) {
        a->inherit.present = true;
        a->inherit.list = (struct proto_acl){.owner = a->access.list.owner,
                                             .group = a->access.list.group,
                                             .other = a->access.list.other,
                                             .entries = {.at = a->inherit.entry}};
    }
}

struct acl_touched {
    bool access, inherit, mask, inherit_mask;
};

static const char *change_one(struct cli_acls *a, char *text, bool remove, bool defaults,
                              struct acl_touched *t)
{
    struct acl_item n;
    const char *wrong = item_of(text, remove, &n);
    if (wrong != NULL) {
        return wrong;
    }
    bool inherit = n.inherit || defaults, mask = n.kind == 'm' && !remove;
    if (inherit && !a->directory && a->pass_over) {
        return NULL;
    }
    if (inherit && !a->directory) {
        return "is of a default list: only directories have one";
    }
    if (inherit && remove && !a->inherit.present) {
        return NULL;
    }
    if (inherit) {
        begin_inherit(a);
    }
    struct cli_acl *acl = inherit ? &a->inherit : &a->access;
    t->access = t->access || !inherit;
    t->inherit = t->inherit || inherit;
    t->mask = t->mask || (mask && !inherit);
    t->inherit_mask = t->inherit_mask || (mask && inherit);
    return remove ? remove_item(acl, &n) : set_item(acl, &n, a->directory);
}

int cli_acl_change(struct cli_acls *a, const char *spec, bool remove, bool defaults, struct err *e)
{
    struct acl_touched t = {.access = false};
    for (const char *at = spec; at != NULL;) {
        const char *comma = strchr(at, ',');
        size_t len = comma == NULL ? strlen(at) : (size_t)(comma - at);
        char text[ENTRY_SIZE];
        if (len >= sizeof text) {
            return err_set(e, -EINVAL, "an entry of %zu bytes", len);
        }
        memcpy(text, at, len);
        text[len] = 0;
        const char *wrong = change_one(a, text, remove, defaults, &t);
        if (wrong != NULL) {
            return err_set(e, -EINVAL, "'%.*s' %s", (int)len, at, wrong);
        }
        at = comma == NULL ? NULL : comma + 1;
    }
    if (t.access && !t.mask) {
        compute_mask(&a->access);
    }
    if (t.inherit && !t.inherit_mask) {
        compute_mask(&a->inherit);
    }
    return 0;
}

void cli_acl_strip(struct cli_acls *a)
{
    a->access.list.has_mask = false;
    a->access.list.entries.count = 0;
    a->inherit.present = false;
}

int cli_acl_load(struct cli_acl *acl, const void *value, size_t len, uint32_t mode, struct err *e)
{
    struct mem_arena arena;
    struct proto_acl list;
    *acl = (struct cli_acl){.present = len > 0};
    if (len == 0) {
        acl->list.owner = (uint8_t)((mode >> 6) & 7U);
        acl->list.group = (uint8_t)((mode >> 3) & 7U);
        acl->list.other = (uint8_t)(mode & 7U);
        acl->list.entries.at = acl->entry;
        return 0;
    }
    mem_arena_init(&arena, 1U << 20);
    int rc = proto_acl_parse(value, len, &arena, &list, e);
    if (rc == 1) {
        acl->list = list;
        acl->list.entries.at = acl->entry;
        if (list.entries.count > 0) {
            memcpy(acl->entry, list.entries.at, list.entries.count * sizeof *acl->entry);
        }
    }
    mem_arena_fini(&arena);
    return rc == 0 ? err_set(e, -EINVAL, "an access list without entries") : rc < 0 ? rc : 0;
}

size_t cli_acl_value(const struct cli_acl *acl, uint8_t out[PROTO_ACL_VALUE_MAX])
{
    struct wire_writer w = wire_writer_over(out, PROTO_ACL_VALUE_MAX);
    proto_acl_render(&acl->list, &w);
    return w.len;
}

/* ---- Text ---- */

const char *cli_acl_perm_to_text(uint8_t perm, char out[CLI_ACL_PERM_SIZE])
{
    out[0] = (perm & 4U) != 0 ? 'r' : '-';
    out[1] = (perm & 2U) != 0 ? 'w' : '-';
    out[2] = (perm & 1U) != 0 ? 'x' : '-';
    out[3] = 0;
    return out;
}

struct acl_lines {
    const struct proto_acl *acl;
    const char *prefix;
    void (*line)(void *context, const char *text);
    void *context;
    bool numeric;
};

/* `limited`: the mask counts. */
static void add_line(const struct acl_lines *l, const char *kind, const char *who, uint8_t perm,
                     bool limited)
{
    char text[200], rights[CLI_ACL_PERM_SIZE];
    struct text t;
    uint8_t mask = l->acl->has_mask ? l->acl->mask : 7U;
    text_init(&t, text, sizeof text);
    text_add(&t, "%s%s:%s:%s", l->prefix, kind, who, cli_acl_perm_to_text(perm, rights));
    if (limited && (perm & mask) != perm) {
        text_add(&t, "\t#effective:%s", cli_acl_perm_to_text(perm & mask, rights));
    }
    l->line(l->context, text);
}

static void add_named(const struct acl_lines *l, bool groups)
{
    for (size_t i = 0; i < l->acl->entries.count; i++) {
        const struct proto_acl_entry *e = &l->acl->entries.at[i];
        char who[CLI_OWNER_SIZE];
        if (e->is_group == groups) {
            add_line(l, groups ? "group" : "user",
                     groups ? cli_group_to_text(e->id, l->numeric, who)
                            : cli_user_to_text(e->id, l->numeric, who),
                     e->perm, true);
        }
    }
}

void cli_acl_to_text(const struct proto_acl *acl, bool numeric, const char *prefix,
                     void (*line)(void *context, const char *text), void *context)
{
    const struct acl_lines l = {
        .acl = acl, .prefix = prefix, .line = line, .context = context, .numeric = numeric};
    add_line(&l, "user", "", acl->owner, false);
    add_named(&l, false);
    add_line(&l, "group", "", acl->group, true);
    add_named(&l, true);
    if (acl->has_mask) {
        add_line(&l, "mask", "", acl->mask, false);
    }
    add_line(&l, "other", "", acl->other, false);
}

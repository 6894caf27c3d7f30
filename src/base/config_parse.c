/*
 * base/config_parse.c -- from text to struct config. See config.h.
 *
 * inih splits lines into name and value. The Debian build of it reports neither line numbers nor
 * sections without keys, cuts long lines and names silently, and continues a value on an indented
 * line. So this file hands it one line at a time: it counts them, refuses what inih would cut,
 * removes indentation, and opens the sections itself. The first error in the order of the text is
 * the one that is reported.
 */
#include "base/config_priv.h"

#include "base/mem.h"
#include "base/text.h"

#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define HINT_DISTANCE_MAX 3u
#define NO_SECTION SIZE_MAX

struct parse {
    struct config *config;
    const char *at; /* what is left of the text */
    size_t left;
    unsigned line;  /* of what inih sees now */
    size_t section; /* index of the open one, or NO_SECTION */
    int rc;         /* the first error; nothing is read after it */
    struct err *e;
};

static void fail(struct parse *p, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void fail(struct parse *p, const char *fmt, ...)
{
    char text[sizeof p->e->text];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    p->rc = err_set(p->e, -ERR_config, "%s:%u: %s", p->config->origin, p->line, text);
}

/* ---- the nearest known name ---- */

/* How many characters must be put in, taken out or changed (Levenshtein). UINT_MAX-like for long
 * names. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[CONFIG_NAME_MAX + 1];
    size_t len_a = strlen(a), len_b = strlen(b);
    if (len_a > CONFIG_NAME_MAX || len_b > CONFIG_NAME_MAX) {
        return SIZE_MAX;
    }
    for (size_t j = 0; j <= len_b; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= len_a; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= len_b; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1] ? 1 : 0);
            diagonal = row[j];
            row[j] = base_min(change, base_min(row[j], row[j - 1]) + 1);
        }
    }
    return row[len_b];
}

/* The known section (base NULL) or key of section `base` most like `name`; NULL when none is. */
static const char *nearest(const struct config *c, const char *base, const char *name)
{
    const char *best = NULL;
    size_t least = base_min(HINT_DISTANCE_MAX, strlen(name) / 2 + 1) + 1;
    for (size_t i = 0; i < c->key_count; i++) {
        const struct config_key *k = &c->keys[i];
        if (base != NULL && strcmp(k->section, base) != 0) {
            continue;
        }
        const char *known = base != NULL ? k->name : k->section;
        size_t distance = edit_distance(name, known);
        if (distance < least) {
            least = distance;
            best = known;
        }
    }
    return best;
}

/* ---- sections ---- */

static bool is_name(const char *at, size_t len)
{
    bool good = len > 0 && len <= CONFIG_NAME_MAX;
    for (size_t i = 0; i < len && good; i++) {
        char c = at[i];
        good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '-' || c == '.';
    }
    return good;
}

/* "target" for "target.0" if the table has many of it; the name itself for a plain section. */
static const char *base_of(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->key_count; i++) {
        const struct config_key *k = &c->keys[i];
        size_t len = strlen(k->section);
        bool begins = strncmp(name, k->section, len) == 0;
        bool instance = begins && name[len] == '.' && name[len + 1] != 0;
        if (k->many ? instance : begins && name[len] == 0) {
            return k->section;
        }
    }
    return NULL;
}

static int section_add(struct config *c, const char *name, const char *base, unsigned line)
{
    int rc = mem_grow(&c->section, &c->section_capacity, c->section_count + 1, sizeof *c->section);
    struct config_value *value = rc == 0 ? mem_calloc(c->key_count, sizeof *value) : NULL;
    if (value == NULL) {
        return -ENOMEM;
    }
    struct config_section *s = &c->section[c->section_count];
    *s = (struct config_section){.base = base, .line = line, .value = value};
    (void)snprintf(s->name, sizeof s->name, "%s", name);
    c->section_count++;
    return 0;
}

static void section_unknown(struct parse *p, const char *name)
{
    const struct config *c = p->config;
    for (size_t i = 0; i < c->key_count; i++) {
        if (strcmp(c->keys[i].section, name) == 0) { /* many, or base_of() would know it */
            fail(p, "[%s]: needs a number: [%s.0]", name, name);
            return;
        }
    }
    char base[CONFIG_NAME_MAX + 1];
    (void)snprintf(base, sizeof base, "%.*s", (int)strcspn(name, "."), name);
    const char *hint = nearest(c, NULL, base);
    fail(p, "[%s]: unknown section%s%s%s", name, hint != NULL ? ", perhaps [" : "",
         hint != NULL ? hint : "", hint != NULL ? "]" : "");
}

static void section_open(struct parse *p, const char *name)
{
    struct config *c = p->config;
    const char *base = base_of(c, name);
    const struct config_section *twin = config_find_section(c, name);
    if (base == NULL) {
        section_unknown(p, name);
    } else if (twin != NULL) {
        fail(p, "[%s]: section stands twice, first in line %u", name, twin->line);
    } else if (c->section_count >= CONFIG_SECTIONS_MAX) {
        fail(p, "[%s]: more than %u sections", name, CONFIG_SECTIONS_MAX);
    } else {
        p->rc = section_add(c, name, base, p->line);
        p->section = c->section_count - 1;
    }
}

/* `at` begins with '['. */
static void section_line(struct parse *p, const char *at, size_t len)
{
    char name[CONFIG_NAME_MAX + 1];
    const char *end = memchr(at, ']', len);
    size_t name_len = end != NULL ? (size_t)(end - at) - 1 : 0;
    if (end == NULL) {
        fail(p, "section name without ']'");
        return;
    }
    if (!is_name(at + 1, name_len)) {
        fail(p, "section name must be 1 to %u letters, digits and '_', '-', '.'", CONFIG_NAME_MAX);
        return;
    }
    size_t rest = name_len + 2;
    while (rest < len && (at[rest] == ' ' || at[rest] == '\t')) {
        rest++;
    }
    if (rest < len && at[rest] != ';' && at[rest] != '#') {
        fail(p, "text behind the section name");
        return;
    }
    memcpy(name, at + 1, name_len);
    name[name_len] = 0;
    section_open(p, name);
}

/* ---- lines and keys ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static bool line_is_text(const char *at, size_t len)
{
    bool good = true;
    for (size_t i = 0; i < len && good; i++) {
        unsigned char c = (unsigned char)at[i];
        good = c == '\t' || (c >= ' ' && c != 0x7f);
    }
    return good;
}

/* inih's fgets: one line into out[0..size). NULL ends the parse. */
static char *line_read(char *out, int size, void *stream)
{
    struct parse *p = stream;
    if (p->rc < 0 || p->left == 0) {
        return NULL;
    }
    const char *at = p->at, *end = memchr(at, '\n', p->left);
    size_t len = end != NULL ? (size_t)(end - at) : p->left;
    size_t used = len + (end != NULL ? 1 : 0);
    p->at += used;
    p->left -= used;
    p->line++;
    for (; len > 0 && is_blank(at[0]); len--) {
        at++;
    }
    while (len > 0 && is_blank(at[len - 1])) {
        len--;
    }
    if (len + 3 > (size_t)size) {
        fail(p, "line is longer than %d bytes", size - 3);
    } else if (!line_is_text(at, len)) {
        fail(p, "line holds bytes that are not text");
    } else if (len > 0 && at[0] == '[') {
        section_line(p, at, len);
    }
    if (p->rc < 0) {
        return NULL;
    }
    (void)snprintf(out, (size_t)size, "%.*s\n", (int)len, at);
    return out;
}

static void key_unknown(struct parse *p, const struct config_section *s, const char *name)
{
    char shown[CONFIG_NAME_MAX + 4];
    struct text t;
    text_init(&t, shown, sizeof shown);
    text_add_bytes(&t, name, strlen(name));
    const char *hint = nearest(p->config, s->base, name);
    fail(p, "[%s] %s: unknown key%s%s%s", s->name, shown, hint != NULL ? ", perhaps '" : "",
         hint != NULL ? hint : "", hint != NULL ? "'" : "");
}

static size_t key_find(const struct config *c, const char *base, const char *name)
{
    size_t i = 0;
    while (i < c->key_count &&
           !(strcmp(c->keys[i].section, base) == 0 && strcmp(c->keys[i].name, name) == 0)) {
        i++;
    }
    return i;
}

static void key_set(struct parse *p, const char *name, const char *text)
{
    struct config *c = p->config;
    if (p->section == NO_SECTION) {
        fail(p, "stands before the first [section]");
        return;
    }
    struct config_section *s = &c->section[p->section];
    size_t index = key_find(c, s->base, name);
    if (index == c->key_count) {
        key_unknown(p, s, name);
        return;
    }
    struct config_value *v = &s->value[index];
    char why[CONFIG_WHY_SIZE];
    if (v->line != 0) {
        fail(p, "[%s] %s: stands twice, first in line %u", s->name, name, v->line);
    } else if (config_value_parse(&c->keys[index], text, &v->number, why) < 0) {
        fail(p, "[%s] %s: %s", s->name, name, why);
    } else {
        v->own = mem_strdup(text);
        v->text = v->own;
        v->line = p->line;
        p->rc = v->own != NULL ? 0 : -ENOMEM;
    }
}

/* inih's callback for `name = value`. It may be built to call at sections too, without a name. */
static int key_line(void *user, const char *section, const char *name, const char *text)
{
    struct parse *p = user;
    (void)section; /* cut by inih when it is long */
    if (p->rc == 0 && name != NULL && text != NULL) {
        key_set(p, name, text);
    }
    return p->rc == 0 ? 1 : 0;
}

/* ---- the whole ---- */

/* Sections that the text left out, then defaults. */
static int fill_in(struct config *c, struct err *e)
{
    for (size_t i = 0; i < c->key_count; i++) {
        const char *base = c->keys[i].section;
        if (!c->keys[i].many && config_find_section(c, base) == NULL) {
            int rc = section_add(c, base, base, 0);
            if (rc < 0) {
                return rc;
            }
        }
    }
    for (size_t at = 0; at < c->section_count * c->key_count; at++) {
        struct config_section *s = &c->section[at / c->key_count];
        const struct config_key *k = &c->keys[at % c->key_count];
        struct config_value *v = &s->value[at % c->key_count];
        if (v->text != NULL || strcmp(k->section, s->base) != 0) {
            continue;
        }
        if (k->default_text == NULL) {
            return err_set(e, -ERR_config, "%s: [%s] %s: missing, it has no default", c->origin,
                           s->name, k->name);
        }
        char why[CONFIG_WHY_SIZE];
        int default_rc = config_value_parse(k, k->default_text, &v->number, why);
        CHECK(default_rc == 0);
        v->text = k->default_text;
    }
    return 0;
}

static int read_all(struct config *c, const char *text, size_t len, struct err *e)
{
    struct parse p = {.config = c, .at = text, .left = len, .section = NO_SECTION, .e = e};
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* byte order mark of some editors */
        p.at += 3;
        p.left -= 3;
    }
    int bad_line = ini_parse_stream(line_read, &p, key_line, &p);
    bool before_ours = bad_line > 0 && (p.rc == 0 || (unsigned)bad_line < p.line);
    if (before_ours && p.rc != -ENOMEM) {
        p.line = (unsigned)bad_line;
        fail(&p, "neither [section] nor name = value nor comment");
    }
    return bad_line < 0 ? -ENOMEM : p.rc; /* inih says < 0 only when it could not allocate */
}

/* NOLINTNEXTLINE(readability-function-size): seven parameters in the contract */
int config_parse(const char *text, size_t len, const char *origin, const struct config_key *keys,
                 size_t key_count, struct config **ret, struct err *e)
{
    if (len > CONFIG_BYTES_MAX) {
        return err_set(e, -ERR_config, "%s: larger than %u bytes", origin, CONFIG_BYTES_MAX);
    }
    CLEANUP(config_freep) struct config *c = mem_zalloc(sizeof *c);
    if (c == NULL) {
        return -ENOMEM;
    }
    c->keys = keys;
    c->key_count = key_count;
    c->origin = mem_strdup(origin);
    if (c->origin == NULL) {
        return -ENOMEM;
    }
    int rc = read_all(c, text, len, e);
    rc = rc == 0 ? fill_in(c, e) : rc;
    if (rc < 0) {
        return rc;
    }
    *ret = c;
    c = NULL; /* now the caller's */
    return 0;
}

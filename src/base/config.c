/* base/config.c -- what was parsed, errors about it, and the sample file. See config.h. */
#include "base/config.h"

#include "base/config_priv.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct config *config_free(struct config *c)
{
    if (c == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < c->section_count; i++) {
        for (size_t k = 0; k < c->key_count; k++) {
            mem_free(c->section[i].value[k].own);
        }
        mem_free(c->section[i].value);
    }
    mem_free(c->section);
    mem_free(c->origin);
    mem_free(c);
    return NULL;
}

struct config_section *config_find_section(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->section_count; i++) {
        if (strcmp(c->section[i].name, name) == 0) {
            return &c->section[i];
        }
    }
    return NULL;
}

static const struct config_value *value_find(const struct config *c, const char *section,
                                             const char *name, const struct config_key **ret_key)
{
    const struct config_section *s = config_find_section(c, section);
    CHECK(s != NULL); /* the caller asks for what is not in its table */
    size_t i = 0;
    while (i < c->key_count && !(s->value[i].text != NULL && strcmp(c->keys[i].name, name) == 0)) {
        i++;
    }
    CHECK(i < c->key_count);
    *ret_key = &c->keys[i];
    return &s->value[i];
}

const char *config_text(const struct config *c, const char *section, const char *name)
{
    const struct config_key *key;
    return value_find(c, section, name, &key)->text;
}

uint64_t config_u64(const struct config *c, const char *section, const char *name)
{
    const struct config_key *key;
    const struct config_value *v = value_find(c, section, name, &key);
    CHECK(key->type != CONFIG_TEXT);
    return v->number;
}

bool config_bool(const struct config *c, const char *section, const char *name)
{
    const struct config_key *key;
    const struct config_value *v = value_find(c, section, name, &key);
    CHECK(key->type == CONFIG_BOOL);
    return v->number != 0;
}

const char *config_section(const struct config *c, const char *base, size_t index)
{
    for (size_t i = 0; i < c->section_count; i++) {
        if (strcmp(c->section[i].base, base) != 0) {
            continue;
        }
        if (index == 0) {
            return c->section[i].name;
        }
        index--;
    }
    return NULL;
}

int config_error(const struct config *c, const char *section, const char *name, struct err *e,
                 const char *fmt, ...)
{
    const struct config_key *key;
    const struct config_value *v = value_find(c, section, name, &key);
    char text[sizeof e->text];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (v->line == 0) {
        return err_set(e, -ERR_config, "%s: [%s] %s (default): %s", c->origin, section, name, text);
    }
    return err_set(e, -ERR_config, "%s:%u: [%s] %s: %s", c->origin, v->line, section, name, text);
}

/* ---- the sample ---- */

struct sample {
    char *out;
    size_t size, len; /* len: what all of it needs, may pass size */
};

static void add(struct sample *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void add(struct sample *s, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    bool room = s->len < s->size;
    int len = vsnprintf(room ? s->out + s->len : NULL, room ? s->size - s->len : 0, fmt, args);
    va_end(args);
    s->len += len > 0 ? (size_t)len : 0;
}

static void add_help(struct sample *s, const char *help)
{
    while (help != NULL && help[0] != 0) {
        size_t len = strcspn(help, "\n");
        add(s, "# %.*s\n", (int)len, help);
        help += len + (help[len] == '\n' ? 1 : 0);
    }
}

static void add_limits(struct sample *s, const struct config_key *k)
{
    char low[CONFIG_NUMBER_SIZE], high[CONFIG_NUMBER_SIZE];
    const char *bytes = k->type == CONFIG_TEXT ? " bytes" : "";
    if (k->type == CONFIG_BOOL) {
        add(s, "# (yes or no)\n");
    } else if (k->type == CONFIG_ENUM) {
        add(s, "# (one of");
        for (size_t i = 0; k->choices[i] != NULL; i++) {
            add(s, "%s %s", i > 0 ? "," : ":", k->choices[i]);
        }
        add(s, ")\n");
    } else if (k->max != 0) {
        add(s, "# (%s to %s%s)\n", config_value_show(k, k->min, low),
            config_value_show(k, k->max, high), bytes);
    } else if (k->min != 0) {
        add(s, "# (at least %s%s)\n", config_value_show(k, k->min, low), bytes);
    }
}

static void add_key(struct sample *s, const struct config_key *k)
{
    add_help(s, k->help);
    add_limits(s, k);
    if (k->default_text == NULL) {
        add(s, "# Required.\n#%s =\n\n", k->name);
    } else {
        add(s, "#%s = %s\n\n", k->name, k->default_text);
    }
}

/* True when no key before `at` belongs to the same section. */
static bool opens_section(const struct config_key *keys, size_t at)
{
    size_t i = 0;
    while (i < at && strcmp(keys[i].section, keys[at].section) != 0) {
        i++;
    }
    return i == at;
}

size_t config_sample(const struct config_key *keys, size_t key_count, char *out, size_t size)
{
    struct sample s = {.out = out, .size = size};
    if (size > 0) {
        out[0] = 0;
    }
    for (size_t i = 0; i < key_count; i++) {
        if (!opens_section(keys, i)) {
            continue;
        }
        add(&s, keys[i].many ? "#[%s.0]\n" : "[%s]\n", keys[i].section);
        for (size_t k = i; k < key_count; k++) {
            if (strcmp(keys[k].section, keys[i].section) == 0) {
                add_key(&s, &keys[k]);
            }
        }
    }
    return s.len;
}

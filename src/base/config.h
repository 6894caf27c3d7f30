/*
 * base/config.h -- INI configuration (parsed by inih from memory; reading the file is the
 * caller's).
 *
 * A table of keys says type, unit, range and default; every error names file, line and key. Unknown
 * sections and keys are errors, with the nearest known name as a hint; so are sections and keys
 * that stand twice, and a table entry without default that the file leaves out. Lines have at most
 * 197 bytes, a file 256 KiB and 1024 sections. "name = value" or "name: value"; comments begin with
 * ';' or '#' on a line of their own, with a blank and ';' behind a value. Not thread-safe while
 * parsing; the result is read-only. All errors are -ERR_config or -ENOMEM.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

enum config_type {
    CONFIG_TEXT,
    CONFIG_U64,
    CONFIG_BYTES,
    CONFIG_MS,
    CONFIG_BOOL,
    CONFIG_ENUM,
    CONFIG_PERCENT
};

struct config_key {
    const char *section, *name;
    enum config_type type;
    bool many;                  /* the section may stand several times: [target.0], [target.1] */
    const char *default_text;   /* parsed like a value; NULL: required */
    uint64_t min, max;          /* numbers; for text: length limits. max 0: no limit */
    const char *const *choices; /* CONFIG_ENUM: NULL-terminated; the value is the index */
    const char *help;
};
struct config;

/* `origin` names the source in errors. `keys` must outlive the result. */
NODISCARD int config_parse(const char *text, size_t len, const char *origin,
                           const struct config_key *keys, size_t key_count, struct config **ret,
                           struct err *e);
struct config *config_free(struct config *c);
DEFINE_FREEP(config)

/* The key must be in the table (CHECK). `section` is "net", or "target.0" for many. */
const char *config_text(const struct config *c, const char *section, const char *name);
uint64_t config_u64(const struct config *c, const char *section,
                    const char *name); /* all number types */
bool config_bool(const struct config *c, const char *section, const char *name);
/* Names of the instances of a `many` section in file order: index -> "target.0", NULL past the end.
 */
const char *config_section(const struct config *c, const char *base, size_t index);
/* Error that names the file and line of a key, for checks that only the user of it can make. */
int config_error(const struct config *c, const char *section, const char *name, struct err *e,
                 const char *fmt, ...) PRINTF_LIKE(5, 6);
/* The commented default file: every key with its help. Returns bytes needed, as snprintf. */
size_t config_sample(const struct config_key *keys, size_t key_count, char *out, size_t size);

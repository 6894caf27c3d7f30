/* base/config_priv.h -- what config.c, config_parse.c and config_value.c share. */
#pragma once

#include "base/config.h"

#define CONFIG_BYTES_MAX (256u << 10) /* of a whole text */
#define CONFIG_SECTIONS_MAX 1024u
#define CONFIG_NAME_MAX 48u /* of sections and keys; inih cuts longer ones without a word */

struct config_value {
    char *own;        /* from the text; NULL: the default */
    const char *text; /* `own` or the default; NULL: the key belongs to another section */
    uint64_t number;
    unsigned line; /* 0: not in the text */
};

struct config_section {
    char name[CONFIG_NAME_MAX + 1]; /* "target.0" */
    const char *base;               /* "target": the name in the table */
    unsigned line;
    struct config_value *value; /* one for each key of the table */
};

struct config {
    char *origin;
    const struct config_key *keys;
    size_t key_count;
    struct config_section *section; /* in the order of the text, then those that it left out */
    size_t section_count, section_capacity;
};

struct config_section *config_find_section(const struct config *c, const char *name);

/* The number that `text` stands for (0 for CONFIG_TEXT). -ERR_config with the reason in `why`. */
#define CONFIG_WHY_SIZE 160u
NODISCARD int config_value_parse(const struct config_key *key, const char *text, uint64_t *ret,
                                 char why[CONFIG_WHY_SIZE]);

/* A number as a person would write it in the file: "4 KiB", "30 s", "50%". */
#define CONFIG_NUMBER_SIZE 32u
const char *config_value_show(const struct config_key *key, uint64_t number,
                              char out[CONFIG_NUMBER_SIZE]);

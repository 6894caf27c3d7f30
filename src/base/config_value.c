/* base/config_value.c -- values of configuration keys: types, units, ranges. See config.h. */
#include "base/config_priv.h"

#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PERCENT_TEXT_MAX 8u

static const char *const words_true[] = {"yes", "true", "on", "1", NULL};
static const char *const words_false[] = {"no", "false", "off", "0", NULL};

static bool word_index(const char *const *words, const char *text, uint64_t *ret)
{
    for (size_t i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], text) == 0) {
            *ret = i;
            return true;
        }
    }
    return false;
}

static int parse_bool(const char *text, uint64_t *ret)
{
    uint64_t ignored;
    bool yes = word_index(words_true, text, &ignored);
    if (!yes && !word_index(words_false, text, &ignored)) {
        return -EINVAL;
    }
    *ret = yes ? 1 : 0;
    return 0;
}

static int parse_percent(const char *text, uint64_t *ret)
{
    char digits[PERCENT_TEXT_MAX];
    size_t len = strlen(text);
    if (len > 0 && text[len - 1] == '%') {
        len--;
    }
    if (len >= sizeof digits) {
        return -EINVAL;
    }
    memcpy(digits, text, len);
    digits[len] = 0;
    return text_to_u64(digits, ret);
}

static int parse_number(const struct config_key *key, const char *text, uint64_t *ret)
{
    switch (key->type) {
    case CONFIG_TEXT:
        *ret = 0;
        return 0;
    case CONFIG_U64:
        return text_to_u64(text, ret);
    case CONFIG_BYTES:
        return text_to_bytes(text, ret);
    case CONFIG_MS:
        return text_to_ms(text, ret);
    case CONFIG_BOOL:
        return parse_bool(text, ret);
    case CONFIG_ENUM:
        return word_index(key->choices, text, ret) ? 0 : -EINVAL;
    case CONFIG_PERCENT:
        return parse_percent(text, ret);
    }
    CHECK(false); /* a type that is not in the enumeration */
    return -EINVAL;
}

static const char *what_is_wanted(enum config_type type)
{
    switch (type) {
    case CONFIG_TEXT:
        return "text";
    case CONFIG_U64:
        return "a whole number";
    case CONFIG_BYTES:
        return "a size (4096, 64K, 1.5G)";
    case CONFIG_MS:
        return "a time with its unit (200ms, 30s, 10min, 1h)";
    case CONFIG_BOOL:
        return "yes or no";
    case CONFIG_ENUM:
        return "one of:";
    case CONFIG_PERCENT:
        return "a percentage (0% to 100%)";
    }
    CHECK(false); /* a type that is not in the enumeration */
    return "";
}

const char *config_value_show(const struct config_key *key, uint64_t number,
                              char out[CONFIG_NUMBER_SIZE])
{
    char unit[TEXT_UNIT_SIZE];
    const char *percent = key->type == CONFIG_PERCENT ? "%" : "";
    if (key->type == CONFIG_BYTES) {
        (void)snprintf(out, CONFIG_NUMBER_SIZE, "%s", text_from_bytes(number, unit));
    } else if (key->type == CONFIG_MS) {
        (void)snprintf(out, CONFIG_NUMBER_SIZE, "%s", text_from_ms(number, unit));
    } else {
        (void)snprintf(out, CONFIG_NUMBER_SIZE, "%" PRIu64 "%s", number, percent);
    }
    return out;
}

static int say_wanted(const struct config_key *key, const char *text, char *why)
{
    struct text t;
    text_init(&t, why, CONFIG_WHY_SIZE);
    text_add(&t, "'");
    text_add_bytes(&t, text, base_min(strlen(text), 40));
    text_add(&t, "' is not %s", what_is_wanted(key->type));
    for (size_t i = 0; key->type == CONFIG_ENUM && key->choices[i] != NULL; i++) {
        text_add(&t, "%s %s", i > 0 ? "," : "", key->choices[i]);
    }
    return -ERR_config;
}

static int check_length(const struct config_key *key, size_t len, char *why)
{
    bool is_short = len < key->min;
    if (is_short || (key->max != 0 && len > key->max)) {
        (void)snprintf(why, CONFIG_WHY_SIZE, "has %zu bytes, must have at %s %" PRIu64, len,
                       is_short ? "least" : "most", is_short ? key->min : key->max);
        return -ERR_config;
    }
    return 0;
}

static int check_range(const struct config_key *key, uint64_t number, char *why)
{
    char shown[CONFIG_NUMBER_SIZE], limit[CONFIG_NUMBER_SIZE];
    uint64_t max = key->max == 0 && key->type == CONFIG_PERCENT ? 100 : key->max;
    bool is_small = number < key->min;
    if (is_small || (max != 0 && number > max)) {
        (void)snprintf(why, CONFIG_WHY_SIZE, "%s is too %s, must be at %s %s",
                       config_value_show(key, number, shown), is_small ? "small" : "large",
                       is_small ? "least" : "most",
                       config_value_show(key, is_small ? key->min : max, limit));
        return -ERR_config;
    }
    return 0;
}

int config_value_parse(const struct config_key *key, const char *text, uint64_t *ret,
                       char why[CONFIG_WHY_SIZE])
{
    uint64_t number = 0;
    int rc = parse_number(key, text, &number);
    if (rc < 0) {
        return say_wanted(key, text, why);
    }
    if (key->type == CONFIG_TEXT) {
        rc = check_length(key, strlen(text), why);
    } else if (key->type != CONFIG_BOOL && key->type != CONFIG_ENUM) {
        rc = check_range(key, number, why);
    }
    if (rc == 0) {
        *ret = number;
    }
    return rc;
}

/* Any text is a configuration or an error with a message; a configuration answers for all of its
 * keys. */
#include "base/config.h"

#include <string.h>

static const char *const choices[] = {"one", "two", NULL};

static const struct config_key keys[] = {
    {.section = "a", .name = "text", .type = CONFIG_TEXT, .default_text = "t", .max = 30},
    {.section = "a", .name = "number", .type = CONFIG_U64, .default_text = "1", .max = 1000},
    {.section = "a", .name = "bytes", .type = CONFIG_BYTES, .default_text = "4K"},
    {.section = "b", .name = "ms", .type = CONFIG_MS, .default_text = "1s", .min = 10},
    {.section = "b", .name = "bool", .type = CONFIG_BOOL, .default_text = "no"},
    {.section = "b",
     .name = "enum",
     .type = CONFIG_ENUM,
     .choices = choices,
     .default_text = "two"},
    {.section = "b", .name = "percent", .type = CONFIG_PERCENT, .default_text = "5%"},
    {.section = "m", .name = "text", .type = CONFIG_TEXT, .many = true, .default_text = ""},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(config_freep) struct config *c = NULL;
    struct err e = {0};
    int rc = config_parse((const char *)data, size, "fuzz", keys, ARRAY_COUNT(keys), &c, &e);
    if (rc < 0) {
        CHECK(c == NULL);
        CHECK(rc == -ENOMEM || (rc == -ERR_config && e.text[0] != 0));
        return 0;
    }
    CHECK(strlen(config_text(c, "a", "text")) <= 30);
    CHECK(config_u64(c, "a", "number") <= 1000);
    CHECK(config_u64(c, "b", "ms") >= 10);
    CHECK(config_u64(c, "b", "percent") <= 100);
    CHECK(config_u64(c, "b", "enum") < 2);
    for (size_t i = 0; config_section(c, "m", i) != NULL; i++) {
        CHECK(config_text(c, config_section(c, "m", i), "text") != NULL);
    }
    return 0;
}

#include "base/config.h"

#include "base/config_priv.h"
#include "base/mem.h"
#include "testing/testing.h"

#include <stdio.h>
#include <string.h>

static const char *const modes[] = {"fast", "safe", NULL};

static const struct config_key keys[] = {
    {.section = "net",
     .name = "listen",
     .type = CONFIG_TEXT,
     .min = 1,
     .max = 20,
     .help = "Address to listen on.\nPort 7000."},
    {.section = "net", .name = "backlog", .type = CONFIG_U64, .default_text = "128", .max = 4096},
    {.section = "net",
     .name = "timeout",
     .type = CONFIG_MS,
     .default_text = "30s",
     .min = 100,
     .max = 600000},
    {.section = "cache", .name = "size", .type = CONFIG_BYTES, .default_text = "64M", .min = 4096},
    {.section = "cache", .name = "share", .type = CONFIG_PERCENT, .default_text = "25%"},
    {.section = "cache", .name = "enabled", .type = CONFIG_BOOL, .default_text = "yes"},
    {.section = "cache",
     .name = "mode",
     .type = CONFIG_ENUM,
     .choices = modes,
     .default_text = "safe",
     .help = "How to write."},
    {.section = "target", .name = "path", .type = CONFIG_TEXT, .many = true, .min = 1},
    {.section = "target", .name = "weight", .type = CONFIG_U64, .many = true, .default_text = "1"},
};

static int parse(const char *text, struct config **ret, struct err *e)
{
    return config_parse(text, strlen(text), "x.conf", keys, ARRAY_COUNT(keys), ret, e);
}

TEST(config_reads_every_type)
{
    CLEANUP(config_freep) struct config *c = NULL;
    struct err e = {0};
    CHECK_OK(parse("\xef\xbb\xbf# head\n[net]\r\nlisten = ::1 ; note\n  backlog: 7\n"
                   "timeout=1.5s\n\n[cache] ; behind\nsize = 4MiB\nshare = 7\nenabled = off\n"
                   "mode = fast\n[target.0]\npath = /a b\n[target.x-1]\npath=/c;d\nweight = 3",
                   &c, &e));
    CHECK_TEXT(config_text(c, "net", "listen"), "::1");
    CHECK_EQ(config_u64(c, "net", "backlog"), 7);
    CHECK_EQ(config_u64(c, "net", "timeout"), 1500);
    CHECK_EQ(config_u64(c, "cache", "size"), 4 << 20);
    CHECK_EQ(config_u64(c, "cache", "share"), 7);
    CHECK_TRUE(!config_bool(c, "cache", "enabled"));
    CHECK_EQ(config_u64(c, "cache", "mode"), 0);
    CHECK_TEXT(config_section(c, "target", 0), "target.0");
    CHECK_TEXT(config_section(c, "target", 1), "target.x-1");
    CHECK_TRUE(config_section(c, "target", 2) == NULL);
    CHECK_TEXT(config_text(c, "target.0", "path"), "/a b");
    CHECK_EQ(config_u64(c, "target.0", "weight"), 1);
    CHECK_TEXT(config_text(c, "target.x-1", "path"), "/c;d");
    CHECK_EQ(config_u64(c, "target.x-1", "weight"), 3);
}

TEST(config_takes_defaults)
{
    CLEANUP(config_freep) struct config *c = NULL;
    CHECK_OK(parse("[net]\nlisten=a\n", &c, NULL));
    CHECK_EQ(config_u64(c, "net", "backlog"), 128);
    CHECK_EQ(config_u64(c, "net", "timeout"), 30000);
    CHECK_EQ(config_u64(c, "cache", "size"), 64 << 20);
    CHECK_EQ(config_u64(c, "cache", "share"), 25);
    CHECK_TRUE(config_bool(c, "cache", "enabled"));
    CHECK_EQ(config_u64(c, "cache", "mode"), 1);
    CHECK_TEXT(config_text(c, "cache", "mode"), "safe");
    CHECK_TRUE(config_section(c, "target", 0) == NULL);
}

/* The message is what the person who wrote the file gets: it is part of the contract. */
static const struct {
    const char *text, *message;
} bad_files[] = {
    {"", "x.conf: [net] listen: missing, it has no default"},
    {"[net]\nlisten=a\n[target.3]\nweight=1\n",
     "x.conf: [target.3] path: missing, it has no default"},
    {"listen = a\n", "x.conf:1: stands before the first [section]"},
    {"[nett]\n", "x.conf:1: [nett]: unknown section, perhaps [net]"},
    {"\n[cahce]\nsize=1\n", "x.conf:2: [cahce]: unknown section, perhaps [cache]"},
    {"[targt.1]\n", "x.conf:1: [targt.1]: unknown section, perhaps [target]"},
    {"[target]\npath=a\n", "x.conf:1: [target]: needs a number: [target.0]"},
    {"[target.]\n", "x.conf:1: [target.]: unknown section, perhaps [target]"},
    {"[something]\n", "x.conf:1: [something]: unknown section"},
    {"[net]\n[cache]\n\n[net]\n", "x.conf:4: [net]: section stands twice, first in line 1"},
    {"[net\n", "x.conf:1: section name without ']'"},
    {"[]\n", "x.conf:1: section name must be 1 to 48 letters, digits and '_', '-', '.'"},
    {"[net ]\n", "x.conf:1: section name must be 1 to 48 letters, digits and '_', '-', '.'"},
    {"[net] x\n", "x.conf:1: text behind the section name"},
    {"[net]\nlisen=a\n", "x.conf:2: [net] lisen: unknown key, perhaps 'listen'"},
    {"[net]\nsize=1\n", "x.conf:2: [net] size: unknown key"},
    {"[net]\n\tl\xc3\xa4ten=a\n", "x.conf:2: [net] l\\xc3\\xa4ten: unknown key, perhaps 'listen'"},
    {"[net]\nlisten=a\nlisten=b\n", "x.conf:3: [net] listen: stands twice, first in line 2"},
    {"[net]\nlisten\n", "x.conf:2: neither [section] nor name = value nor comment"},
    {"[net]\nlisten\n[foo]\n", "x.conf:2: neither [section] nor name = value nor comment"},
    {"[net]\nlisten\nlisten = \n", "x.conf:2: neither [section] nor name = value nor comment"},
    {"[net]\nlisten = a\x01z\n", "x.conf:2: line holds bytes that are not text"},
    {"[net]\nlisten =\n", "x.conf:2: [net] listen: has 0 bytes, must have at least 1"},
    {"[net]\nlisten = 123456789012345678901\n",
     "x.conf:2: [net] listen: has 21 bytes, must have at most 20"},
    {"[net]\nbacklog = 4097\n", "x.conf:2: [net] backlog: 4097 is too large, must be at most 4096"},
    {"[net]\nbacklog = -1\n", "x.conf:2: [net] backlog: '-1' is not a whole number"},
    {"[net]\nbacklog = 99999999999999999999\n",
     "x.conf:2: [net] backlog: '99999999999999999999' is not a whole number"},
    {"[net]\ntimeout = 30\n",
     "x.conf:2: [net] timeout: '30' is not a time with its unit (200ms, 30s, 10min, 1h)"},
    {"[net]\ntimeout = 99ms\n",
     "x.conf:2: [net] timeout: 99 ms is too small, must be at least 100 ms"},
    {"[cache]\nsize = big\n", "x.conf:2: [cache] size: 'big' is not a size (4096, 64K, 1.5G)"},
    {"[cache]\nsize = 1K\n", "x.conf:2: [cache] size: 1 KiB is too small, must be at least 4 KiB"},
    {"[cache]\nshare = 101%\n", "x.conf:2: [cache] share: 101% is too large, must be at most 100%"},
    {"[cache]\nshare = %\n", "x.conf:2: [cache] share: '%' is not a percentage (0% to 100%)"},
    {"[cache]\nshare = 123456789%\n",
     "x.conf:2: [cache] share: '123456789%' is not a percentage (0% to 100%)"},
    {"[cache]\nenabled = maybe\n", "x.conf:2: [cache] enabled: 'maybe' is not yes or no"},
    {"[cache]\nmode = slow\n", "x.conf:2: [cache] mode: 'slow' is not one of: fast, safe"},
};

TEST(config_errors_name_file_line_and_key)
{
    for (size_t i = 0; i < ARRAY_COUNT(bad_files); i++) {
        CLEANUP(config_freep) struct config *c = NULL;
        struct err e = {0};
        char expected[sizeof e.text];
        CHECK_RC(parse(bad_files[i].text, &c, &e), ERR_config);
        CHECK_TRUE(c == NULL);
        (void)snprintf(expected, sizeof expected, "%s: %s", bad_files[i].message,
                       err_text(-ERR_config));
        CHECK_TEXT(err_message(&e, -ERR_config), expected);
        CHECK_RC(parse(bad_files[i].text, &c, NULL), ERR_config);
    }
}

TEST(config_refuses_what_would_be_cut)
{
    CLEANUP(config_freep) struct config *c = NULL;
    char text[400];
    for (int len = 150; len < 300; len++) {
        struct err e = {0};
        (void)snprintf(text, sizeof text, "[net]\nlisten=a\n[target.1]\npath=%0*d\nweight=2\n",
                       len - 5, 1);
        int rc = parse(text, &c, &e);
        CHECK_EQ(rc, len <= 197 ? 0 : -ERR_config);
        if (rc == 0) {
            CHECK_EQ(strlen(config_text(c, "target.1", "path")), (size_t)len - 5);
            CHECK_EQ(config_u64(c, "target.1", "weight"), 2);
        } else {
            CHECK_TRUE(strncmp(e.text, "x.conf:4: line is longer than 197 bytes", 39) == 0);
        }
        c = config_free(c);
    }
    (void)snprintf(text, sizeof text, "[target.%0*d]\n", CONFIG_NAME_MAX - 6, 1);
    CHECK_RC(parse(text, &c, NULL), ERR_config);
    CHECK_RC(config_parse("[net]\nlisten=a\0b\n", 17, "x.conf", keys, ARRAY_COUNT(keys), &c, NULL),
             ERR_config);
}

TEST(config_is_bounded)
{
    CLEANUP(config_freep) struct config *c = NULL;
    size_t size = CONFIG_BYTES_MAX + 1, len = 0;
    CLEANUP(mem_freep) char *text = mem_alloc(size);
    CHECK_TRUE(text != NULL);
    memset(text, '\n', size);
    CHECK_RC(config_parse(text, size, "x", keys, ARRAY_COUNT(keys), &c, NULL), ERR_config);
    for (unsigned i = 0; i < CONFIG_SECTIONS_MAX + 1; i++) {
        len += (size_t)snprintf(text + len, size - len, "[target.%u]\npath=/%u\n", i, i);
    }
    struct err e = {0};
    CHECK_RC(config_parse(text, len, "x", keys, ARRAY_COUNT(keys), &c, &e), ERR_config);
    CHECK_TRUE(strstr(e.text, "more than 1024 sections") != NULL);
}

/* Every cut of a good file is read or refused, never more; only whole lines make a difference. */
TEST(config_stands_every_truncation)
{
    static const char whole[] = "[net]\nlisten = ::1\n[cache]\nsize = 4M\nmode = fast\n"
                                "[target.0]\npath = /a\n";
    unsigned good = 0;
    for (size_t len = 0; len < sizeof whole; len++) {
        CLEANUP(config_freep) struct config *c = NULL;
        CLEANUP(mem_freep) char *text = mem_dup(whole, len > 0 ? len : 1);
        CHECK_TRUE(text != NULL);
        int rc = config_parse(text, len, "x", keys, ARRAY_COUNT(keys), &c, NULL);
        CHECK_TRUE(rc == 0 || rc == -ERR_config);
        CHECK_EQ(rc == 0, c != NULL);
        good += rc == 0 ? 1U : 0U;
    }
    CHECK_TRUE(good > 4 && good < sizeof whole);
}

TEST(config_error_names_the_line_of_a_value)
{
    CLEANUP(config_freep) struct config *c = NULL;
    struct err e = {0};
    CHECK_OK(parse("[net]\n\nlisten = a\n", &c, NULL));
    CHECK_RC(config_error(c, "net", "listen", &e, "no such host '%s'", "a"), ERR_config);
    CHECK_TRUE(strncmp(e.text, "x.conf:3: [net] listen: no such host 'a'", 40) == 0);
    CHECK_RC(config_error(c, "net", "backlog", &e, "too many"), ERR_config);
    CHECK_TRUE(strncmp(e.text, "x.conf: [net] backlog (default): too many", 41) == 0);
    CHECK_RC(config_error(c, "net", "backlog", NULL, "too many"), ERR_config);
}

static const char sample[] = "[net]\n"
                             "# Address to listen on.\n"
                             "# Port 7000.\n"
                             "# (1 to 20 bytes)\n"
                             "# Required.\n"
                             "#listen =\n"
                             "\n"
                             "# (0 to 4096)\n"
                             "#backlog = 128\n"
                             "\n";

TEST(config_sample_shows_every_key)
{
    char text[2000], cut[100];
    size_t len = config_sample(keys, ARRAY_COUNT(keys), text, sizeof text);
    CHECK_EQ(len, strlen(text));
    CHECK_TRUE(strncmp(text, sample, sizeof sample - 1) == 0);
    for (size_t i = 0; i < ARRAY_COUNT(keys); i++) {
        char line[64];
        (void)snprintf(line, sizeof line, "\n#%s =", keys[i].name);
        CHECK_TRUE(strstr(text, line) != NULL);
    }
    CHECK_TRUE(strstr(text, "\n#[target.0]\n") != NULL);
    CHECK_TRUE(strstr(text, "\n# (one of: fast, safe)\n#mode = safe\n") != NULL);
    CHECK_EQ(config_sample(keys, ARRAY_COUNT(keys), cut, sizeof cut), len);
    CHECK_EQ(strlen(cut), sizeof cut - 1);
    CHECK_EQ(config_sample(keys, ARRAY_COUNT(keys), NULL, 0), len);
}

/* Uncommented it is a configuration with the defaults, as it stands one without a required key. */
TEST(config_sample_can_be_parsed)
{
    CLEANUP(config_freep) struct config *c = NULL;
    char text[2000], filled[2000];
    (void)config_sample(keys, ARRAY_COUNT(keys), text, sizeof text);
    CHECK_RC(parse(text, &c, NULL), ERR_config); /* [net] listen */
    size_t len = 0;
    for (size_t i = 0; text[i] != 0; i++) {
        bool setting = text[i] == '#' && text[i + 1] != ' ';
        if (!setting) {
            filled[len++] = text[i];
        }
        if (text[i] == '=' && text[i + 1] == '\n') {
            filled[len++] = 'a';
        }
    }
    CHECK_OK(config_parse(filled, len, "sample", keys, ARRAY_COUNT(keys), &c, NULL));
    CHECK_EQ(config_u64(c, "net", "timeout"), 30000);
    CHECK_TEXT(config_text(c, "target.0", "path"), "a");
}

TEST_TORTURE(config_stands_without_memory)
{
    CLEANUP(config_freep) struct config *c = NULL;
    TRY(parse("[net]\nlisten=a\n[target.0]\npath=/a\n[target.1]\npath=/b\n[target.2]\npath=/c\n"
              "[target.3]\npath=/d\n[target.4]\npath=/e\n",
              &c, NULL));
    CHECK_TEXT(config_text(c, "target.4", "path"), "/e");
}

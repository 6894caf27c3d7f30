/* Any text is the settings of a cluster or an error with a message; any text is a secret or is
 * refused; what is accepted is written and read the same. */
#include "cluster/settings.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_secret(const char *text, size_t len)
{
    struct cluster_secret a, b;
    char out[CLUSTER_SECRET_TEXT_SIZE];
    if (cluster_secret_from_text(text, len, &a) == 0) {
        cluster_secret_to_text(&a, out);
        CHECK(cluster_secret_from_text(out, strlen(out), &b) == 0);
        CHECK(memcmp(&a, &b, sizeof a) == 0);
    }
}

static void find_all(const struct cluster_settings *s)
{
    struct err e = {0};
    size_t at = 0;
    CHECK(s->meta_count > 0 && s->config != NULL && s->run_directory != NULL);
    for (size_t i = 0; i < s->target_count; i++) {
        CHECK(s->targets[i].node < s->node_count);
        CHECK(s->targets[i].directory != NULL);
    }
    int rc = cluster_settings_find_target(s, "nobody", &at, &e);
    CHECK(rc == 0 || (rc == -ENOENT && e.text[0] != 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(cluster_settings_freep) struct cluster_settings *s = NULL;
    struct err e = {0};
    int rc = cluster_settings_parse((const char *)data, size, "/c/cluster.ini", &s, &e);
    parse_secret((const char *)data, size);
    if (rc < 0) {
        CHECK(s == NULL);
        CHECK(rc == -ENOMEM || (rc == -ERR_config && e.text[0] != 0));
        return 0;
    }
    find_all(s);
    return 0;
}

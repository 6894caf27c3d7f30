/* Any text is a history or an error with a line; what is a history is written and read the same,
 * and the checker gives a verdict. */
#include "check.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define STATES 2000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void written_is_read_the_same(const struct history *h)
{
    struct history again;
    char *text = NULL, *more = NULL;
    size_t len = 0, more_len = 0;
    FILE *f = open_memstream(&text, &len);
    CHECK(f != NULL && history_write(h, f) == 0 && fclose(f) == 0);
    history_init(&again);
    CHECK(history_read(text, len, &again, NULL) == 0);
    f = open_memstream(&more, &more_len);
    CHECK(f != NULL && history_write(&again, f) == 0 && fclose(f) == 0);
    CHECK(len == more_len && memcmp(text, more, len) == 0);
    history_fini(&again);
    free(text);
    free(more);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct history h;
    struct err e = {0};
    struct check_report *r = mem_zalloc(sizeof *r);
    if (r == NULL) {
        return 0;
    }
    history_init(&h);
    int rc = history_read((const char *)data, size, &h, &e);
    if (rc == 0) {
        written_is_read_the_same(&h);
        rc = check_history(&h, STATES, r);
        CHECK(rc == 0 || rc == -ENOMEM);
    } else {
        CHECK(e.code == rc && e.text[0] != 0);
    }
    history_fini(&h);
    mem_free(r);
    return 0;
}

/*
 * history FILE... -- says of each history (doc/testing.md) whether it is linearizable. Exit status:
 * 0 all are, 1 one is not, 2 one could not be read, 3 one could not be decided.
 */
#include "check.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX (UINT64_C(1) << 30)

static int read_file(const char *path, char **ret, size_t *ret_len)
{
    char *text = NULL;
    size_t len = 0, capacity = 0, got = 1;
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        return -errno;
    }
    int rc = 0;
    while (rc == 0 && got > 0) {
        rc = len > FILE_MAX ? -EFBIG : mem_grow(&text, &capacity, len + 65536, 1);
        got = rc == 0 ? fread(text + len, 1, 65536, f) : 0;
        len += got;
    }
    rc = rc == 0 && ferror(f) != 0 ? -EIO : rc;
    (void)fclose(f);
    *ret = text;
    *ret_len = len;
    return rc;
}

static int judge(const char *path)
{
    static const int statuses[] = {
        [CHECK_LINEARIZABLE] = 0, [CHECK_NOT_LINEARIZABLE] = 1, [CHECK_UNKNOWN] = 3};
    static const char *const words[] = {[CHECK_LINEARIZABLE] = "linearizable",
                                        [CHECK_NOT_LINEARIZABLE] = "NOT LINEARIZABLE",
                                        [CHECK_UNKNOWN] = "not decided"};
    struct history h;
    struct check_report r = {0};
    struct err e = {0};
    char *text = NULL;
    size_t len = 0;
    history_init(&h);
    int rc = read_file(path, &text, &len);
    rc = rc < 0 ? err_set(&e, rc, "read") : history_read(text, len, &h, &e);
    rc = rc < 0 ? rc : check_history(&h, 0, &r);
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", path, e.text[0] != 0 ? e.text : err_text(rc));
    } else {
        printf("%s: %s: %zu operations, %llu states, %llu steps%s%s\n", path, words[r.verdict],
               h.op_count, (unsigned long long)r.states, (unsigned long long)r.steps,
               r.text[0] != 0 ? "\n  " : "", r.text);
    }
    history_fini(&h);
    mem_free(text);
    return rc < 0 ? 2 : statuses[r.verdict];
}

int main(int argc, char **argv)
{
    int status = argc < 2 ? 2 : 0;
    if (argc < 2) {
        fprintf(stderr, "usage: history FILE...\n");
    }
    for (int i = 1; i < argc; i++) {
        int one = judge(argv[i]);
        status = status == 0 ? one : status;
    }
    return status;
}

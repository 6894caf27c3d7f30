/* What people write for modes, times and sizes: accepted or refused, never more than fits. */
#include "cli/mode_priv.h"

#include <string.h>

#define TEXT_BYTES 256u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_mode(const char *text)
{
    struct mode_change m;
    if (cli_mode_parse(text, 022, &m)) {
        CHECK(m.count > 0 && m.count <= MODE_CLAUSES_MAX);
        for (uint32_t mode = 0; mode <= 07777; mode += 0111) {
            CHECK((cli_mode_apply(&m, mode, true) & ~07777u) == 0);
            CHECK((cli_mode_apply(&m, mode, false) & ~07777u) == 0);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[TEXT_BYTES + 1];
    size_t len = base_min(size, TEXT_BYTES);
    struct size_test s;
    int64_t ns;
    if (len > 0) {
        memcpy(text, data, len);
    }
    text[len] = '\0';
    parse_mode(text);
    (void)cli_time_parse(text, &ns);
    (void)cli_time_parse_stamp(text, INT64_C(1000000000), &ns);
    for (unsigned units = 0; units < 2; units++) {
        if (cli_size_test_parse(text, units != 0, &s)) {
            CHECK(s.sign == '+' || s.sign == '-' || s.sign == '=');
            (void)cli_size_test(&s, s.value);
        }
    }
    return 0;
}

/* Whatever the parsers of text accept has to survive the way back. */
#include "base/text.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void text_fuzz_parsers(const char *text)
{
    struct uuid u, again;
    char out[UUID_TEXT_SIZE], unit[TEXT_UNIT_SIZE];
    uint64_t v;
    if (uuid_from_text(&u, text) == 0) {
        uuid_to_text(&u, out);
        CHECK(uuid_from_text(&again, out) == 0);
        CHECK(uuid_equal(&u, &again));
    }
    uint8_t bytes[8];
    if (text_unhex(bytes, sizeof bytes, text) == 0) {
        char hex[2 * sizeof bytes + 1];
        text_hex(hex, bytes, sizeof bytes);
        CHECK(strcasecmp(hex, text) == 0);
    }
    if (text_to_u64(text, &v) == 0) {
        uint64_t as_bytes;
        CHECK(text_to_bytes(text, &as_bytes) == 0);
        CHECK(as_bytes == v);
    }
    if (text_to_bytes(text, &v) == 0) {
        CHECK(text_to_bytes(text_from_bytes(v, unit), &v) == 0 || v > UINT64_MAX - (1ull << 57));
    }
    if (text_to_ms(text, &v) == 0) {
        CHECK(text_from_ms(v, unit)[0] != '\0');
    }
}

/* Every prefix of well-formed text, repaired by text_whole_utf8, is well-formed. */
static void text_fuzz_utf8(const char *at, size_t size)
{
    size_t good = 0;
    for (size_t step; (step = text_utf8_len(at + good, size - good)) > 0;) {
        for (size_t cut = 1; cut < step; cut++) {
            CHECK(text_whole_utf8(at, good + cut) == good);
        }
        good += step;
        CHECK(text_whole_utf8(at, good) == good);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[256], shown[64];
    size_t len = size < sizeof text - 1 ? size : sizeof text - 1;
    if (len > 0) {
        memcpy(text, data, len);
    }
    text[len] = '\0';
    text_fuzz_parsers(text);
    text_fuzz_utf8(text, len);

    struct text t;
    text_init(&t, shown, 1 + (len > 0 ? (uint8_t)text[0] % (sizeof shown - 1) : 0));
    text_add_bytes(&t, text, len);
    CHECK(strlen(shown) == t.len && t.len < t.size);
    return 0;
}

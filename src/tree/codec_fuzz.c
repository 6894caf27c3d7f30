/* tree/codec_fuzz.c -- any bytes as a packed partition; any bytes through a codec and back. */
#include "tree/codec.h"

#include "base/mem.h"
#include "testing/replay.h"
#include "wire/wire.h"

#include <string.h>

static void fuzz_unpack(struct tree_codec *c, const uint8_t *data, size_t size)
{
    size_t raw_len = wire_load_u16(data);
    uint8_t *raw = mem_alloc(raw_len + 1);
    CHECK(raw != NULL);
    int rc = tree_codec_unpack(c, data + 2, size - 2, raw, raw_len);
    CHECK(rc == 0 || err_is(rc, ERR_corrupt));
    mem_free(raw);
}

static void fuzz_pack(struct tree_codec *c, const uint8_t *data, size_t size)
{
    uint8_t *out = mem_alloc(tree_codec_bound(size)), *raw = mem_alloc(size);
    CHECK(out != NULL && raw != NULL);
    for (unsigned id = 0; id <= TREE_CODEC_ZSTD; id++) {
        size_t len = tree_codec_pack(c, (enum tree_codec_id)id, data, size, out);
        CHECK(tree_codec_unpack(c, out, len, raw, size) == 0 && memcmp(raw, data, size) == 0);
    }
    mem_free(out);
    mem_free(raw);
}

/* Its memory is made once: that costs more than most inputs. */
static struct tree_codec *codec_once(void)
{
    static struct tree_codec c;
    static const struct tree_codec_options opt = {.zstd_level = 1};
    if (c.unpacker == NULL) {
        CHECK(tree_codec_init(&c, &opt) == 0);
    }
    return &c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 1u << 16) {
        return 0;
    }
    fuzz_unpack(codec_once(), data, size);
    fuzz_pack(codec_once(), data, size);
    return 0;
}

/*
 * tree/rig_keys_priv.h -- keys for tests that searching by prefixes and hints must not confuse:
 * long common beginnings, ends of zeros and of 0xff, one key the beginning of another.
 */
#pragma once

#include <string.h>

#include "kv/batch.h"

#define RIG_KEY_SIZE 96u

/* Different for different `k`. */
static inline struct kv_slice rig_hard_key(uint32_t k, uint8_t buf[RIG_KEY_SIZE])
{
    static const size_t commons[] = {0, 9, 43, 60};
    size_t common = commons[k % 4], filler = k / 4 % 9;
    memset(buf, 'p', common);
    buf[common] = (uint8_t)(k % 4);
    buf[common + 1] = (uint8_t)filler;
    memset(buf + common + 2, filler % 3 == 0 ? 0 : 0xff, filler);
    size_t len = common + 2 + filler;
    for (uint32_t v = k / 36; v > 0; v /= 7) {
        buf[len++] = (uint8_t)(v % 7 == 6 ? 0xff : v % 7);
    }
    return kv_slice_of(buf, len);
}

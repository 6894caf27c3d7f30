/*
 * cluster/capability.c -- HMAC-SHA256 over the fields in fixed widths, under a key derived per key
 * id. What was found genuine is remembered by whoever wants to: fields and MAC, so that the same
 * ones again cost a comparison.
 */
#include "cluster/capability.h"

#include "base/crc32c.h"
#include "wire/wire.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

static int hmac(const uint8_t *key, size_t key_len, const void *bytes, size_t len,
                uint8_t out[CLUSTER_MAC_BYTES])
{
    unsigned got = 0;
    if (HMAC(EVP_sha256(), key, (int)key_len, bytes, len, out, &got) == NULL ||
        got != CLUSTER_MAC_BYTES) {
        return -EIO;
    }
    return 0;
}

static int key_of(const struct cluster_secret *secret, uint32_t key_id,
                  uint8_t out[CLUSTER_MAC_BYTES])
{
    uint8_t name[16];
    struct wire_writer w = wire_writer_over(name, sizeof name);
    wire_write_bytes(&w, "capability", 10);
    wire_write_u32(&w, key_id);
    return hmac(secret->bytes, sizeof secret->bytes, name, w.len, out);
}

/* What is signed. */
static void fields_of(const struct proto_capability *c, uint8_t out[CLUSTER_SIGNED_BYTES])
{
    struct wire_writer w = wire_writer_over(out, CLUSTER_SIGNED_BYTES);
    wire_write_u64(&w, c->data_id);
    wire_write_u64(&w, c->last_data_id);
    wire_write_u64(&w, c->session);
    wire_write_u8(&w, c->rights);
    wire_write_u64(&w, c->cap_epoch);
    wire_write_u64(&w, c->expiry_wall_ms);
    wire_write_u32(&w, c->key_id);
    CHECK(!w.bad && w.len == CLUSTER_SIGNED_BYTES);
}

static int mac_of(const struct cluster_secret *secret, const struct proto_capability *c,
                  uint8_t out[CLUSTER_MAC_BYTES])
{
    uint8_t key[CLUSTER_MAC_BYTES], fields[CLUSTER_SIGNED_BYTES];
    int rc = key_of(secret, c->key_id, key);
    if (rc == 0) {
        fields_of(c, fields);
        rc = hmac(key, sizeof key, fields, sizeof fields, out);
    }
    OPENSSL_cleanse(key, sizeof key);
    return rc;
}

int cluster_capability_sign(const struct cluster_secret *secret, struct proto_capability *c,
                            uint8_t mac[CLUSTER_MAC_BYTES])
{
    int rc = mac_of(secret, c, mac);
    if (rc == 0) {
        c->mac = proto_bytes_of(mac, CLUSTER_MAC_BYTES);
    }
    return rc;
}

/* Of one that is genuine. */
static int access_check(const struct proto_capability *c, const struct cluster_access *a)
{
    if (a->data_id < c->data_id || a->data_id > c->last_data_id ||
        (c->rights & a->rights) != a->rights) {
        return -ERR_bad_capability;
    }
    return a->wall_ms > c->expiry_wall_ms + a->skew_ms ? -ERR_capability_expired : 0;
}

int cluster_capability_check(const struct cluster_secret *secret, const struct proto_capability *c,
                             const struct cluster_access *a)
{
    uint8_t mac[CLUSTER_MAC_BYTES];
    if (c->mac.len != CLUSTER_MAC_BYTES) {
        return -ERR_bad_capability;
    }
    int rc = mac_of(secret, c, mac);
    if (rc < 0) {
        return rc;
    }
    if (CRYPTO_memcmp(mac, c->mac.at, CLUSTER_MAC_BYTES) != 0) {
        return -ERR_bad_capability;
    }
    return access_check(c, a);
}

int cluster_capability_check_known(struct cluster_capability_known *k,
                                   const struct cluster_secret *secret,
                                   const struct proto_capability *c, const struct cluster_access *a)
{
    uint8_t fields[CLUSTER_SIGNED_BYTES];
    if (c->mac.len != CLUSTER_MAC_BYTES) {
        return -ERR_bad_capability;
    }
    fields_of(c, fields);
    struct cluster_known *at = &k->at[crc32c(0, fields, sizeof fields) % CLUSTER_KNOWN];
    if (at->genuine && memcmp(at->fields, fields, sizeof fields) == 0 &&
        CRYPTO_memcmp(at->mac, c->mac.at, CLUSTER_MAC_BYTES) == 0) {
        return access_check(c, a);
    }
    int rc = cluster_capability_check(secret, c, a);
    if (rc == 0) { /* what is good for nothing takes nobody's place */
        memcpy(at->fields, fields, sizeof fields);
        memcpy(at->mac, c->mac.at, CLUSTER_MAC_BYTES);
        at->genuine = true;
    }
    return rc;
}

#include "peer/auth.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#define AUTH_LABEL "opendfs hello 1"
#define AUTH_TEXT_BYTES 256u

int peer_secret_from_text(struct peer_secret *s, const char *hex)
{
    struct peer_secret read = {.known = true};
    int rc = text_unhex(read.bytes, sizeof read.bytes, hex);
    if (rc == 0) {
        *s = read;
    }
    return rc;
}

static const struct peer_secret *secret_of(const struct peer_secrets *s, uint32_t role)
{
    return role == PROTO_ROLE_CLIENT ? &s->client : &s->server;
}

bool peer_auth_possible(const struct peer_secrets *s, uint32_t role)
{
    return secret_of(s, role)->known;
}

/* The text that is signed: fixed widths only, so that no two exchanges have the same. */
static size_t auth_text(enum peer_side side, const struct proto_hello_request *hello,
                        const struct proto_hello_reply *reply, uint8_t out[AUTH_TEXT_BYTES])
{
    struct wire_writer w = wire_writer_over(out, AUTH_TEXT_BYTES);
    wire_write_bytes(&w, AUTH_LABEL, sizeof AUTH_LABEL);
    wire_write_u8(&w, (uint8_t)side);
    wire_write_bytes(&w, reply->cluster_id.bytes, sizeof reply->cluster_id.bytes);
    wire_write_u32(&w, hello->role);
    wire_write_u32(&w, reply->role);
    wire_write_u16(&w, hello->version_min);
    wire_write_u16(&w, hello->version_max);
    wire_write_u16(&w, reply->version);
    wire_write_u64(&w, hello->features);
    wire_write_u64(&w, reply->features);
    wire_write_u64(&w, hello->session);
    wire_write_u64(&w, hello->generation);
    wire_write_u64(&w, hello->link);
    wire_write_u32(&w, hello->slot);
    wire_write_bytes(&w, hello->nonce.at, PEER_NONCE_BYTES);
    wire_write_bytes(&w, reply->nonce.at, PEER_NONCE_BYTES);
    CHECK(!w.bad);
    return w.len;
}

int peer_auth_prove(const struct peer_secrets *s, enum peer_side side,
                    const struct proto_hello_request *hello, const struct proto_hello_reply *reply,
                    uint8_t ret[PEER_PROOF_BYTES])
{
    const struct peer_secret *secret = secret_of(s, hello->role);
    if (!secret->known) {
        return -EACCES;
    }
    if (hello->nonce.len != PEER_NONCE_BYTES || reply->nonce.len != PEER_NONCE_BYTES) {
        return -ERR_bad_value;
    }
    uint8_t text[AUTH_TEXT_BYTES];
    size_t len = auth_text(side, hello, reply, text);
    unsigned size = 0;
    const uint8_t *made =
        HMAC(EVP_sha256(), secret->bytes, (int)sizeof secret->bytes, text, len, ret, &size);
    if (made == NULL) {
        return -ENOMEM;
    }
    CHECK(size == PEER_PROOF_BYTES);
    return 0;
}

int peer_auth_check(const struct peer_secrets *s, enum peer_side side,
                    const struct proto_hello_request *hello, const struct proto_hello_reply *reply,
                    struct proto_bytes proof)
{
    uint8_t expected[PEER_PROOF_BYTES];
    int rc = peer_auth_prove(s, side, hello, reply, expected);
    if (rc < 0) {
        return rc;
    }
    if (proof.len != sizeof expected || CRYPTO_memcmp(expected, proof.at, sizeof expected) != 0) {
        rc = -EACCES;
    }
    OPENSSL_cleanse(expected, sizeof expected);
    return rc;
}

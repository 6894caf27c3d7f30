#include "peer/auth.h"

#include "testing/testing.h"

#define SECRET_HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

struct exchange {
    struct peer_secrets secrets;
    uint8_t nonce[PEER_NONCE_BYTES], other[PEER_NONCE_BYTES];
    struct proto_hello_request hello;
    struct proto_hello_reply reply;
};
static void exchange_init(struct exchange *x)
{
    *x = (struct exchange){.hello = {.version_min = 1, .version_max = 1, .role = PROTO_ROLE_META}};
    CHECK_OK(peer_secret_from_text(&x->secrets.server, SECRET_HEX));
    memset(x->nonce, 1, sizeof x->nonce);
    memset(x->other, 2, sizeof x->other);
    x->hello.nonce = proto_bytes_of(x->nonce, sizeof x->nonce);
    x->reply.nonce = proto_bytes_of(x->other, sizeof x->other);
    x->reply.version = 1;
}
static int checked(const struct exchange *x, enum peer_side side, const uint8_t *proof, size_t len)
{
    return peer_auth_check(&x->secrets, side, &x->hello, &x->reply, proto_bytes_of(proof, len));
}

TEST(auth_accepts_its_own_proof_only)
{
    struct exchange x;
    exchange_init(&x);
    uint8_t proof[PEER_PROOF_BYTES];
    CHECK_OK(peer_auth_prove(&x.secrets, PEER_SIDE_ASKED, &x.hello, &x.reply, proof));
    CHECK_OK(checked(&x, PEER_SIDE_ASKED, proof, sizeof proof));
    CHECK_RC(checked(&x, PEER_SIDE_ASKING, proof, sizeof proof), EACCES); /* passed back */
    CHECK_RC(checked(&x, PEER_SIDE_ASKED, proof, sizeof proof - 1), EACCES);
    CHECK_RC(checked(&x, PEER_SIDE_ASKED, proof, 0), EACCES);
    for (size_t i = 0; i < sizeof proof; i++) {
        proof[i] ^= 1;
        CHECK_RC(checked(&x, PEER_SIDE_ASKED, proof, sizeof proof), EACCES);
        proof[i] ^= 1;
    }
}

/* Whatever was agreed is covered: a proof for one exchange fits no other. */
TEST(auth_covers_all_that_was_said)
{
    struct exchange x;
    exchange_init(&x);
    uint8_t proof[PEER_PROOF_BYTES];
    CHECK_OK(peer_auth_prove(&x.secrets, PEER_SIDE_ASKED, &x.hello, &x.reply, proof));
    for (unsigned i = 0; i < 10; i++) {
        struct exchange y;
        exchange_init(&y);
        y.hello.role += i == 0 ? 4 : 0;
        y.hello.session += i == 1 ? 1 : 0;
        y.hello.generation += i == 2 ? 1 : 0;
        y.hello.link += i == 3 ? 1 : 0;
        y.hello.slot += i == 4 ? 1 : 0;
        y.reply.features += i == 5 ? 1 : 0;
        y.reply.role += i == 6 ? 1 : 0;
        y.reply.cluster_id.bytes[15] ^= i == 7 ? 1 : 0;
        y.nonce[31] ^= i == 8 ? 1 : 0;
        y.other[0] ^= i == 9 ? 1 : 0;
        CHECK_RC(checked(&y, PEER_SIDE_ASKED, proof, sizeof proof), EACCES);
    }
}

TEST(auth_wants_the_secret_of_the_role)
{
    struct exchange x;
    exchange_init(&x);
    uint8_t proof[PEER_PROOF_BYTES];
    x.hello.role = PROTO_ROLE_CLIENT; /* its secret is not known here */
    CHECK_TRUE(!peer_auth_possible(&x.secrets, PROTO_ROLE_CLIENT));
    CHECK_TRUE(peer_auth_possible(&x.secrets, PROTO_ROLE_TARGET));
    CHECK_RC(peer_auth_prove(&x.secrets, PEER_SIDE_ASKED, &x.hello, &x.reply, proof), EACCES);
    CHECK_RC(checked(&x, PEER_SIDE_ASKED, proof, sizeof proof), EACCES);
    x.hello.role = PROTO_ROLE_TARGET;
    x.hello.nonce.len = 31;
    CHECK_RC(peer_auth_prove(&x.secrets, PEER_SIDE_ASKED, &x.hello, &x.reply, proof),
             ERR_bad_value);
}

TEST(auth_reads_secrets_from_text)
{
    struct peer_secret s = {.known = false};
    CHECK_RC(peer_secret_from_text(&s, "00"), EINVAL);
    CHECK_RC(peer_secret_from_text(&s, ""), EINVAL);
    CHECK_RC(peer_secret_from_text(&s, SECRET_HEX "00"), EINVAL);
    CHECK_RC(peer_secret_from_text(&s, "g" SECRET_HEX), EINVAL);
    CHECK_TRUE(!s.known);
    CHECK_OK(peer_secret_from_text(&s, SECRET_HEX));
    CHECK_TRUE(s.known);
    CHECK_EQ(s.bytes[31], 0x1f);
}

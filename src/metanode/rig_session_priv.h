/* metanode/rig_session_priv.h -- for tests only: sessions and requests of raw clients. */
#pragma once

#include "metanode/rig_client_priv.h"

#include <stdio.h>

static inline void rig_set_session_in(void *ctx)
{
    struct rig_client *c = ctx;
    peer_set_session(c->peer, c->session, c->generation, false);
}
static inline int rig_credential(struct rig_client *c, uint32_t uid)
{
    struct proto_credential_request q = {.session = c->session, .uid = uid, .gid = uid};
    c->flags = PEER_CALL_AGAIN;
    int rc = rig_call(c, PROTO_OP_credential, &q);
    if (rc == 0) {
        c->cred = ((struct proto_credential_reply *)c->reply)->cred;
    }
    return rc;
}
static inline void rig_open(struct rig_client *c)
{
    struct proto_session_open_request q = {.client = c->uuid,
                                           .boot_id = c->uuid,
                                           .verifier = c->verifier,
                                           .flags = PROTO_SESSION_STATEFUL,
                                           .slots = RIG_SLOTS,
                                           .name = proto_bytes_text("raw")};
    c->flags = PEER_CALL_AGAIN;
    CHECK((rig_call(c, PROTO_OP_session_open, &q)) == 0);
    const struct proto_session_open_reply *reply = c->reply;
    CHECK(reply->session > 0 && reply->slots == RIG_SLOTS && reply->trailer.renewed);
    c->session = reply->session;
    loop_sim_enter(c->env.loop, rig_set_session_in, c);
    CHECK((rig_credential(c, 0)) == 0);
}
static inline int rig_resume(struct rig_client *c)
{
    struct proto_session_resume_request q = {
        .session = c->session, .verifier = c->verifier, .generation = c->generation};
    c->flags = PEER_CALL_AGAIN;
    return rig_call(c, PROTO_OP_session_resume, &q);
}
static inline struct proto_op rig_op(struct rig_client *c, uint32_t slot)
{
    return (struct proto_op){
        .session = c->session, .slot = slot, .sequence = ++c->sequence[slot], .cred = c->cred};
}
static inline struct proto_caller rig_caller(const struct rig_client *c)
{
    return (struct proto_caller){.session = c->session, .cred = c->cred};
}
static inline struct proto_create_request rig_file(struct rig_client *c, const char *name,
                                                   const char *data)
{
    return (struct proto_create_request){
        .op = rig_op(c, 0),
        .parent = PROTO_ROOT_INO,
        .name = proto_bytes_text(name),
        .type = PROTO_INODE_FILE,
        .mode = 0644,
        .data = proto_bytes_text(data == NULL ? "" : data),
        .flags =
            PROTO_CREATE_EXCLUSIVE | (data == NULL ? PROTO_CREATE_WOPEN : PROTO_CREATE_HAS_DATA)};
}
/* Attributes by name; ino 0: absent. */
static inline struct proto_attr rig_lookup(struct rig_client *c, const char *name)
{
    struct proto_lookup_request q = {.caller = rig_caller(c),
                                     .parent = PROTO_ROOT_INO,
                                     .name = proto_bytes_text(name),
                                     .want = PROTO_WANT_DATA};
    c->flags = PEER_CALL_AGAIN;
    CHECK((rig_call(c, PROTO_OP_lookup, &q)) == 0);
    return ((struct proto_lookup_reply *)c->reply)->attr;
}
static inline void rig_client_ready(struct rig *r, unsigned i)
{
    rig_client_start(r, i);
    rig_open(&r->client[i]);
}
/* A server that serves, and so many clients with a session. */
static inline void rig_ready(struct rig *r, unsigned clients, uint64_t seed)
{
    rig_new(r, seed);
    rig_serve(r);
    for (unsigned i = 0; i < clients; i++) {
        rig_client_ready(r, i);
    }
}
/* Renews once a second. */
static inline void rig_keep_alive(struct rig *r, struct rig_client *c, unsigned seconds)
{
    for (unsigned i = 0; i < seconds; i++) {
        struct proto_renew_request q = {.session = c->session};
        c->flags = PEER_CALL_AGAIN;
        CHECK(rig_call(c, PROTO_OP_renew, &q) == 0);
        rig_run(r, RIG_SECOND);
    }
}
/* An administrator in place of client i. */
static inline void rig_admin_start(struct rig *r, unsigned i)
{
    r->client[i].role = PROTO_ROLE_ADMIN;
    rig_client_start(r, i);
    r->client[i].flags = PEER_CALL_AGAIN;
}

/* Files of some content with numbers in their names, and whether all are there. */
static inline void rig_create_files(struct rig *r, unsigned from, unsigned count)
{
    for (unsigned i = from; i < from + count; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "file%04u", i);
        struct proto_create_request q = rig_file(&r->client[0], name, "some content");
        r->client[0].flags = PEER_CALL_AGAIN;
        CHECK(rig_call(&r->client[0], PROTO_OP_create, &q) == 0);
    }
}

static inline void rig_check_files(struct rig *r, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "file%04u", i);
        CHECK(rig_lookup(&r->client[0], name).ino != 0);
    }
}

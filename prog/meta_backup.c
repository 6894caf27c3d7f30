/*
 * prog/meta_backup.c -- `opendfs meta backup`, `verify`, `restore`: images of the metadata.
 *
 * A backup is written as FILE.partial, read back and verified, made durable, and only then gets its
 * name. It is asked for piece by piece: what is lost with a connection is asked for again, and when
 * the server does not know of the backup any more, all of it begins anew.
 */
#include "servers.h"

#include "base/text.h"
#include "client/directory.h"
#include "host.h"
#include "kv/image_file.h"
#include "metanode/restore.h"
#include "peer/client.h"

#include <string.h>

#define BACKUP_TRIES 3u
#define BACKUP_CALL_MS 60000u
#define BACKUP_WAIT_NS UINT64_C(100000000)
#define BACKUP_PIECE_MAX 524288u

struct backup {
    struct host host;
    struct peer *peer;
    struct peer_user user;
    struct peer_call call;
    struct net_address *meta;
    struct disk_file *file;
    char *partial;
    bool answered;
    int rc;
    char text[240]; /* of the server, about a failure */
    struct proto_backup_open_reply opened;
    uint64_t offset; /* of the next piece */
    bool last;
    uint8_t *piece;
    size_t piece_len;
};

static void backup_up(struct peer_user *u, struct peer_link *l)
{
    (void)u;
    (void)l;
}
static void backup_down(struct peer_user *u, struct peer_link *l, int rc, const char *reason)
{
    (void)u;
    (void)l;
    (void)rc;
    (void)reason; /* peer_trouble() says it */
}
static const struct peer_user_ops backup_ops = {.up = backup_up, .down = backup_down};

static void backup_keep_piece(struct backup *b, const struct proto_backup_read_reply *reply)
{
    if (reply->offset != b->offset || reply->piece.len > BACKUP_PIECE_MAX) {
        b->rc = -EPROTO;
        return;
    }
    memcpy(b->piece, reply->piece.at, reply->piece.len);
    b->piece_len = reply->piece.len;
    b->last = reply->last;
}

static void backup_answered(struct peer_call *call, const struct peer_reply *reply)
{
    struct backup *b = container_of(call, struct backup, call);
    b->answered = true;
    b->rc = reply->rc;
    b->text[0] = '\0';
    if (reply->rc < 0 && reply->failure != NULL) {
        proto_bytes_to_c(reply->failure->text, b->text, sizeof b->text);
    }
    if (reply->rc == 0 && call->opcode == PROTO_OP_backup_open) {
        b->opened = *(const struct proto_backup_open_reply *)reply->body;
    } else if (reply->rc == 0 && call->opcode == PROTO_OP_backup_read) {
        backup_keep_piece(b, reply->body);
    }
}

static int backup_ask(struct backup *b, uint16_t opcode, const void *request)
{
    b->answered = false;
    b->call = (struct peer_call){.done = backup_answered,
                                 .request = request,
                                 .opcode = opcode,
                                 .flags = PEER_CALL_AGAIN,
                                 .timeout_ms = BACKUP_CALL_MS};
    peer_call(b->peer, &b->call);
    while (!b->answered) {
        loop_run_once(b->host.loop, BACKUP_WAIT_NS);
    }
    return b->rc;
}

static int backup_connect(struct backup *b, struct err *e)
{
    struct host *h = &b->host;
    int rc = client_directory_addresses(h->disk, h->settings, &b->meta, e);
    if (rc < 0) {
        return rc;
    }
    b->user.ops = &backup_ops;
    b->piece = mem_alloc(BACKUP_PIECE_MAX);
    struct peer_options opt = {.env = &h->env,
                               .user = &b->user,
                               .secrets = h->secrets,
                               .cluster_id = h->settings->id,
                               .role = PROTO_ROLE_ADMIN,
                               .name = "backup",
                               .addresses = b->meta,
                               .address_count = h->settings->meta_count,
                               .wants_leader = true};
    rc = b->piece == NULL ? -ENOMEM : peer_new(&opt, &b->peer);
    if (rc == 0) {
        peer_start(b->peer);
    }
    return rc;
}

/* ---- the file ---- */

static int backup_disk(struct backup *b, enum disk_op op, struct err *e)
{
    struct disk_req req = {.op = op,
                           .file = b->file,
                           .path = b->partial,
                           .flags = DISK_READ_WRITE | DISK_CREATE,
                           .offset = b->offset,
                           .buf = b->piece,
                           .len = op == DISK_WRITE ? b->piece_len : 0};
    if (op == DISK_WRITE) {
        req.flags = DISK_APPENDING;
    }
    int rc = (int)disk_now(b->host.disk, &req);
    b->file = op == DISK_CLOSE ? NULL : rc >= 0 && op == DISK_OPEN ? req.file : b->file;
    return rc < 0 ? err_set(e, rc, "write '%s'", b->partial) : 0;
}

/* From the beginning to the end. -ESTALE: the server has dropped it. */
static int backup_pieces(struct backup *b, struct err *e)
{
    struct proto_backup_open_request open = {};
    b->offset = 0;
    b->last = false;
    int rc = backup_disk(b, DISK_TRUNCATE, e);
    if (rc < 0) {
        return rc;
    }
    rc = backup_ask(b, PROTO_OP_backup_open, &open);
    while (rc == 0 && !b->last) {
        struct proto_backup_read_request read = {.id = b->opened.id, .offset = b->offset};
        rc = backup_ask(b, PROTO_OP_backup_read, &read);
        if (rc == 0) {
            rc = backup_disk(b, DISK_WRITE, e);
            if (rc < 0) {
                return rc;
            }
            b->offset += b->piece_len;
        }
    }
    if (rc < 0) {
        const char *why = b->text[0] != '\0' ? b->text : peer_trouble(b->peer)->text;
        return why[0] != '\0' ? err_set(e, rc, "metadata server: %s", why)
                              : err_set(e, rc, "metadata server");
    }
    struct proto_backup_close_request close = {.id = b->opened.id};
    (void)backup_ask(b, PROTO_OP_backup_close, &close); /* or it ends by itself */
    return 0;
}

/* It is whole only when it was read back. */
static int backup_finish(struct backup *b, const char *path, struct kv_image_info *info,
                         struct err *e)
{
    int rc = backup_disk(b, DISK_SYNC_ALL, e);
    int closed = backup_disk(b, DISK_CLOSE, rc < 0 ? NULL : e);
    rc = rc < 0 ? rc : closed;
    rc = rc < 0 ? rc : kv_image_file_verify(b->host.disk, b->partial, info, e);
    if (rc < 0) {
        return rc;
    }
    const char *slash = strrchr(path, '/');
    CLEANUP(mem_freep)
    char *directory =
        slash == NULL ? mem_strdup(".") : mem_printf("%.*s/", (int)(slash - path), path);
    struct disk_req rename = {.op = DISK_RENAME, .path = b->partial, .path_to = path};
    struct disk_req sync = {.op = DISK_SYNC_DIR, .path = directory};
    rc = directory == NULL ? -ENOMEM : (int)disk_now(b->host.disk, &rename);
    rc = rc < 0 ? rc : (int)disk_now(b->host.disk, &sync);
    return rc < 0 ? err_set(e, rc, "rename '%s'", b->partial) : 0;
}

static int backup_run(struct backup *b, const char *path, struct kv_image_info *info, struct err *e)
{
    b->partial = mem_printf("%s.partial", path);
    int rc = b->partial == NULL ? -ENOMEM : backup_connect(b, e);
    rc = rc < 0 ? rc : backup_disk(b, DISK_OPEN, e);
    int tried = -ESTALE;
    for (unsigned i = 0; i < BACKUP_TRIES && rc == 0 && err_is(tried, ESTALE); i++) {
        tried = backup_pieces(b, e);
    }
    rc = rc < 0 ? rc : tried;
    return rc < 0 ? rc : backup_finish(b, path, info, e);
}

int server_meta_backup(struct cli *c)
{
    struct backup b = {0};
    struct kv_image_info info = {0};
    struct err e = {0};
    char size[TEXT_UNIT_SIZE];
    const char *path = cli_argument(c, 0);
    int rc = host_init(&b.host, server_config(c), &e);
    rc = rc < 0 ? rc : backup_run(&b, path, &info, &e);
    peer_free(b.peer);
    if (b.file != NULL) {
        (void)backup_disk(&b, DISK_CLOSE, NULL);
    }
    mem_free(b.meta);
    mem_free(b.piece);
    mem_free(b.partial);
    host_fini(&b.host);
    if (rc < 0) {
        return cli_fail(c, "%s", err_message(&e, rc));
    }
    text_from_bytes(b.offset, size);
    cli_say(c, "%s: %llu records, %s, state at %llu", path, (unsigned long long)info.records, size,
            (unsigned long long)info.index);
    return 0;
}

int server_meta_verify(struct cli *c)
{
    struct host h = {0};
    struct kv_image_info info = {0};
    struct err e = {0};
    const char *path = cli_argument(c, 0);
    int rc = host_init_bare(&h, &e);
    rc = rc < 0 ? rc : kv_image_file_verify(h.disk, path, &info, &e);
    host_fini(&h);
    if (rc < 0) {
        return cli_fail(c, "%s", err_message(&e, rc));
    }
    struct uuid owner;
    char text[UUID_TEXT_SIZE];
    memcpy(owner.bytes, info.owner, sizeof owner.bytes);
    uuid_to_text(&owner, text);
    cli_say(c, "%s: sound: %llu records, state at %llu, of cluster %s", path,
            (unsigned long long)info.records, (unsigned long long)info.index, text);
    return 0;
}

/* The server that the directory is for, if it is named there already; else the first. */
static const struct cluster_settings_meta *server_of(const struct cluster_settings *s,
                                                     const char *directory)
{
    for (size_t i = 0; i < s->meta_count; i++) {
        if (strcmp(s->metas[i].directory, directory) == 0) {
            return &s->metas[i];
        }
    }
    return &s->metas[0];
}

int server_meta_restore(struct cli *c)
{
    struct host h = {0};
    struct metanode_restored done = {0};
    struct err e = {0};
    const char *path = cli_argument(c, 0), *directory = cli_argument(c, 1);
    int rc = host_init(&h, server_config(c), &e);
    if (rc == 0) {
        const struct cluster_settings_meta *m = server_of(h.settings, directory);
        struct metanode_restore opt = {.env = &h.env,
                                       .backup = path,
                                       .directory = directory,
                                       .cluster_id = &h.settings->id,
                                       .engine = server_meta_engine(m),
                                       .cache_bytes = m->cache_bytes};
        rc = metanode_restore(&opt, &done, &e);
    }
    host_fini(&h);
    if (rc < 0) {
        return cli_fail(c, "%s", err_message(&e, rc));
    }
    cli_say(c,
            "%s: %llu records from the state at %llu; %u sessions of that time are over.\nName it "
            "as `directory` of the metadata server before you start it.",
            directory, (unsigned long long)done.records, (unsigned long long)done.index,
            done.sessions);
    return 0;
}

/*
 * Every decoder of records and commands, and the state machine itself: the first byte chooses the
 * record; 255: the rest is a command that is checked on a small file system.
 */
#include "namespace/record.h"

#include "kv/mem.h"
#include "namespace/namespace.h"

#define FUZZ_ARENA_BYTES (32u << 20)
#define FUZZ_RECORD_BYTES 4096u
#define FUZZ_COMMAND 255u

#define RECORD_TYPE(tag) &tag##_type,
static const struct proto_type *const all_types[] = {NAMESPACE_RECORDS(RECORD_TYPE)
                                                         NAMESPACE_COMMANDS(RECORD_TYPE)};

/* What is accepted must encode, and decode to the same. */
static void fuzz_record(const struct proto_type *t, const uint8_t *data, size_t size,
                        struct mem_arena *a)
{
    uint64_t record[FUZZ_RECORD_BYTES / 8];
    char out[256];
    struct text text;
    size_t len = 0;
    CHECK(t->size <= sizeof record);
    int rc = proto_decode(t, data, size, a, record);
    if (rc == 0) {
        CHECK(proto_encoded_bytes(t, record, &len) == 0);
    }
    text_init(&text, out, sizeof out);
    proto_to_text(t, record, &text);
}

static void fuzz_apply(struct namespace *ns, uint64_t index, uint16_t kind,
                       const struct proto_type *type, const void *body)
{
    uint8_t bytes[1024], command[1200];
    struct kv_need need = {0};
    struct namespace_reply reply;
    struct wire_writer w = wire_writer_over(bytes, sizeof bytes);
    CHECK(proto_encode(type, body, &w) == 0);
    struct namespace_command c = {.version = NAMESPACE_COMMAND_VERSION,
                                  .kind = kind,
                                  .time_ns = 1,
                                  .body = proto_bytes_of(bytes, w.len)};
    w = wire_writer_over(command, sizeof command);
    CHECK(PROTO_ENCODE(namespace_command, &c, &w) == 0);
    struct namespace_entry e = {.index = index, .last = true, .bytes = command, .len = w.len};
    CHECK(namespace_apply(ns, &e, &need, &reply) == 0 && reply.rc == 0);
    kv_need_release(&need);
}

/* Session 1 with root's credential 1. */
static void fuzz_prepare(struct namespace *ns)
{
    struct namespace_format format = {.mode = 0755};
    struct proto_session_open_request open = {.verifier = 1};
    struct proto_credential_request cred = {.session = 1};
    fuzz_apply(ns, 1, NAMESPACE_FORMAT_ROOT, &namespace_format_type, &format);
    fuzz_apply(ns, 2, PROTO_OP_session_open, &proto_session_open_request_type, &open);
    fuzz_apply(ns, 3, PROTO_OP_credential, &proto_credential_request_type, &cred);
}

static void fuzz_command(const uint8_t *data, size_t size)
{
    struct kv *kv = NULL;
    struct namespace *ns = NULL;
    struct kv_need need = {0};
    struct namespace_reply reply;
    struct kv_mem_options opt = {.seed = 1};
    CHECK(kv_mem_new(&opt, &kv) == 0);
    struct namespace_options ns_opt = {.kv = kv};
    CHECK(namespace_new(&ns_opt, &ns) == 0);
    fuzz_prepare(ns);
    char out[512];
    struct text text;
    struct mem_arena a;
    text_init(&text, out, sizeof out);
    mem_arena_init(&a, FUZZ_ARENA_BYTES);
    namespace_command_to_text(data, size, &a, &text);
    mem_arena_fini(&a);
    struct namespace_entry e = {.index = 4, .last = true, .bytes = data, .len = size};
    int rc = namespace_apply(ns, &e, &need, &reply);
    CHECK(rc == 0 || rc == -ERR_bad_version || rc == -ENOMEM);
    kv_need_release(&need);
    (void)namespace_free(ns);
    (void)kv_mem_end(kv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mem_arena a;
    if (size == 0) {
        return 0;
    }
    if (data[0] == FUZZ_COMMAND) {
        fuzz_command(data + 1, size - 1);
        return 0;
    }
    mem_arena_init(&a, FUZZ_ARENA_BYTES);
    fuzz_record(all_types[data[0] % ARRAY_COUNT(all_types)], data + 1, size - 1, &a);
    mem_arena_fini(&a);
    return 0;
}

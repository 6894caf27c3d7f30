/* The value of an access control list: what is accepted is rendered, and that is accepted again. */
#include "proto/acl.h"

#define FUZZ_ARENA_BYTES (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t first[PROTO_ACL_VALUE_MAX], second[PROTO_ACL_VALUE_MAX];
    struct proto_acl acl;
    struct mem_arena a;
    mem_arena_init(&a, FUZZ_ARENA_BYTES);
    if (proto_acl_parse(data, size, &a, &acl, NULL) == 1) {
        struct wire_writer w = wire_writer_over(first, sizeof first);
        proto_acl_render(&acl, &w);
        CHECK(w.len == size && w.len == proto_acl_value_bytes(&acl));
        CHECK(proto_acl_parse(first, w.len, &a, &acl, NULL) == 1);
        w = wire_writer_over(second, sizeof second);
        proto_acl_render(&acl, &w);
        CHECK(w.len == size && memcmp(first, second, size) == 0);
    }
    mem_arena_fini(&a);
    return 0;
}

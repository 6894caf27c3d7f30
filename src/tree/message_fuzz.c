/*
 * Bodies of messages as a disk may hold them: byte 0 is the type, the rest one body, or for upserts
 * two that are folded. What passes the check can be applied and folded, and the result passes
 * again.
 */
#include "tree/message.h"

#include "base/mem.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void apply_one(const struct tree_message *m)
{
    struct tree_room room = {0};
    struct kv_slice value = {0};
    int rc = tree_message_apply(m, kv_slice_of("12345678901", 11), &room, &value);
    if (rc == 1 && m->type == TREE_UPSERT) {
        CHECK(value.len >= 11 && value.len <= KV_VALUE_MAX);
    }
    tree_room_fini(&room);
}

/* The order of applying one after the other and both at once makes no difference. */
static void fold(const struct tree_message *newer, const struct tree_message *older)
{
    struct tree_room fold_room = {0}, one = {0}, two = {0};
    struct tree_message both;
    struct kv_slice step = {0}, a = {0}, b = {0};
    if (tree_message_combine(newer, older, &fold_room, &both) == 1) {
        CHECK(tree_message_check(both.type, both.body, NULL) == 0);
        CHECK(tree_message_apply(&both, kv_slice_of("value", 5), &one, &a) == 1);
        CHECK(tree_message_apply(older, kv_slice_of("value", 5), &two, &step) == 1);
        CHECK(tree_message_apply(newer, step, &two, &b) == 1);
        CHECK(kv_slice_compare(a, b) == 0);
    }
    tree_room_fini(&fold_room);
    tree_room_fini(&one);
    tree_room_fini(&two);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {0};
    if (size == 0) {
        return 0;
    }
    unsigned type = data[0];
    data++;
    size--;
    if (tree_message_check(type, kv_slice_of(data, size), &e) == 0) {
        struct tree_message m = {(enum tree_message_type)type, 1, kv_slice_of(data, size)};
        apply_one(&m);
    } else {
        CHECK(e.code < 0 && strlen(e.text) > 0);
    }
    for (size_t cut = 1; cut < size; cut++) {
        struct tree_message newer = {TREE_UPSERT, 2, kv_slice_of(data, cut)};
        struct tree_message older = {TREE_UPSERT, 1, kv_slice_of(data + cut, size - cut)};
        if (tree_message_check(TREE_UPSERT, newer.body, NULL) == 0 &&
            tree_message_check(TREE_UPSERT, older.body, NULL) == 0) {
            fold(&newer, &older);
        }
    }
    return 0;
}

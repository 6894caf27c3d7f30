/* client/fake_people_priv.h -- for tests only: whom the sessions of the cluster in memory name. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FAKE_CRED 5u
struct fake_people {
    struct {
        uint32_t uid, gid;
        size_t group_count;
    } cred[8]; /* of the newest session: number FAKE_CRED + i */
    unsigned count, registered;
    uint32_t asked_by; /* the newest getattr */
};

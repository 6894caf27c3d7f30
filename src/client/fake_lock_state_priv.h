/* client/fake_lock_state_priv.h -- for tests only: what fake_lock_priv.h goes by. */
#pragma once

#include "peer/link.h"

struct fake_locks {
    enum proto_lock_outcome outcome; /* of all questions */
    bool hold, granted_late;         /* not answered until let; a cancelled one had it */
    struct peer_request *held_back;
    struct proto_lock_request newest;
    struct proto_unlock_request let_go; /* the newest */
    struct proto_lock_test_reply found;
    uint64_t data_version;
    unsigned asked, gone, late; /* late: so many questions are said to have come too late */
};

#include "base/fault.h"

#include "testing/testing.h"

TEST_TORTURE(fault_fails_from_the_nth_passing_on)
{
    CLEANUP(fault_freep) struct fault *f = fault_new();
    TRY_PTR(f);
    fault_arm(f, "disk.read", 3, 2);
    static const bool expected[] = {false, false, true, true, false, false};
    for (size_t i = 0; i < ARRAY_COUNT(expected); i++) {
        CHECK_EQ(FAULT(f, "disk.read"), expected[i]);
        CHECK_TRUE(!FAULT(f, "disk.write")); /* points do not touch each other */
    }
    CHECK_EQ(fault_passed(f, "disk.read"), 6);
    CHECK_EQ(fault_passed(f, "net.send"), 0);
}

TEST_TORTURE(fault_for_ever_ends_with_disarm)
{
    CLEANUP(fault_freep) struct fault *f = fault_new();
    TRY_PTR(f);
    fault_arm(f, "net.send", 1, 0);
    for (int i = 0; i < 10; i++) {
        CHECK_TRUE(FAULT(f, "net.send"));
    }
    fault_disarm(f, "net.send");
    CHECK_TRUE(!FAULT(f, "net.send"));
    CHECK_EQ(fault_passed(f, "net.send"), 11);
}

TEST_TORTURE(fault_disarm_of_all_and_arming_again)
{
    CLEANUP(fault_freep) struct fault *f = fault_new();
    TRY_PTR(f);
    fault_arm(f, "disk.sync", 1, 0);
    fault_arm(f, "disk.open", 1, 0);
    fault_disarm(f, NULL);
    CHECK_TRUE(!FAULT(f, "disk.sync"));
    CHECK_TRUE(!FAULT(f, "disk.open"));
    fault_arm(f, "disk.sync", 1, UINT64_MAX); /* counts from now, and does not wrap */
    CHECK_TRUE(FAULT(f, "disk.sync"));
    fault_arm(f, "disk.sync", 1, 1); /* replaces */
    CHECK_TRUE(FAULT(f, "disk.sync"));
    CHECK_TRUE(!FAULT(f, "disk.sync"));
}

TEST(fault_without_a_set_never_fails)
{
    CHECK_TRUE(!FAULT(NULL, "disk.read"));
}

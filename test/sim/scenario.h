/*
 * sim/scenario.h -- stories with a known end, told on the whole cluster: what random work meets too
 * rarely.
 */
#pragma once

#include "base/base.h"

/*
 * chain.md, case 17: the power of all targets is cut between a client's write and its fsync; the
 * client lives on. Its fsync says EIO, once, and what it writes then is safe again. What broke the
 * rules is in `ret` (size bytes), empty: nothing.
 */
void scenario_power_cut_before_fsync(uint64_t seed, bool verbose, char *ret, size_t size);
/*
 * chain.md, R3a: one member of all chains leaves, the others take writes and are lost; the old one
 * serves by an administrator's order what it has. The others come back after all: what they have is
 * neither shown nor overwritten until it is given up, also by the next leader.
 */
void scenario_promotion(uint64_t seed, bool verbose, char *ret, size_t size);

/*
 * sim/replay.h -- another metadata server that finds the same disk must come to the same state: its
 * newest checkpoint, and the log behind it, applied with reads that find other things missing.
 *
 * The one that runs is killed, the next one goes on. When no client works.
 */
#pragma once

#include "world.h"

void replay_check(struct world *w);

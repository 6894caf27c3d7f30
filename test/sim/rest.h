/* sim/rest.h -- what must be true of a cluster that has healed and is at rest. */
#pragma once

#include "world.h"

/*
 * No client runs. Waits until the metadata has nothing left to do (sessions of the dead ended,
 * removed data and ends of truncated files gone), lets every target verify all that it stores and
 * repair it, then compares: members of a chain hold the same chunks, with the same identity and
 * checksums; there is no chunk that no file has, and no byte behind the end of a file. What differs
 * is the world's failure. Then an orphan is made, and two looks have it removed.
 */
void rest_check(struct world *w);

/*
 * sim/classes.h -- a second storage class, with another number of copies, for all that is made in
 * the root directory from then on: one client's directory is older, and stays with the first.
 */
#pragma once

#include "world.h"

/* Waits until there is one and all copies of its chains are there. */
void classes_make(struct world *w);
/* The root directory takes it. */
void classes_use(struct world *w);

/* tree/tree_pin_priv.h -- pinned checkpoints of a tree (tree_pin.c). */
#pragma once

#include "tree/tree_priv.h"

NODISCARD int tree_pin(struct kv *kv, struct kv_pin **ret); /* kv_ops.pin */
unsigned tree_pins(const struct tree *t, bool reading);     /* all, or those that are being read */

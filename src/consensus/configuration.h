/*
 * consensus/configuration.h -- the engine's bytes of a configuration, checked before it reads them:
 * its own decoder runs over the end of bad ones.
 *
 * version u8 (1) | count u64 | per server: id u64, address with its zero, role u8 | zeros up to 8.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

#include <raft.h>

#define CONSENSUS_SERVERS_MAX 64u

/* ERR_corrupt class. Good ones can be given to the engine. */
NODISCARD int consensus_configuration_check(const uint8_t *bytes, size_t len);
/* Checks and decodes; closed by raft_configuration_close(). ERR_corrupt class. */
NODISCARD int consensus_configuration_decode(const uint8_t *bytes, size_t len,
                                             struct raft_configuration *ret);

/* cli/change_priv.h -- shared with what makes names. */
#pragma once

#include <stdint.h>

/* Of this process. */
uint32_t cli_umask(void);

/* cli/remove_priv.h -- rm. */
#pragma once

struct cli;

int cli_run_rm(struct cli *c);

/* cli/ls_priv.h -- ls. */
#pragma once

struct cli;

int cli_run_ls(struct cli *c);

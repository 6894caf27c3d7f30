/* cli/usage_priv.h -- the commands of the table in usage.c that live elsewhere. */
#pragma once

struct cli;

/* quota.c */
int cli_run_quota_get(struct cli *c);
int cli_run_quota_set(struct cli *c);
int cli_run_quota_clear(struct cli *c);

/* class.c */
int cli_run_class_list(struct cli *c);
int cli_run_class_create(struct cli *c);
int cli_run_class_set(struct cli *c);
int cli_run_class_show(struct cli *c);

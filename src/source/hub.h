/* Which file of a repository a precision means. */
#ifndef PLIMSOLL_SOURCE_HUB_H
#define PLIMSOLL_SOURCE_HUB_H

#include <plimsoll/arena.h>
#include <plimsoll/error.h>

/* Picks among the files of a listing (api/models/…/tree) as llama.cpp does (common/download.cpp, find_best_model): the first
 * model whose name holds tag before "." or "-"; without a tag Q4_K_M, then Q8_0, then the first. Of split models the first part. */
int pl_hub_pick(struct pl_arena *a, const char *repo, const char *tag, const char *json, size_t len, const char **ret_path,
                struct pl_err *err) PL_MUST_CHECK;

#endif

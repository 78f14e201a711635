/* Forgiving comparison of names: what people write for the same thing. */
#ifndef PLIMSOLL_CATALOG_NORMAL_H
#define PLIMSOLL_CATALOG_NORMAL_H

#include <stdbool.h>
#include <stddef.h>

#include <plimsoll/error.h>

enum { PL_NORMAL_MAX = 96 };

/* Lower case, letters and digits only; ret holds PL_NORMAL_MAX bytes. Words in `drop` (NULL-terminated, normalised, may be
 * NULL) vanish where they stand alone between separators or at a change from letters to digits. */
void pl_normal(const char *name, const char *const *drop, char *ret);
/* Is it one of the names, parted by blanks? */
bool pl_normal_in(const char *normal, const char *list, const char *const *drop);
/* Edit distance of two normalised names, transpositions counted as one; at most PL_NORMAL_MAX. */
int pl_edit_distance(const char *a, const char *b);

/* The three names nearest to a miss, for the sentence that reports it. */
struct pl_near {
	const char *name[3];
	int distance[3];
};
void pl_near_add(struct pl_near *near, const char *name, int distance);
/* "no GPU is called 'x'; did you mean a, b or c?" */
int pl_near_fail(const struct pl_near *near, const char *kind, const char *asked, struct pl_err *err);

#endif

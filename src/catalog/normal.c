#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "catalog/normal.h"

static bool is_dropped(const char *word, size_t len, const char *const *drop)
{
	for (; drop && *drop; drop++)
		if (word[0] == (*drop)[0] && !strncmp(word, *drop, len) && !(*drop)[len])
			return true;
	return false;
}

/* "80gb", "80GiB" and, standing alone, "80g" are the size 80; "a10g" is a card. */
static size_t without_unit(const char *word, size_t len, bool stands_alone)
{
	static const char *const units[] = {"gib", "gb", "g"};
	for (int i = 0; i < 3; i++) {
		size_t n = strlen(units[i]);
		if (len > n && isdigit((unsigned char)word[0]) && isdigit((unsigned char)word[len - n - 1]) &&
		    !memcmp(word + len - n, units[i], n) && (n > 1 || stands_alone))
			return len - n;
	}
	return len;
}

void pl_normal(const char *name, const char *const *drop, char *ret)
{
	char word[PL_NORMAL_MAX];
	size_t n = 0, len = 0;
	bool alone = true;
	for (const char *p = name;; p++) {
		unsigned char c = (unsigned char)*p;
		bool alnum = isalnum(c) || c >= 0x80;
		bool boundary = len && alnum && isdigit(c) && isalpha((unsigned char)word[len - 1]);
		if (!alnum || boundary) {
			len = without_unit(word, len, alone);
			if (len && !is_dropped(word, len, drop) && n + len < PL_NORMAL_MAX - 1) {
				memcpy(ret + n, word, len);
				n += len;
			}
			len = 0;
			alone = !alnum;
		}
		if (!c)
			break;
		if (alnum && len < PL_NORMAL_MAX - 1)
			word[len++] = (char)tolower(c);
	}
	ret[n] = '\0';
}

bool pl_normal_in(const char *normal, const char *list, const char *const *drop)
{
	char word[PL_NORMAL_MAX], n[PL_NORMAL_MAX];
	while (*list) {
		size_t len = strcspn(list, " ");
		if (len && len < sizeof word) {
			memcpy(word, list, len);
			word[len] = '\0';
			pl_normal(word, drop, n);
			if (!strcmp(n, normal))
				return true;
		}
		list += len + (list[len] == ' ');
	}
	return false;
}

int pl_edit_distance(const char *a, const char *b)
{
	int rows[3][PL_NORMAL_MAX + 1], n = (int)strlen(a), m = (int)strlen(b);
	if (n >= PL_NORMAL_MAX || m >= PL_NORMAL_MAX)
		return PL_NORMAL_MAX;
	for (int j = 0; j <= m; j++)
		rows[0][j] = j;
	for (int i = 1; i <= n; i++) {
		int *now = rows[i % 3], *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
		now[0] = i;
		for (int j = 1; j <= m; j++) {
			int best = last[j - 1] + (a[i - 1] != b[j - 1]);
			best = last[j] + 1 < best ? last[j] + 1 : best;
			best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			now[j] = best;
		}
	}
	return rows[n % 3][m];
}

void pl_near_add(struct pl_near *near, const char *name, int distance)
{
	for (int i = 0; i < 3; i++) {
		if (near->name[i] && near->distance[i] <= distance)
			continue;
		for (int j = 2; j > i; j--) {
			near->name[j] = near->name[j - 1];
			near->distance[j] = near->distance[j - 1];
		}
		near->name[i] = name;
		near->distance[i] = distance;
		return;
	}
}

int pl_near_fail(const struct pl_near *near, const char *kind, const char *asked, struct pl_err *err)
{
	if (!near->name[0])
		return pl_fail(err, PL_ERR_UNKNOWN_NAME, asked, "no %s is called '%.80s'", kind, asked);
	if (!near->name[1])
		return pl_fail(err, PL_ERR_UNKNOWN_NAME, asked, "no %s is called '%.80s'; did you mean %s?", kind, asked, near->name[0]);
	return pl_fail(err, PL_ERR_UNKNOWN_NAME, asked, "no %s is called '%.80s'; near are %s, %s%s%s", kind, asked,
	               near->name[0], near->name[1], near->name[2] ? ", " : "", near->name[2] ? near->name[2] : "");
}

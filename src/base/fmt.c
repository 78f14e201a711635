#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/fmt.h"

const char *pl_fmt_sig3(char *buf, double value)
{
	double size = fabs(value);
	int decimals = 0;
	if (!isfinite(value)) {
		(void)snprintf(buf, PL_FMT_MAX, "?");
		return buf;
	}
	if (size > 0 && size < 1e-12)
		size = 0;
	/* 99.95 prints as "100", not "100.0": decide on the rounded value */
	if (size >= 99.95 || size == 0)
		decimals = 0;
	else if (size >= 9.995)
		decimals = 1;
	else
		for (decimals = 2; size < 0.9995 && decimals < 14; decimals++)
			size *= 10;
	(void)snprintf(buf, PL_FMT_MAX, "%.*f", decimals, value);
	return buf;
}

static const char *scaled(char *buf, double value, double step, const char *const *units, int n_units)
{
	char number[PL_FMT_MAX];
	int unit = 0;
	while (unit < n_units - 1 && value >= step * 0.9995) {
		value /= step;
		unit++;
	}
	if (unit == 0)
		(void)snprintf(number, sizeof number, "%.0f", value);
	else
		(void)pl_fmt_sig3(number, value);
	(void)snprintf(buf, PL_FMT_MAX, "%.20s%s%s", number, *units[unit] ? " " : "", units[unit]);
	return buf;
}

const char *pl_fmt_bytes(char *buf, uint64_t bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	return scaled(buf, (double)bytes, 1024.0, units, 7);
}

const char *pl_fmt_count(char *buf, uint64_t n)
{
	static const char *const units[] = {"", "k", "M", "B", "T"};
	return scaled(buf, (double)n, 1000.0, units, 5);
}

const char *pl_fmt_bandwidth(char *buf, double bytes_per_s)
{
	static const char *const units[] = {"B/s", "kB/s", "MB/s", "GB/s", "TB/s"};
	if (!isfinite(bytes_per_s) || bytes_per_s < 0) {
		(void)snprintf(buf, PL_FMT_MAX, "?");
		return buf;
	}
	return scaled(buf, bytes_per_s, 1000.0, units, 5);
}

const char *pl_fmt_percent(char *buf, double frac)
{
	char number[PL_FMT_MAX];
	(void)snprintf(buf, PL_FMT_MAX, "%.24s %%", pl_fmt_sig3(number, frac * 100));
	return buf;
}

const char *pl_fmt_grouped(char *buf, uint64_t n)
{
	char digits[24];
	int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
	char *out = buf;
	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			*out++ = ',';
		*out++ = digits[i];
	}
	*out = '\0';
	return buf;
}

/* Decodes one code point; invalid bytes count as one column each. */
static size_t decode(const char *s, uint32_t *ret)
{
	const unsigned char *p = (const unsigned char *)s;
	static const unsigned char lead[] = {0, 0, 0x1f, 0x0f, 0x07};
	size_t n = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc0 ? 2 : 1;
	uint32_t c = n == 1 ? p[0] : p[0] & lead[n];
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80) {
			*ret = p[0];
			return 1;
		}
		c = c << 6 | (p[i] & 0x3fu);
	}
	*ret = c;
	return n;
}

/* Unicode Standard Annex 11: the wide blocks that occur in our texts (CJK, Kana, Hangul, full-width forms, emoji). */
static int columns_of(uint32_t c)
{
	static const struct {
		uint32_t first, last;
	} wide[] = {{0x1100, 0x115f}, {0x2e80, 0x303e}, {0x3041, 0xa4cf}, {0xac00, 0xd7a3}, {0xf900, 0xfaff},
	            {0xfe30, 0xfe6f}, {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1faff}, {0x20000, 0x3fffd}};
	if ((c >= 0x300 && c <= 0x36f) || c == 0x200b || c == 0xfe0f)
		return 0;
	for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
		if (c >= wide[i].first && c <= wide[i].last)
			return 2;
	return 1;
}

size_t pl_text_fit(const char *utf8, int columns)
{
	size_t at = 0;
	while (utf8[at]) {
		uint32_t c;
		size_t n = decode(utf8 + at, &c);
		columns -= columns_of(c);
		if (columns < 0)
			break;
		at += n;
	}
	return at;
}

int pl_text_columns(const char *utf8)
{
	int columns = 0;
	while (*utf8) {
		uint32_t c;
		utf8 += decode(utf8, &c);
		columns += columns_of(c);
	}
	return columns;
}

/* A line may break before an ideograph or an opening bracket (U+FF08), but not between the two. */
static bool breaks_before(const char *utf8, size_t at)
{
	static const char bracket[] = "\xef\xbc\x88";
	unsigned char c = (unsigned char)utf8[at];
	if (c >= 0xe4 && c <= 0xe9)
		return at < 3 || memcmp(utf8 + at - 3, bracket, 3) != 0;
	return !strncmp(utf8 + at, bracket, 3);
}

size_t pl_text_line(const char *utf8, int columns)
{
	size_t fits = pl_text_fit(utf8, columns), cut = fits;
	if (!utf8[fits])
		return fits;
	while (cut && utf8[cut] != ' ' && !breaks_before(utf8, cut))
		cut--;
	return cut ? cut : fits;
}

int pl_text_width(const char *utf8, int columns)
{
	return columns + (int)strlen(utf8) - pl_text_columns(utf8);
}

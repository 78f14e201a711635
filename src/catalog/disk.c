/* What weights are read from: "nvme4", "sata", "hdd", "3.2GB/s". Classes are rows of data/links.csv. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <plimsoll/hardware.h>

static const char *const classes[][2] = {{"nvme3", "nvme-g3x4"}, {"nvme4", "nvme-g4x4"}, {"nvme5", "nvme-g5x4"}, {"sata", "sata3-ssd"},
                                         {"hdd", "hdd-7200"},    {"nfs10g", "nfs-10g"},  {"usb", "usb32g2"}};

/* A link's own row: what it reaches where somebody measured it. */
static double rate_of(const char *id)
{
	uint32_t n;
	const struct pl_link *links = pl_catalog_links(&n);
	for (uint32_t i = 0; i < n; i++)
		if (!strcmp(links[i].id, id))
			return isnan(links[i].practical_bytes_per_s) ? links[i].bytes_per_s : links[i].practical_bytes_per_s;
	return 0;
}

int pl_disk_find(const char *word, double *ret_bytes_per_s, struct pl_err *err)
{
	char *end;
	double n = strtod(word, &end), unit = 0;
	while (*end == ' ')
		end++;
	if (end != word)
		unit = !strcasecmp(end, "gb/s") ? 1e9 : !strcasecmp(end, "mb/s") ? 1e6 : 0;
	*ret_bytes_per_s = n * unit;
	for (size_t i = 0; i < sizeof classes / sizeof *classes && !(unit > 0); i++)
		if (!strcasecmp(word, classes[i][0]))
			*ret_bytes_per_s = rate_of(classes[i][1]);
	if (*ret_bytes_per_s >= 1e6 && *ret_bytes_per_s <= 1e12)
		return 0;
	return pl_fail(err, PL_ERR_FORMAT, "disk", "'%.40s' is no disk: nvme3, nvme4, nvme5, sata, hdd, nfs10g, usb, or a rate such as 3.2GB/s", word);
}

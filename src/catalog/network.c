/* The ports of catalogued machines: "8x400G NDR". */
#include <ctype.h>
#include <stdlib.h>

#include "catalog/machine.h"

/* Of what a port's signalling rate gives, RDMA leaves 93 % (data/links.csv: InfiniBand EDR and HDR, measured). */
static const double reached_frac = 0.93;

/* The first "NxMG" of a machine's ports, the fewer of "4-8x400G"; Gbit/s. 0: not said so. */
double pl_nic_bytes_per_s(const char *nic)
{
	for (const char *at = nic; at && *at; at++) {
		char *end;
		if (!isdigit((unsigned char)*at) || (at > nic && isdigit((unsigned char)at[-1])))
			continue;
		double n = strtod(at, &end);
		if (*end == '-')
			(void)strtod(end + 1, &end);
		if (*end != 'x')
			continue;
		double gbit = strtod(end + 1, &end);
		if (*end == 'G' && gbit > 0)
			return n * gbit * 1e9 / 8 * reached_frac;
	}
	return 0;
}

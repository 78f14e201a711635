/* Sizes as people write them, shared by the hardware line and the YAML file. */
#ifndef PLIMSOLL_CATALOG_MACHINE_H
#define PLIMSOLL_CATALOG_MACHINE_H

#include <stdint.h>

#include <plimsoll/error.h>

/* "64GiB", "24105MiB", "1.5 TiB": 1 MiB to 64 TiB. "GB" means GiB, as on memory labels. */
int pl_size_parse(const char *text, const char *where, uint64_t *ret_bytes, struct pl_err *err) PL_MUST_CHECK;

/* catalog/network.c: a catalogued machine's ports, bytes a second of one host; 0 not known. */
double pl_nic_bytes_per_s(const char *nic);

#endif

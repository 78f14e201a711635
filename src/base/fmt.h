/* Numbers and text for people: three significant digits and a unit; columns that hold in Chinese too. */
#ifndef PLIMSOLL_BASE_FMT_H
#define PLIMSOLL_BASE_FMT_H

#include <stddef.h>
#include <stdint.h>

enum { PL_FMT_MAX = 32 };

/* Each writes a short text into buf (at least PL_FMT_MAX bytes) and returns buf. */
const char *pl_fmt_bytes(char *buf, uint64_t bytes);     /* "12.3 GiB", "512 B" */
const char *pl_fmt_count(char *buf, uint64_t n);         /* "32.8 B", "7.62 M", "999" */
const char *pl_fmt_percent(char *buf, double frac);      /* "-12.3 %" */
const char *pl_fmt_sig3(char *buf, double value);        /* three significant digits: "1230", "12.3", "0.00123" */
const char *pl_fmt_grouped(char *buf, uint64_t n);       /* "131,072" */
/* Vendor bandwidth in decimal units: "4.80 TB/s", "936 GB/s". */
const char *pl_fmt_bandwidth(char *buf, double bytes_per_s);

/* Columns a UTF-8 string takes in a terminal: East Asian wide characters count two, combining marks none. */
int pl_text_columns(const char *utf8);
/* Bytes of the longest beginning of utf8 that takes at most columns. */
size_t pl_text_fit(const char *utf8, int columns);
/* Bytes of the first line of a text broken before columns: between words, or before a Chinese character; a longer word is cut. */
size_t pl_text_line(const char *utf8, int columns);
/* The width for printf's %*s, which counts bytes, that pads utf8 to so many columns. */
int pl_text_width(const char *utf8, int columns);

#endif

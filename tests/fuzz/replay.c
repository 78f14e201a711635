/* Runs a fuzz target without libFuzzer: every file of the corpus, then mutations of them by a fixed generator, so that the same
 * build does the same work on every machine.
 * usage: replay ROUNDS CORPUS-FOLDER */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

enum { MAX_FILES = 512, MAX_BYTES = 1 << 20 };

static struct {
	uint8_t *data;
	size_t size;
} files[MAX_FILES];
static int n_files;

static uint64_t state = UINT64_C(0x9e3779b97f4a7c15);

static uint64_t next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void read_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	if (!f || n_files == MAX_FILES)
		return;
	files[n_files].data = malloc(MAX_BYTES);
	files[n_files].size = files[n_files].data ? fread(files[n_files].data, 1, MAX_BYTES, f) : 0;
	n_files++;
	(void)fclose(f);
}

static size_t mutate(uint8_t *buf, size_t n)
{
	static const uint64_t numbers[] = {0, 1, 0x7f, 0xff, 0x7fff, 0xffffffff, 0x7fffffffffffffff, 0x8000000000000000, UINT64_MAX};
	for (unsigned k = 1 + next() % 4; k && n; k--) {
		size_t at = next() % n;
		switch (next() % 5) {
		case 0:
			buf[at] = (uint8_t)next();
			break;
		case 1:
			buf[at] ^= (uint8_t)(1u << next() % 8);
			break;
		case 2: { /* a number where a length may stand */
			uint64_t v = numbers[next() % (sizeof numbers / sizeof *numbers)];
			memcpy(buf + at, &v, n - at < 8 ? n - at : 8);
			break;
		}
		case 3:
			n = at; /* cut */
			break;
		default: { /* copy a piece over another */
			size_t from = next() % n, len = next() % 32;
			if (from + len <= n && at + len <= n)
				memmove(buf + at, buf + from, len);
		}
		}
	}
	return n;
}

int main(int argc, char **argv)
{
	char path[4096];
	DIR *dir = argc == 3 ? opendir(argv[2]) : NULL;
	if (!dir)
		return 2;
	for (struct dirent *e; (e = readdir(dir));)
		if (e->d_name[0] != '.' && snprintf(path, sizeof path, "%s/%s", argv[2], e->d_name) < (int)sizeof path)
			read_file(path);
	(void)closedir(dir);
	for (int i = 0; i < n_files; i++)
		(void)LLVMFuzzerTestOneInput(files[i].data, files[i].size);
	long rounds = atol(argv[1]);
	for (long r = 0; r < rounds && n_files; r++) {
		int i = (int)(next() % (uint64_t)n_files);
		uint8_t *copy = malloc(files[i].size + 1); /* exact size, so that a read past the end is seen */
		if (!copy)
			return 1;
		memcpy(copy, files[i].data, files[i].size);
		size_t n = mutate(copy, files[i].size);
		uint8_t *tight = realloc(copy, n ? n : 1);
		(void)LLVMFuzzerTestOneInput(tight, n);
		free(tight);
	}
	printf("%d files, %ld mutations\n", n_files, rounds);
	for (int i = 0; i < n_files; i++)
		free(files[i].data);
	return n_files ? 0 : 1;
}

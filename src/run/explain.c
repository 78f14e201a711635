/* Logs of engines that did not come up: which line tells why. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run/run.h"

enum { MAX_TAIL = 1 << 18 };

/* In order: the first kind that a line of the log tells of wins, so causes stand before their consequences. */
static const struct {
	enum pl_start_fault fault;
	const char *words;
} signs[] = {
    {PL_START_PORT_TAKEN, "address already in use"},
    {PL_START_PORT_TAKEN, "couldn't bind"},
    {PL_START_PORT_TAKEN, "could not bind"},
    {PL_START_DISK_FULL, "no space left on device"},
    {PL_START_NO_DEVICE_MEMORY, "cuda out of memory"},
    {PL_START_NO_DEVICE_MEMORY, "hip out of memory"},
    {PL_START_NO_DEVICE_MEMORY, "torch.outofmemoryerror"},
    {PL_START_NO_DEVICE_MEMORY, "cudamalloc failed"},
    {PL_START_NO_DEVICE_MEMORY, "erroroutofdevicememory"},
    {PL_START_NO_DEVICE_MEMORY, "failed to allocate compute"},
    {PL_START_NO_DEVICE_MEMORY, "failed to allocate buffer for kv cache"},
    {PL_START_NO_DEVICE_MEMORY, "unable to allocate cuda"},
    {PL_START_NO_DEVICE_MEMORY, "no available memory for the cache blocks"},
    {PL_START_NO_DEVICE_MEMORY, "larger than the available kv cache memory"},
    {PL_START_NO_DEVICE_MEMORY, "is less than desired gpu memory utilization"},
    {PL_START_NO_DEVICE_MEMORY, "not enough memory. please try to increase --mem-fraction-static"},
    {PL_START_NO_HOST_MEMORY, "cannot allocate memory"},
    {PL_START_NO_HOST_MEMORY, "std::bad_alloc"},
    {PL_START_NO_HOST_MEMORY, "failed to allocate cpu buffer"},
    {PL_START_NO_HOST_MEMORY, "unable to allocate cpu"},
    {PL_START_DRIVER, "cuda driver version is insufficient"},
    {PL_START_DRIVER, "no kernel image is available"},
    {PL_START_DRIVER, "found no nvidia driver"},
    {PL_START_DRIVER, "the nvidia driver on your system is too old"},
    {PL_START_UNSUPPORTED, "unknown model architecture"},
    {PL_START_UNSUPPORTED, "are not supported for now"},
    {PL_START_UNSUPPORTED, "invalid argument:"},
    {PL_START_UNSUPPORTED, "unrecognized arguments"},
    {PL_START_UNSUPPORTED, "unsupported"},
    {PL_START_UNSUPPORTED, "not supported"},
    {PL_START_NO_FILE, "no such file or directory"},
    {PL_START_NO_FILE, "failed to open gguf file"},
    {PL_START_NO_FILE, "is not a local folder and is not a valid model identifier"},
    {PL_START_NO_FILE, "repository not found"},
};

const char *pl_start_fault_text(enum pl_start_fault f)
{
	switch (f) {
	case PL_START_NO_DEVICE_MEMORY:
		return pl_tr("the memory of a GPU was not enough");
	case PL_START_NO_HOST_MEMORY:
		return pl_tr("RAM was not enough");
	case PL_START_KILLED:
		return pl_tr("it was killed: most often by the kernel, when RAM runs out");
	case PL_START_PORT_TAKEN:
		return pl_tr("another program holds the port");
	case PL_START_UNSUPPORTED:
		return pl_tr("the engine does not know this model, type or flag");
	case PL_START_NO_FILE:
		return pl_tr("the model was not found");
	case PL_START_DRIVER:
		return pl_tr("the GPU's driver does not suit the engine");
	case PL_START_DISK_FULL:
		return pl_tr("the disk is full");
	case PL_START_TIMEOUT:
		return pl_tr("it did not answer in time");
	default:
		return pl_tr("it ended by itself");
	}
}

/* The end of the log; logs of hours are long. */
static char *tail(struct pl_arena *a, const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *buf = fd < 0 ? NULL : pl_arena_alloc(a, MAX_TAIL + 1);
	if (buf && !fstat(fd, &st)) {
		off_t from = st.st_size > MAX_TAIL ? st.st_size - MAX_TAIL : 0;
		ssize_t n = pread(fd, buf, MAX_TAIL, from);
		buf[n > 0 ? n : 0] = '\0';
		for (char *p = buf; p < buf + (n > 0 ? n : 0); p++)
			if (!*p || (*p < 32 && *p != '\n' && *p != '\t' && *p > 0))
				*p = ' ';
	}
	if (fd >= 0)
		(void)close(fd);
	return buf;
}

static const char *line_around(struct pl_arena *a, const char *text, const char *at)
{
	const char *start = at;
	while (start > text && start[-1] != '\n')
		start--;
	size_t n = strcspn(start, "\n");
	return pl_arena_strndup(a, start, n < 300 ? n : 300);
}

const char *pl_log_last_line(struct pl_arena *a, const char *path)
{
	char *text = tail(a, path);
	size_t n = text ? strlen(text) : 0;
	while (n && (text[n - 1] == '\n' || text[n - 1] == ' '))
		text[--n] = '\0';
	return n ? line_around(a, text, text + n) : "";
}

enum pl_start_fault pl_log_explain(struct pl_arena *a, const char *path, const char **ret_line)
{
	char *text = tail(a, path);
	for (size_t i = 0; text && i < sizeof signs / sizeof *signs; i++) {
		const char *at = strcasestr(text, signs[i].words);
		if (at) {
			*ret_line = line_around(a, text, at);
			return signs[i].fault;
		}
	}
	*ret_line = pl_log_last_line(a, path);
	return PL_START_UNKNOWN;
}

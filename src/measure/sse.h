/* Server-sent events of a streamed completion, as bytes arrive. */
#ifndef PLIMSOLL_MEASURE_SSE_H
#define PLIMSOLL_MEASURE_SSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pl_sse_event {
	PL_SSE_NOTHING = 0, /* role, comment, empty delta */
	PL_SSE_TOKEN,       /* text came */
	PL_SSE_DONE         /* [DONE] */
};

struct pl_sse {
	char *line;       /* the unfinished line */
	size_t len, cap;
	uint64_t n_bytes; /* taken in */
	uint32_t n_tokens; /* events with text */
	uint32_t usage_prompt, usage_output; /* as the server counted; 0 unknown */
	bool done, garbage;
	char error[160];  /* the server's own words inside the stream */
};
/* Takes bytes in; on_event is called for every event with text, and at the end. False: this is no such stream. */
bool pl_sse_take(struct pl_sse *s, const char *data, size_t n, void (*on_event)(void *user, enum pl_sse_event e), void *user);
/* Nothing more comes: a refusal without a line's end is read for its words. */
void pl_sse_end(struct pl_sse *s);
void pl_sse_release(struct pl_sse *s);

#endif

/* What an engine's own log says it allocated. */
#ifndef PLIMSOLL_ENGINE_LOG_H
#define PLIMSOLL_ENGINE_LOG_H

#include <plimsoll/engine.h>

/* Appends or finds the buffers of a device by the engine's name for it ("CUDA0", "CPU"); NULL when the table is full. */
struct pl_log_buffer *pl_log_buffer(struct pl_engine_log *log, const char *name);

void pl_log_read_llamacpp(const char *text, size_t len, struct pl_engine_log *ret);
void pl_log_read_vllm(const char *text, size_t len, struct pl_engine_log *ret);
void pl_log_read_sglang(const char *text, size_t len, struct pl_engine_log *ret);

#endif

/* Shared inside the room. */
#ifndef PLIMSOLL_SERVE_ROOM_H
#define PLIMSOLL_SERVE_ROOM_H

#include <plimsoll/serve.h>

#include "speed/speed.h"

/* The interval of a class around a median. */
struct pl_estimate pl_serve_within(const struct pl_speed *s, enum pl_answer_class c, double median);
/* Batches beside each other when so many clients ask: replicas, and stages of a pipeline, which hold a batch each. Fewer clients
 * leave the others without work. */
double pl_serve_lanes(const struct pl_speed *s, double clients);

#endif

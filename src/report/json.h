/* Values of reports in JSON: what JSON cannot hold has one form everywhere. */
#ifndef PLIMSOLL_REPORT_JSON_H
#define PLIMSOLL_REPORT_JSON_H

#include <stdint.h>

#include <jansson.h>

#include <plimsoll/opt.h>

/* JSON integers are signed: sizes above 2^63 (the "larger than any machine" value) become the largest integer. */
json_t *rj_size(uint64_t n);
json_t *rj_opt(struct pl_opt_u64 v);
/* NAN and infinity: null. */
json_t *rj_real(double n);
/* None or an empty one: null. One that is no UTF-8: "?". */
json_t *rj_text(const char *s);
void rj_put(json_t *object, const char *key, json_t *value);

#endif

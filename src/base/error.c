#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <plimsoll/error.h>

static const char *identity(const char *msgid)
{
	return msgid;
}

static const char *(*translator)(const char *msgid) = identity;

void pl_set_translator(const char *(*translate)(const char *msgid))
{
	translator = translate ? translate : identity;
}

const char *pl_tr(const char *msgid)
{
	return translator(msgid);
}

int(pl_fail)(struct pl_err *err, enum pl_err_code code, const char *where, const char *fmt, ...)
{
	if (err) {
		va_list ap;
		err->code = code;
		(void)snprintf(err->where, sizeof err->where, "%s", where ? where : "");
		va_start(ap, fmt);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		(void)vsnprintf(err->msg, sizeof err->msg, translator(fmt), ap);
#pragma GCC diagnostic pop
		va_end(ap);
	}
	return -(int)code;
}

static const struct {
	const char *name;
	int exit_code;
	const char *text;
} codes[PL_ERR_COUNT] = {
    [PL_OK] = {"OK", 0, "no error"},
#define X(name, exit_code, text) [PL_ERR_##name] = {#name, exit_code, text},
    PL_ERR_MAP(X)
#undef X
};

static enum pl_err_code clamp(enum pl_err_code code)
{
	return (unsigned)code < PL_ERR_COUNT ? code : PL_ERR_INTERNAL;
}

const char *pl_err_name(enum pl_err_code code)
{
	return codes[clamp(code)].name;
}

const char *pl_err_text(enum pl_err_code code)
{
	return translator(codes[clamp(code)].text);
}

int pl_err_exit_code(enum pl_err_code code)
{
	return codes[clamp(code)].exit_code;
}

#include <curses.h>
#include <stdlib.h>
#include <unistd.h>

#include "tui/watch.h"

enum { MAX_LINES = 512 };

static void draw(const struct pl_watch_view *v)
{
	const char *lines[MAX_LINES];
	struct pl_arena *a = pl_arena_new(0);
	int rows = LINES > 1 ? LINES - 1 : 1;
	if (!a)
		return;
	uint32_t n = pl_watch_lines(a, v, rows < MAX_LINES ? rows : MAX_LINES, COLS, lines);
	(void)erase();
	for (uint32_t i = 0; i < n; i++)
		(void)mvaddstr((int)i, 0, lines[i]);
	if (LINES > 1)
		(void)mvaddstr(LINES - 1, 0, pl_tr("q ends the view, not the engine"));
	(void)refresh();
	pl_arena_free(a);
}

int pl_watch_run(struct pl_sampler *s, struct pl_watch_view *v, double interval_s, struct pl_err *err)
{
	struct pl_sample now;
	if (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO))
		return pl_fail(err, PL_ERR_ENVIRONMENT, "watch", "needs a terminal; --once prints one sample, --json for programs");
	SCREEN *screen = newterm(NULL, stdout, stdin);
	if (!screen)
		return pl_fail(err, PL_ERR_ENVIRONMENT, "TERM", "this terminal is not known: TERM=%s", getenv("TERM") ? getenv("TERM") : "");
	(void)cbreak();
	(void)noecho();
	(void)curs_set(0);
	timeout((int)(interval_s * 1000));
	for (int key = 0; key != 'q' && key != 3 && key != 27;) {
		pl_sampler_take(s, &now);
		pl_watch_add(v, &now);
		draw(v);
		key = getch(); /* also the wait until the next sample; a changed size comes as a key */
	}
	(void)endwin();
	delscreen(screen);
	return 0;
}

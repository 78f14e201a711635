#!/bin/sh
# Refreshes po/plimsoll.pot and po/zh_CN.po from the sources; with a folder, writes the refreshed files there instead.
set -eu
cd "$(dirname "$0")/.."
to=${1:-po}
list=$(mktemp)
trap 'rm -f "$list"' EXIT
find src include -name '*.[ch]' -o -name '*.def' | LC_ALL=C sort >"$list"
# Each function that translates its format stands here; the texts of the option table are its last column.
xgettext --language=C --from-code=UTF-8 --sort-output --no-location --package-name=plimsoll \
	--keyword=_ --keyword=pl_tr --keyword=PL_N_ --keyword=pl_fail:4 --keyword=pl_note_add:4 --keyword=pl_hf_fail:2 \
	--keyword=pl_say:2 --keyword=pl_refuse:2 --keyword=pl_remark:3 --keyword=pl_vrow_reason:2 --keyword=pl_vrow_flag:3 \
	--keyword=X:8 -o "$to/plimsoll.pot" --files-from="$list" 2>/dev/null
sed -i '/POT-Creation-Date/d' "$to/plimsoll.pot"
[ -f po/zh_CN.po ] || msginit --no-translator --locale=zh_CN.UTF-8 -i "$to/plimsoll.pot" -o po/zh_CN.po
[ "$to" = po ] || cp po/zh_CN.po "$to/zh_CN.po"
msgmerge --quiet --update --backup=none --no-fuzzy-matching "$to/zh_CN.po" "$to/plimsoll.pot" 2>/dev/null
msgattrib --no-obsolete "$to/zh_CN.po" -o "$to/zh_CN.po" 2>/dev/null

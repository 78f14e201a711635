#!/bin/sh
# Refreshes po/plimsoll.pot and po/zh_CN.po from the sources.
set -eu
cd "$(dirname "$0")/.."
find src include -name '*.[ch]' -o -name '*.def' | LC_ALL=C sort >po/POTFILES
# the texts of the option table are its last column
xgettext --language=C --from-code=UTF-8 --sort-output --no-location --package-name=plimsoll \
	--keyword=_ --keyword=pl_tr --keyword=PL_N_ --keyword=pl_fail:4 --keyword=pl_note_add:4 --keyword=pl_cfg_fail:2 --keyword=bad:3 \
	--keyword=X:8 -o po/plimsoll.pot --files-from=po/POTFILES
sed -i '/POT-Creation-Date/d' po/plimsoll.pot
[ -f po/zh_CN.po ] || msginit --no-translator --locale=zh_CN.UTF-8 -i po/plimsoll.pot -o po/zh_CN.po
msgmerge --quiet --update --backup=none --no-fuzzy-matching po/zh_CN.po po/plimsoll.pot
rm po/POTFILES

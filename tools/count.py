#!/usr/bin/env python3
"""Adds the results of meson's test logs: what was skipped with its reason, then "N passed, N failed".

usage: count.py TESTLOG.json…
"""
import json
import sys

passed = failed = 0
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as log:
        for line in log:
            test = json.loads(line)
            if test["result"] in ("OK", "EXPECTEDFAIL"):
                passed += 1
            elif test["result"] == "SKIP":
                said = (test.get("stderr") or test.get("stdout") or "").strip().splitlines()
                print(f"skipped: {test['name']}: {said[-1] if said else 'no reason given'}")
            else:
                failed += 1
                print(f"failed: {test['name']} ({path})")
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed or not passed else 0)

#!/usr/bin/env python3
"""usage: transactions.py DIRECTORY COUNT   So many transactions of SQLite, each durable (journal_mode=DELETE,
synchronous=FULL), each one row of a table with an index. Prints a line of JSON like bench_mount."""
import json
import os
import sqlite3
import sys
import time


def main(directory, count):
    path = os.path.join(directory, "transactions.sqlite")
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("pragma journal_mode=DELETE")
    db.execute("pragma synchronous=FULL")
    db.execute("create table t(id integer primary key, k int, v text)")
    db.execute("create index i on t(k)")
    before = time.monotonic()
    for n in range(count):
        db.execute("insert into t(k, v) values(?, ?)", (n * 7919 % 1000, "x" * 100))
    seconds = time.monotonic() - before
    good = db.execute("pragma integrity_check").fetchone()[0] == "ok" and \
        db.execute("select count(*) from t").fetchone()[0] == count
    db.close()
    print(json.dumps({"command": "transactions", "ops": count, "bytes": 0, "seconds": seconds, "errors": 0 if good else 1,
                      "first_error": "" if good else "the database is damaged"}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

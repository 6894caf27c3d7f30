#!/usr/bin/env python3
"""Reads metrics in the text format of Prometheus (0.0.4) from standard input, strictly; prints how many samples there
are, or what is wrong. Beyond the format: units in names, one unit of time, counters that never go back when two texts
are given as files."""
import math
import re
import sys

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)?\}})? (\S+)$")


class Bad(Exception):
    pass


def need(good, line, why):
    if not good:
        raise Bad(f"line {line}: {why}")


def value_of(text, line):
    if text in ("+Inf", "-Inf", "NaN"):
        return float(text.replace("Inf", "inf"))
    need(re.fullmatch(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", text), line, f"'{text}' is not a number")
    return float(text)


def base_of(name, types):
    """The name that TYPE has told: that of a histogram's parts is in front of the suffix."""
    for suffix in ("_bucket", "_sum", "_count"):
        if name.endswith(suffix) and types.get(name[: -len(suffix)]) == "histogram":
            return name[: -len(suffix)]
    return name


def read(text):
    """{(name, labels): value}, in order, and {name: type}."""
    helps, types, samples, seen, current = set(), {}, {}, [], None
    need(text == "" or text.endswith("\n"), "last", "does not end with a newline")
    for nr, line in enumerate(text.split("\n")[:-1], 1):
        if line.startswith("#"):
            m = re.fullmatch(rf"# HELP ({NAME}) (\S.*)|# TYPE ({NAME}) (counter|gauge|histogram|summary|untyped)", line)
            need(m, nr, f"neither HELP nor TYPE: {line}")
            name = m.group(1) or m.group(3)
            if m.group(1):
                need(name not in helps, nr, f"a second HELP of {name}")
                need(name not in types, nr, f"HELP of {name} behind its TYPE")
                need(not re.search(r"\\(?![\\n])", m.group(2)), nr, "a bad escape in HELP")
                helps.add(name)
            else:
                need(name not in types, nr, f"a second TYPE of {name}")
                types[name] = m.group(4)
            continue
        m = SAMPLE.fullmatch(line)
        need(m, nr, f"not a sample: {line}")
        name, inside = m.group(1), m.group(2) or ""
        labels = re.findall(LABEL, inside)
        need(len({k for k, _ in labels}) == len(labels), nr, "a label twice")
        base = base_of(name, types)
        need(base in types and base in helps, nr, f"{name} without HELP and TYPE in front of it")
        if base != current:
            need(base not in seen, nr, f"the lines of {base} do not stand together")
            seen.append(base)
            current = base
        key = (name, tuple(sorted(labels)))
        need(key not in samples, nr, f"{name} twice with the same labels")
        samples[key] = value_of(m.groups()[-1], nr)
    for name in types:
        need(name in seen, "last", f"{name} has no sample")
    return samples, types


def check_names(types):
    for name, kind in types.items():
        need(name.startswith("opendfs_"), name, "does not begin with opendfs_")
        need((kind == "counter") == name.endswith("_total"), name, f"a {kind} of this name")
        need(not re.search(r"_(ns|ms|us|time|millis|kb|mb)(_|$)", name), name, "not in seconds or bytes")
        need(kind != "histogram" or name.endswith("_seconds"), name, "a histogram without a unit")


def check_values(samples, types):
    groups = {}
    for (name, labels), value in samples.items():
        base = base_of(name, types)
        if types[base] == "counter":
            need(value >= 0, name, f"a counter of {value}")
        if types[base] == "histogram":
            rest = tuple(kv for kv in labels if kv[0] != "le")
            group = groups.setdefault((base, rest), {"buckets": []})
            if name == base + "_bucket":
                le = dict(labels).get("le")
                need(le is not None, name, "a bucket without le")
                group["buckets"].append((float(le.replace("Inf", "inf")), value))
            else:
                group[name[len(base) + 1:]] = value
    for (base, _), group in groups.items():
        buckets = group["buckets"]
        need("sum" in group and "count" in group, base, "no _sum or no _count")
        need(buckets and buckets[-1][0] == math.inf, base, "the last bucket is not +Inf")
        need([b[0] for b in buckets] == sorted({b[0] for b in buckets}), base, "buckets not in order")
        need([b[1] for b in buckets] == sorted(b[1] for b in buckets), base, "buckets do not add up")
        need(buckets[-1][1] == group["count"], base, "_count is not that of +Inf")
        need(group["count"] > 0 or group["sum"] == 0, base, "a sum of nothing")


def check_later(before, after, types):
    for key, value in before.items():
        name = base_of(key[0], types)
        if types[name] != "gauge" and key in after:
            need(after[key] >= value, key[0], "went back")


try:
    texts = [open(path, encoding="utf-8").read() for path in sys.argv[1:]] or [sys.stdin.read()]
    parsed, all_types = [], {}
    for text in texts:
        samples, types = read(text)
        all_types.update(types)
        check_names(types)
        check_values(samples, types)
        parsed.append(samples)
    for before, after in zip(parsed, parsed[1:]):
        check_later(before, after, all_types)
    print(f"{len(parsed[-1])} samples")
except Bad as e:
    print(f"metrics_check: {e}")
    sys.exit(1)

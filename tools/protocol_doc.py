#!/usr/bin/env python3
"""Write doc/protocol.md from the tables in src/proto/*.def.
usage: protocol_doc.py [--check] [ROOT]      --check: fail when the file is not what it should be"""
import pathlib
import re
import sys

FILES = ["types", "common", "meta", "session", "data", "node", "admin"]
TITLES = {
    "types": "Shared records",
    "common": "Any two processes",
    "meta": "Client and metadata: the namespace",
    "session": "Client and metadata: sessions, leases, pushes",
    "data": "Clients and members of chains",
    "node": "Data nodes and metadata servers",
    "admin": "Administration",
}
INTRO = """# Wire protocol

Made by `tools/protocol_doc.py` from the tables in `src/proto/*.def`; change those, then run it.

Every message travels in a frame (`src/wire/frame.h`): a header of 40 bytes, an encoded body, raw data
bytes. All numbers are little-endian. A **call** is a request that gets one response; a **push** is a
one-way message. A response with an error status has the body [failure](#failure).

| kind | encoding |
|---|---|
| u8 u16 u32 u64 i32 i64 | the number |
| bool | one byte, 0 or 1 |
| uuid | 16 bytes |
| bytes(max), text(max) | u32 length, the bytes; text holds no NUL |
| name | u32 length (1 to 255), the bytes; no NUL, no slash; never absent |
| u32s(max), u64s(max) | u32 count, the numbers |
| struct R | u32 length, the fields of R |
| list(max) of R | u32 count, then per element a u32 length and the fields of R |

Fields are only ever appended. A record that ends before a field gives it and all behind it the value
zero; bytes behind the last field that the receiver knows are skipped; both on every level, so that
neighbouring versions understand each other. Lengths and counts above their limits, and counts above what
the rest of the message can hold, are refused, and so is the connection that sent them.

Roles that may send a message: {roles}.
"""


def read_defines(path):
    """-> [(comment before it, macro name, body with continuation lines joined)]"""
    found, comment, text = [], "", path.read_text()
    token = re.compile(r"/\*(.*?)\*/|#define ((?:[^\\\n]|\\\n)*)", re.S)
    at = 0
    while m := token.search(text, at):
        at = m.end()
        if m[2] is None:
            comment = clean(m[1])
            continue
        body = m[2].replace("\\\n", "\n")
        name = re.match(r"\w+", body)[0]
        found.append((comment, name, body[len(name):]))
        comment = ""
    return found


def clean(comment):
    lines = (re.sub(r"^\s*\*? ?", "", line) for line in comment.strip().splitlines())
    return " ".join(line for line in lines if line)


def escape(text):
    return text.replace("|", "\\|")


def short(tag):
    return tag.removeprefix("proto_")


def kind_text(kind, args, limits):
    limit = limits.get(args[-1], args[-1]) if args else ""
    if kind == "STRUCT":
        return f"struct [{short(args[0])}](#{short(args[0])})"
    if kind == "LIST":
        return f"list({limit}) of [{short(args[0])}](#{short(args[0])})"
    return kind.lower() + (f"({limit})" if args else "")


def fields_of(body, limits):
    rows = []
    pattern = r"X\(S, (\w+), (\w+)((?:, \w+)*)\)\s*(?:/\*(.*?)\*/)?"
    for kind, name, args, comment in re.findall(pattern, body, re.S):
        args = [a for a in args.split(", ") if a]
        rows.append((name, kind_text(kind, args, limits), clean(comment or "")))
    return rows


def table(rows):
    if not rows:
        return ["(no fields)", ""]
    out = ["| field | kind | |", "|---|---|---|"]
    return out + [f"| {name} | {kind} | {escape(text)} |" for name, kind, text in rows] + [""]


def messages_of(body):
    pattern = r'([CP])\((0x\w+), (\w+), ([\w |]+), "([^"]*)"\)'
    return re.findall(pattern, body)


def roles_text(roles):
    names = [r.strip().removeprefix("PROTO_ROLE_").lower() for r in roles.split("|")]
    return ", ".join(names)


def render(root):
    limits, records, messages, comments = {}, {}, {}, {}
    values = (root / "src/proto/values.h").read_text()
    for name, value in re.findall(r"#define (PROTO_\w+) (\d+)u", values):
        limits[name] = value
    for file in FILES:
        messages[file], records[file] = [], []
        for comment, name, body in read_defines(root / f"src/proto/{file}.def"):
            if name.endswith("_MESSAGES"):
                messages[file] += messages_of(body)
            elif name.endswith("_FIELDS"):
                tag = name.removesuffix("_FIELDS")
                records[file].append((tag, fields_of(body, limits)))
                comments[tag] = comment
    roles = re.findall(r"#define PROTO_ROLE_(\w+) (\d+)u", values)
    out = [INTRO.replace("{roles}", ", ".join(f"{r.lower()} ({n})" for r, n in roles))]
    out += ["## All messages", "", "| opcode | | name | sent by | |", "|---|---|---|---|---|"]
    for file in FILES:
        for kind, code, name, who, text in messages[file]:
            what = "call" if kind == "C" else "push"
            out.append(f"| {code} | {what} | [{name}](#{name}) | {roles_text(who)} | {escape(text)} |")
    out.append("")
    for file in FILES:
        out += [f"## {TITLES[file]}", ""]
        out += render_file(messages[file], records[file], comments)
    return "\n".join(out).rstrip() + "\n"


def render_file(messages, records, comments):
    out, parts = [], {}
    for kind, code, name, _, text in messages:
        for part in ("request", "reply") if kind == "C" else ("push",):
            parts[f"proto_{name}_{part}"] = (name, part, code, text)
    for tag, rows in records:
        name, part, code, text = parts.get(tag, (short(tag), None, None, None))
        if part in ("request", "push"):
            out += [f"### {name}", "", f"{code}: {text}.", ""]
        elif part is None:
            out += [f"### {name}", ""]
        if comments[tag] and not comments[tag].startswith("proto/"):
            out += [comments[tag], ""]
        if part is not None:
            out += [f"**{part}**", ""]
        out += table(rows)
    return out


def main():
    args = [a for a in sys.argv[1:] if a != "--check"]
    root = pathlib.Path(args[0] if args else ".")
    text, path = render(root), root / "doc/protocol.md"
    if "--check" in sys.argv:
        if not path.exists() or path.read_text() != text:
            sys.exit(f"{path} is not up to date: run tools/protocol_doc.py")
        return
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


main()

# SPDX-License-Identifier: ISC
"""Takes the English out of files: comments and string literals of C, comments of Python and shell, prose of documents."""

import io
import re
import tokenize

C_TOKEN = re.compile(r'/\*(?P<block>.*?)\*/|//(?P<line>[^\n]*)|"(?P<string>(?:\\.|[^"\\\n])*)"|\'(?:\\.|[^\'\\\n])*\'', re.S)
ESCAPE = re.compile(r'\\(?:x[0-9a-fA-F]+|[0-7]{1,3}|.)|%[-+ #0-9.*]*(?:hh|h|ll|l|z|j|t)?[a-zA-Z]|PRI[a-zA-Z0-9]+')


def of_c(text):
    """Yields (line, kind, text) of comments and strings; comments that follow each other are one."""
    held = None
    end = 0
    for match in C_TOKEN.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        comment = match["block"] if match["block"] is not None else match["line"]
        if comment is not None:
            comment = re.sub(r"(?m)^[ \t]*\*+", "", comment)
            if held and not text[end:match.start()].strip(" \t") and text[end:match.start()].count("\n") <= 1 and match["line"]:
                held[2] += "\n" + comment
            else:
                if held:
                    yield tuple(held)
                held = [line, "comment", comment]
            end = match.end()
        elif match["string"] is not None and not re.search(r"#[ \t]*include[ \t]*$", text[text.rfind("\n", 0, match.start()) + 1:match.start()]):
            yield line, "string", ESCAPE.sub(" ", match["string"])
    if held:
        yield tuple(held)


def of_python(text):
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], "comment", token.string.lstrip("#")
        elif token.type == tokenize.STRING and token.string.lstrip("rbfuRBFU").startswith('"""'):
            yield token.start[0], "comment", token.string.strip("rbfuRBFU\"")


def of_hash_comments(text):
    for number, line in enumerate(text.split("\n"), 1):
        match = re.match(r"\s*#(?!!)(.*)", line) or re.search(r"\s#\s(.*)", line)
        if match:
            yield number, "comment", match[1]


def of_document(text):
    """Prose without code: fenced and indented blocks, and `code`, are left out."""
    text = re.sub(r"(?ms)^(```|    (?=\S)|\t(?=\S)).*?(?:^```|$)", lambda m: "\n" * m[0].count("\n"), text)
    for number, line in enumerate(text.split("\n"), 1):
        yield number, "document", re.sub(r"`[^`]*`", " ", line)


def of_manual(text):
    for number, line in enumerate(text.split("\n"), 1):
        yield number, "document", line


def of_file(path, text):
    if path.endswith((".c", ".h")):
        return of_c(text)
    if path.endswith(".py"):
        return of_python(text)
    if path.endswith(".md"):
        return of_document(text)
    if path.endswith(".scd"):
        return of_manual(text)
    return of_hash_comments(text)

#!/bin/sh
# SPDX-License-Identifier: ISC
# Checks tests/layers.txt: which directory may include which, which directories are pure, which files
# may include which library header, and that no headers include each other in a circle.
# Usage: layers.sh SOURCE-ROOT
set -eu
cd "${1:-.}"
exec awk '
function fail(text) { print text; failed = 1 }

# The layer of a source file: "base" in the library, "relayd/data" in a program.
function layer_of(path, part, n) {
    n = split(path, part, "/")
    if (part[1] == "common")
        return part[3]
    sub(/^gotthard-/, "", part[1])
    return part[1] "/" (n == 4 ? part[3] : "src")
}

# The file that an include line in @path means; "" for the header of a library.
function target_of(path, name, part) {
    if (name ~ /^gotthard\//)
        return "common/" name
    split(path, part, "/")
    return part[1] "/src/" name
}

function check_include(path, name, target, mine, theirs) {
    target = target_of(path, name)
    mine = layer_of(path)
    theirs = name ~ /^gotthard\// && path !~ /^common/ ? "gotthard" : layer_of(target)
    sub(/^[a-z]*\//, "", theirs)
    if (!(mine in allowed))
        fail(path ": directory " mine " is not in tests/layers.txt")
    else if (mine != theirs && mine !~ "/" theirs "$" && index(allowed[mine], " " theirs " ") == 0)
        fail(path ": " mine " must not include " name)
    if (path ~ /\.h$/)
        includes[path] = includes[path] " " target
}

function check_library(path, header, stem) {
    stem = path
    sub(/^common\/gotthard\//, "", stem)
    sub(/\.[ch]$/, "", stem)
    if (header in owners && index(owners[header], " " stem " ") == 0)
        fail(path ": <" header "> may be included only by" owners[header])
    if (path ~ /^common/ && index(pure, " " layer_of(path) " ") && header ~ /^(ev|sys\/socket|sys\/epoll|poll|netinet\/in)\.h$/)
        fail(path ": " layer_of(path) " is pure and must not include <" header ">")
}

# Depth-first search over the headers; @path is on the current way.
function visit(path, n, i, parts) {
    if (state[path] == "done")
        return
    if (state[path] == "open") {
        fail(path ": includes itself through other headers")
        return
    }
    state[path] = "open"
    n = split(includes[path], parts, " ")
    for (i = 1; i <= n; i++)
        visit(parts[i])
    state[path] = "done"
}

FILENAME == "tests/layers.txt" {
    sub(/#.*/, "")
    if ($1 ~ /:$/) { layer = $1; sub(/:/, "", layer); $1 = ""; allowed[layer] = $0 " " }
    else if ($1 == "pure") { $1 = ""; pure = $0 " " }
    else if ($1 == "only") { header = $2; $1 = $2 = ""; owners[header] = $0 " " }
    next
}
/^#include "/ { split($0, quoted, "\""); check_include(FILENAME, quoted[2]) }
/^#include </ { split($0, quoted, /[<>]/); check_library(FILENAME, quoted[2]) }
END {
    for (path in includes)
        visit(path)
    exit failed
}' tests/layers.txt $(find common/gotthard gotthard-*/src -name '*.[ch]')

#!/bin/sh
# SPDX-License-Identifier: ISC
# Keeps the floors (tests/floors.txt): no include points up, and each library has its one door.
# Usage: floors.sh SOURCE-ROOT
set -eu
cd "${1:-.}"
table=tests/floors.txt
failed=0

floor_of() {
    awk -v name="$1" '$1 ~ /^[0-9]+$/ { for (i = 2; i <= NF; i++) if ($i == name) print $1 }' $table
}

for file in common/gotthard/*.[ch]; do
    name=$(basename "$file" | sed 's/\.[ch]$//')
    mine=$(floor_of "$name")
    if [ -z "$mine" ]; then
        echo "$file: on no floor (add it to $table)"
        failed=1
        continue
    fi
    for included in $(sed -n 's/^#include "gotthard\/\(.*\)\.h".*/\1/p' "$file"); do
        theirs=$(floor_of "$included")
        if [ -z "$theirs" ] || [ "$theirs" -gt "$mine" ]; then
            echo "$file: floor $mine includes $included of floor ${theirs:-none}"
            failed=1
        fi
    done
    # log is ground and has one descriptor: it must know how to write to it without waiting.
    if [ "$mine" -lt 2 ] && [ "$name" != log ] && grep -Hn '#include <\(ev\|sys/socket\|sys/epoll\|poll\|netinet/in\)\.h>' "$file"; then
        echo "$file: floor $mine knows nothing of descriptors and loops"
        failed=1
    fi
done

while read -r word header owners; do
    [ "$word" = only ] || continue
    for file in $(grep -l "#include <$header>" common/gotthard/*.[ch] gotthard-*/src/*.[ch] || true); do
        name=$(basename "$file" | sed 's/\.[ch]$//')
        case " $owners " in
        *" $name "*) case $file in common/*) continue ;; esac ;;
        esac
        echo "$file: <$header> belongs to: $owners"
        failed=1
    done
done <$table

exit $failed

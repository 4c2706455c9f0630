#!/bin/sh
# SPDX-License-Identifier: ISC
# Asks systemd-analyze about units that are not installed: units.sh verify|security UNIT-FILE...
# Skipped (77) only where there is no systemd-analyze.
set -eu
question=$1
shift
command -v systemd-analyze >/dev/null || exit 77

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for unit; do
    # The programs are not installed when the tests run; whether they exist is not asked here.
    sed 's,^\(Exec[A-Za-z]*=\)[^ ]*/gotthard-[a-z]*,\1/bin/true,' "$unit" >"$folder/$(basename "$unit")"
done
cd "$folder"

case $question in
verify)
    # verify exits with 0 whatever it thinks of an unknown key: a word of complaint is a failure.
    systemd-analyze verify --man=no ./*.service >"$folder/said" 2>&1 || failed=yes
    cat "$folder/said"
    [ ! -s "$folder/said" ] && [ "${failed:-no}" = no ]
    ;;
security)
    # tenths: an exposure of 1.6 or less
    systemd-analyze security --offline=true --threshold=16 --no-pager ./*.service
    ;;
*)
    echo "usage: units.sh verify|security UNIT-FILE..." >&2
    exit 64
    ;;
esac

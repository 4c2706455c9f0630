#!/bin/sh
# SPDX-License-Identifier: ISC
# Checks how programs were built, from their headers and debug information: hardening.sh [--fortified] PROGRAM...
# --fortified also requires the checked functions of _FORTIFY_SOURCE, which the packages are built with.
# Skipped (77) if the programs do not record the compiler's options: without -g, or built by clang.
set -eu
export LC_ALL=C # the words of readelf
fortified=
[ "$1" != --fortified ] || { fortified=yes; shift; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed= unknown=

# require PATTERN DESCRIPTION: a line of the program's headers.
require() {
    grep -qE -e "$1" "$folder/headers" || { echo "$program: $2"; failed=yes; }
}

# require_option OPTION: in every compilation unit.
require_option() {
    ! grep -vE -e " $1([ =]|$)" "$folder/units" | head -n 3 | sed "s|^|$program: without $1: |" | grep . || failed=yes
}

for program; do
    readelf --wide --file-header --program-headers --dynamic --dyn-syms "$program" >"$folder/headers"
    require 'Type: +DYN' "not a position-independent executable"
    require 'GNU_RELRO' "without relro"
    require 'FLAGS.*(BIND_)?NOW' "the relocations stay writable (without -z now)"
    require 'GNU_STACK.* RW +0x' "the stack is executable"
    require '__stack_chk_fail' "without a stack protector"
    [ -z "$fortified" ] || require '__[a-z]*printf_chk' "without _FORTIFY_SOURCE"

    readelf --debug-dump=info --dwarf-depth=1 "$program" | sed -n 's/.*DW_AT_producer.*: \(GNU C[0-9]\)/\1/p' >"$folder/units"
    [ -s "$folder/units" ] || { unknown=yes; continue; }
    require_option -fstack-protector-strong
    require_option -fstack-clash-protection
    case $(grep Machine: "$folder/headers") in
    *X86-64*) require_option -fcf-protection ;;
    *AArch64*) require_option -mbranch-protection=standard ;;
    esac
done
[ -z "$failed" ] || exit 1
[ -z "$unknown" ] || { echo "the programs do not record the compiler's options"; exit 77; }

#compdef gotthard-cli gotthard
# SPDX-License-Identifier: ISC
# Completion of gotthard-cli and gotthard for zsh.
#
# `gotthard-cli complete-words` prints the candidates. They follow from the program's own tables, and from the names of
# devices and services that earlier commands have remembered. The network is not used.

_gotthard-cli() {
    local line value help
    local -a lines full partial
    local -i has_files=0

    lines=("${(@f)$(gotthard-cli complete-words "${words[1]:t}" "${(@Q)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)}")
    for line in "${lines[@]}"; do
        value=${line%%$'\t'*}
        help=
        [[ $line != *$'\t'* ]] || help=${line#*$'\t'}
        if [[ $value == / ]]; then
            has_files=1
        elif [[ $value == *[:=@] ]]; then
            partial+=("${value//:/\\:}${help:+:$help}")
        elif [[ -n $value ]]; then
            full+=("${value//:/\\:}${help:+:$help}")
        fi
    done
    (( ! $#full )) || _describe -t words word full
    (( ! $#partial )) || _describe -t words word partial -S ''
    if (( has_files )); then
        compset -P '--*='
        _files
    fi
}

# As a file of the function path this is the body of the function; else it is read by `source`.
if [[ ${funcstack[1]} == _gotthard-cli ]]; then
    _gotthard-cli "$@"
else
    compdef _gotthard-cli gotthard-cli gotthard
fi

# SPDX-License-Identifier: ISC
# Completion of gotthard-cli and gotthard for bash 4.4 or later.
#
# `gotthard-cli complete-words` prints the candidates. They follow from the program's own tables, and from the names of
# devices and services that earlier commands have remembered. The network is not used.

_gotthard_cli() {
    local rest=${COMP_LINE:0:COMP_POINT} word trimmed current lead='' candidate help i
    local -a words=()

    # bash splits words at the characters of COMP_WORDBREAKS. Here "8080:ssh" is one word: words without a blank between
    # them are joined, and the last one ends at the cursor.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        trimmed=${rest#"${rest%%[![:blank:]]*}"}
        [[ $trimmed == "$word"* ]] || word=$trimmed
        if ((i == 0)) || [[ $trimmed != "$rest" ]]; then
            words+=("$word")
        else
            words[${#words[@]} - 1]+=$word
        fi
        rest=${trimmed#"$word"}
    done
    current=${words[${#words[@]} - 1]}

    # readline replaces the text after the last of these characters only, from "@" on with it.
    for ((i = ${#current}; i > 0; i--)); do
        if [[ ${current:i-1:1} == [:=@] && $COMP_WORDBREAKS == *"${current:i-1:1}"* ]]; then
            lead=${current:0:i}
            lead=${lead%@}
            break
        fi
    done

    COMPREPLY=()
    while IFS=$'\t' read -r candidate help; do
        if [[ $candidate == / ]]; then
            compopt -o default
            continue
        fi
        COMPREPLY+=("${candidate#"$lead"}")
        [[ $candidate != *[:=@] ]] || compopt -o nospace
    done < <(gotthard-cli complete-words "${1##*/}" "${words[@]:1}" 2>/dev/null)
}

complete -F _gotthard_cli gotthard-cli gotthard

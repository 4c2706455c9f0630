# SPDX-License-Identifier: ISC
# Completion of gotthard-cli and gotthard for fish 3.1 or later.
#
# `gotthard-cli complete-words` prints the candidates. They follow from the program's own tables, and from the names of
# devices and services that earlier commands have remembered. The network is not used.

function __gotthard_cli_words
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program (string replace -r '.*/' '' -- $words[1])
    set -e words[1]
    for line in (gotthard-cli complete-words $program $words "$current" 2>/dev/null)
        if test "$line" = /
            set -l lead (string match -r '^--[^=]*=' -- $current)
            for path in (__fish_complete_path (string replace -r '^--[^=]*=' '' -- $current))
                printf '%s%s\n' "$lead" $path
            end
        else
            printf '%s\n' $line
        end
    end
end

complete -c gotthard-cli -f -a '(__gotthard_cli_words)'
complete -c gotthard -f -a '(__gotthard_cli_words)'

# SPDX-License-Identifier: MIT
# bash completion for wolverinectl: commands, options, names of instances, ids of incidents, repairs, backups.

_wolverinectl_names() {
    local parent entry
    for parent in ${XDG_RUNTIME_DIR:+"$XDG_RUNTIME_DIR/wolverine"} /run/wolverine; do
        for entry in "$parent"/*/; do
            [[ -d $entry ]] || continue
            entry=${entry%/}
            printf '%s\n' "${entry##*/}"
        done
    done
    for entry in /etc/wolverine/*.toml; do  # enrolled, running or not
        [[ -f $entry ]] || continue
        entry=${entry##*/}
        printf '%s\n' "${entry%.toml}"
    done
}

# COMMAND NAME: the ids that the daemon knows. It answers in milliseconds, or not at all.
_wolverinectl_ids() {
    "${COMP_WORDS[0]}" "$1" ${_wolverinectl_dir:+--runtime-dir "$_wolverinectl_dir"} ${2:+"$2"} --json 2>/dev/null |
        grep -o '"id":"[irb][0-9]*"' | cut -d'"' -f4
}

_wolverinectl() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}
    local commands='status list is-active is-healthy start stop restart reload reexec hold heal incidents repairs diff
        approve reject rollback backups logs events usage config init doctor'
    local common='--runtime-dir --json --color -h --help'
    local waiting='--no-wait --timeout'
    local command='' words=() word skip='' position _wolverinectl_dir=''
    COMPREPLY=()

    for ((position = 1; position < COMP_CWORD; position++)); do
        word=${COMP_WORDS[position]}
        if [[ -n $skip ]]; then
            [[ $skip != --runtime-dir ]] || _wolverinectl_dir=$word
            skip=''
            continue
        fi
        case $word in
            --runtime-dir|--color|--timeout|--for|--report|--sha256|--after|--directory|--from-unit|--output|-n|--lines)
                skip=$word ;;
            -*) ;;
            *) if [[ -z $command ]]; then command=$word; else words+=("$word"); fi ;;
        esac
    done

    case $previous in
        --color) mapfile -t COMPREPLY < <(compgen -W 'auto always never' -- "$current"); return ;;
        --runtime-dir|--directory) mapfile -t COMPREPLY < <(compgen -d -- "$current"); return ;;
        --output) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        --timeout|--for|--report|--sha256|--after|--from-unit|-n|--lines) return ;;
    esac

    if [[ $current == -* ]]; then
        local options=$common
        case $command in
            '') options="$common --version" ;;
            start|stop|restart|reload|reexec|reject|rollback|backups) options="$common $waiting" ;;
            hold) options="$common $waiting --for" ;;
            heal) options="$common $waiting --dry-run --report" ;;
            incidents) options="$common --open -n --lines" ;;
            repairs) options="$common --patch -n --lines" ;;
            approve) options="$common $waiting --sha256 -y --yes" ;;
            logs|events) options="$common -f --follow -n --lines --after" ;;
            init) options="$common --directory --from-unit --import-env --output --force --print" ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
        return
    fi

    if [[ $command == config && ${words[0]-} == check ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_wolverinectl_names)" -- "$current"; compgen -f -- "$current")
        return
    fi

    # With a directory NAME may be left out: what is completed is then one word further.
    local at=${#words[@]} name=${words[0]-} choices=''
    if [[ -n $_wolverinectl_dir ]]; then at=$((at + 1)) name=''; fi
    case $command:$at in
        :*) choices=$commands ;;
        config:*) choices=check ;;
        list:*|init:*) ;;
        *:0) choices=$(_wolverinectl_names) ;;
        heal:1) choices=$(_wolverinectl_ids incidents "$name") ;;
        diff:1|approve:1|reject:1|rollback:1) choices=$(_wolverinectl_ids repairs "$name") ;;
        incidents:1|repairs:1) choices=show ;;
        incidents:2|repairs:2) choices=$(_wolverinectl_ids "$command" "$name") ;;
        backups:1) choices=restore ;;
        backups:2) choices=$(_wolverinectl_ids backups "$name") ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$current")
}

complete -F _wolverinectl wolverinectl

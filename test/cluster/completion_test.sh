#!/bin/bash
# The completion of bash, as a user meets it: the script is sourced, the function is called as bash calls it.
set -u
. "$(dirname "$0")/lib.sh"
PATH=$(dirname "$opendfs"):$PATH
shopt -u progcomp_alias 2>/dev/null
. "$(dirname "$0")/../../packaging/completion/opendfs.bash"
compopt() { options="$options $*"; } # outside of a completion bash's own refuses
same 'bash knows the function' "$(complete -p opendfs)" 'complete -F _opendfs opendfs'

# complete_line LINE: what bash would offer at its end, sorted, in one line.
complete_line() {
    COMP_LINE=$1 COMP_POINT=${#1} options=
    local word=${1##*[ =:]}
    _opendfs opendfs "$word" ''
    reply=$(printf '%s\n' "${COMPREPLY[@]}" | sort | tr '\n' ' ')
}
offers() {
    complete_line "$2"
    same "$1" "$reply" "$3"
}
has() {
    complete_line "$2"
    case " $reply" in
    *" $3 "*) ok "$1" ;;
    *) bad "$1: '$3' is not in '$reply'" ;;
    esac
}

offers 'a command' 'opendfs mkd' 'mkdir '
has 'commands of all tables' 'opendfs ' 'put'
has 'commands of the servers' 'opendfs ' 'meta'
offers 'nothing hidden' 'opendfs __' ' '
has 'commands for help' 'opendfs help ' 'ls'
offers 'an option' 'opendfs ls --recu' '--recursive '
has 'an option of all commands' 'opendfs ls --' '--json'
offers 'no option of another command' 'opendfs ls --par' ' '
mkdir -p "$work/local dir/below"
touch "$work/local dir/file"
cd "$work/local dir" || exit 1
offers 'files of this machine' 'opendfs put f' 'file '
offers 'directories of this machine' 'opendfs -C b' 'below '
same 'and bash quotes them' "$options" ' -o filenames'
offers 'the value of an option in one word' 'opendfs --cluster=b' 'below '

start_cluster || exit 1
check 'names to offer' "$opendfs" mkdir -p '/music/abc' '/music/abd' '/music/with space' '/music/xé' '/music/one:two' '/mud'
offers 'the root' 'opendfs ls ' '/ '
offers 'names in it' 'opendfs ls /mu' '/mud/ /music/ '
offers 'names further down' 'opendfs ls /music/ab' '/music/abc/ /music/abd/ '
offers 'one of them' 'opendfs stat /music/abc /music/abd' '/music/abd/ '
same 'a directory ends with a slash, and no space' "$options" ' -o nospace'
offers 'a name with a space' 'opendfs ls /music/w' '/music/with\ space/ '
offers 'behind a quote' 'opendfs ls "/music/w' '/music/with space/ '
offers 'bytes beyond ASCII' 'opendfs ls /music/x' '/music/xé/ '
offers 'a name with a colon' 'opendfs ls /music/one:' 'two/ '
offers 'nothing there' 'opendfs ls /nowhere/' ' '
offers 'both kinds' "opendfs get /music b" 'below '
(unset OPENDFS_CLUSTER && cd / && COMP_LINE="opendfs -C $cluster ls /mus" && COMP_POINT=${#COMP_LINE} && _opendfs opendfs '' '' &&
    [ "${COMPREPLY[*]}" = /music/ ]) && ok 'the cluster that the line names' || bad 'the cluster that the line names'
"$opendfs" down -q "$cluster"
began=$SECONDS
offers 'no cluster, no names' 'opendfs ls /mu' ' '
[ $((SECONDS - began)) -le 3 ] && ok 'and no long wait' || bad "and no long wait: $((SECONDS - began)) s"
finish

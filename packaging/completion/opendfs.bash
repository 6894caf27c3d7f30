# Completion of opendfs for bash: commands, options, their values, paths of this machine and of the cluster. What may
# stand where is known to the program itself, from its tables of commands.
_opendfs() {
    local line lines=() local_only=1
    mapfile -t lines < <("$1" __complete -- "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null)
    COMPREPLY=()
    for line in "${lines[@]}"; do
        case $line in
        :*) ;;
        *) local_only=0 ;;
        esac
    done
    for line in "${lines[@]}"; do
        case $line in
        :files | :directories)
            local kind=-f
            [ "$line" = :files ] || kind=-d
            mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen "$kind" -- "$2")
            ;;
        *)
            COMPREPLY+=("$line")
            ;;
        esac
    done
    [ $local_only = 0 ] || compopt -o filenames
    [ "${#COMPREPLY[@]}" != 1 ] || [[ ${COMPREPLY[0]} != *[/=] ]] || compopt -o nospace
}
complete -F _opendfs opendfs

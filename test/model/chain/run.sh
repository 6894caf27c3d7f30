#!/bin/bash
# run.sh [base|mutations|all|one NAME SECONDS CCFLAGS MODELFLAGS...]: needs spin and gcc. At most 2.7 GB; about 15 minutes for all on one core.
# Prints one line per run: verdict, states, seconds. A mutation must end in "caught" (but see README.md for m-ackepoch, m-cepoch, m-notlocked);
# the exit status is 1 when one does not, or a search without mutation finds something or does not end.
bad=0
here=$(cd "$(dirname "$0")" && pwd)
work=${WORK:-$(mktemp -d)}
one() { # name, seconds, flags of the C compiler, model flags...
    local name=$1 limit=$2 cc=$3; shift 3
    mkdir -p "$work/$name" && cd "$work/$name" || exit 1
    cp "$here/chain.pml" . && rm -f ./*.trail
    nice spin -a "$@" chain.pml > spin.out 2>&1 || { cat spin.out; bad=1; return 1; }
    nice gcc ${OPT:--O1} -w -DSAFETY -DNOREDUCE -DMEMLIM="${MEM:-2700}" $cc -o pan pan.c || { bad=1; return 1; }
    nice timeout "$limit" ./pan -m400000 -w25 > out 2>&1
    local verdict=complete
    grep -q 'errors: 0' out || verdict=caught
    grep -q 'errors:' out || verdict="none in $limit s"
    grep -q 'reached -DMEMLIM' out && verdict="none, memory limit"
    local states secs
    states=$(awk '/states, stored/ {print $1; exit}' out)
    secs=$(awk '/elapsed/ {print $4; exit}' out)
    local why; why=$(grep -o 'pan:1: [a-z ]*' out | head -1)
    local want=complete
    case $name in m-ackepoch | m-cepoch | m-notlocked) ;; m-*) want=caught ;; esac
    [ "$verdict" = $want ] || bad=1
    printf '%-14s %-20s %12s states %7s s  %s %s\n' "$name" "$verdict" "${states:-?}" "${secs:-?}" "$*" "$why"
}
HC=-DHC4 # hash compaction: 64-bit signatures instead of states
base() {
    one two-lapse    120 $HC -DNM=2 -DNW=2 -DPCRASH=0 -DMCRASH=0 -DLAPSE=2 -DNSYNC=0 -DRETRY=1 -DNE=4
    one two-crash    120 $HC -DNM=2 -DNW=2 -DPCRASH=2 -DMCRASH=0 -DLAPSE=0 -DNSYNC=0 -DRETRY=1 -DNE=5
    one two-nospace  120 $HC -DNM=2 -DNW=2 -DPCRASH=0 -DMCRASH=0 -DLAPSE=1 -DNSYNC=0 -DRETRY=1 -DNOSPC=1 -DNE=4 -DATT=3
    one two-power    150 $HC -DNM=2 -DNW=2 -DPCRASH=0 -DMCRASH=2 -DLAPSE=0 -DNSYNC=1 -DRETRY=1 -DNE=5
    one two-mixed    200 $HC -DNM=2 -DNW=2 -DPCRASH=0 -DMCRASH=1 -DLAPSE=1 -DNSYNC=1 -DRETRY=1 -DNE=5
    one three-one    120 $HC -DNM=3 -DNW=2 -DPCRASH=1 -DMCRASH=0 -DLAPSE=1 -DNSYNC=0 -DRETRY=0 -DNE=4
    one three-two    200 $HC -DNM=3 -DNW=2 -DPCRASH=1 -DMCRASH=0 -DLAPSE=0 -DNSYNC=0 -DRETRY=0 -DNE=4
    one three-space  120 $HC -DNM=3 -DNW=2 -DPCRASH=0 -DMCRASH=0 -DLAPSE=1 -DNSYNC=0 -DRETRY=0 -DNOSPC=1 -DNE=4
    one two-return   150 $HC -DNM=2 -DNW=1 -DPCRASH=2 -DMCRASH=1 -DLAPSE=0 -DNSYNC=1 -DRETRY=0 -DNE=7
    one two-rejoin    60 $HC -DNM=2 -DNW=1 -DPCRASH=1 -DMCRASH=0 -DLAPSE=1 -DNSYNC=0 -DRETRY=0 -DNE=7
    one two-dark     150 $HC -DNM=2 -DNW=2 -DPCRASH=0 -DMCRASH=1 -DLAPSE=1 -DNSYNC=0 -DRETRY=0 -DNE=6
    one three-power  150 $HC -DNM=3 -DNW=1 -DPCRASH=0 -DMCRASH=1 -DLAPSE=1 -DNSYNC=1 -DRETRY=0 -DNE=5
}
mutations() {
    local OPT=-O0 # compiling takes longer than the search
    local two="-DNM=2 -DPCRASH=0 -DMCRASH=0 -DNSYNC=0 -DRETRY=1"
    one m-nolease     60 $HC -DM_NOLEASE     $two -DLAPSE=1 -DNE=3
    one m-acklease    60 $HC -DM_NOACKLEASE  -DNM=2 -DNW=1 -DPCRASH=0 -DMCRASH=1 -DLAPSE=1 -DNSYNC=0 -DRETRY=0 -DNE=4
    one m-leasewait   60 $HC -DM_NOLEASEWAIT $two -DLAPSE=0 -DNE=3
    one m-readpend    60 $HC -DM_READPEND    $two -DLAPSE=0 -DNE=2
    one m-epoch       60 $HC -DM_NOEPOCH     -DNM=3 -DNW=2 -DPCRASH=0 -DMCRASH=0 -DNSYNC=0 -DRETRY=0 -DLAPSE=1 -DNE=4
    one m-ackepoch    60 $HC -DM_NOACKEPOCH  $two -DLAPSE=1 -DNE=4 -DNOSPC=1
    one m-cepoch      60 $HC -DM_NOCEPOCH    $two -DLAPSE=1 -DNE=4 -DNOSPC=1
    one m-link        60 $HC -DM_NOLINK      $two -DLAPSE=0 -DNE=2 -DNOSPC=1 -DATT=3
    one m-att         60 $HC -DM_NOATT       $two -DLAPSE=0 -DNE=2 -DNOSPC=1 -DATT=3
    one m-dedup       60 $HC -DM_NODEDUP     $two -DLAPSE=0 -DNE=2
    one m-trailer     60 $HC -DM_NOTRAILER   -DNM=2 -DNW=1 -DPCRASH=2 -DMCRASH=0 -DLAPSE=0 -DNSYNC=0 -DRETRY=0 -DNE=4
    one m-tailcommit  60 $HC -DM_NOTAILCOMMIT -DNM=2 -DNW=1 -DPCRASH=2 -DMCRASH=0 -DLAPSE=0 -DNSYNC=0 -DRETRY=0 -DNE=4
    one m-incarn      60 $HC -DM_NOINC       -DNM=2 -DNW=1 -DPCRASH=0 -DMCRASH=1 -DLAPSE=0 -DNSYNC=0 -DRETRY=0 -DNE=3
    one m-vercmp      60 $HC -DM_VERCMP      -DNM=2 -DNW=2 -DPCRASH=0 -DMCRASH=1 -DLAPSE=1 -DNSYNC=0 -DRETRY=0 -DNE=6
    one m-touch       60 $HC -DM_NOTOUCH -DM_NOLOCK -DM_NOLINK -DNM=2 -DNW=2 -DPCRASH=1 -DMCRASH=0 -DLAPSE=0 -DNSYNC=0 -DRETRY=0 -DNE=5
    one m-notlocked   60 $HC -DM_NOLOCK -DM_NOLINK -DNM=2 -DNW=2 -DPCRASH=1 -DMCRASH=0 -DLAPSE=0 -DNSYNC=0 -DRETRY=0 -DNE=5
    one m-copywait    60 $HC -DM_NOCOPYWAIT -DNM=2 -DNW=1 -DPCRASH=1 -DMCRASH=0 -DLAPSE=0 -DNSYNC=0 -DRETRY=0 -DNE=5
    one m-cpd         60 $HC -DM_NOCPD       -DNM=2 -DNW=1 -DPCRASH=1 -DMCRASH=0 -DLAPSE=0 -DNSYNC=0 -DRETRY=0 -DNE=5
    one m-syncedold   90 $HC -DM_SYNCEDOLD   -DNM=2 -DNW=1 -DPCRASH=1 -DMCRASH=0 -DLAPSE=1 -DNSYNC=0 -DRETRY=0 -DNE=7
    one m-finalflush  90 $HC -DM_NOFINALFLUSH -DNM=2 -DNW=1 -DPCRASH=2 -DMCRASH=1 -DLAPSE=0 -DNSYNC=1 -DRETRY=0 -DNE=7
    one m-syncsrv     90 $HC -DM_SYNCSRVONLY -DNM=2 -DNW=1 -DPCRASH=2 -DMCRASH=1 -DLAPSE=0 -DNSYNC=1 -DRETRY=0 -DNE=7
    one m-synchead    60 $HC -DM_SYNCHEAD    -DNM=2 -DNW=1 -DPCRASH=0 -DMCRASH=2 -DLAPSE=0 -DNSYNC=1 -DRETRY=0 -DNE=4
    one m-lossgen     60 $HC -DM_NOLOSSGEN   -DNM=2 -DNW=1 -DPCRASH=0 -DMCRASH=2 -DLAPSE=0 -DNSYNC=1 -DRETRY=0 -DNE=4
}
case ${1:-all} in
base) base ;;
mutations) mutations ;;
one) shift; one "$@" ;;
*) base; mutations ;;
esac
exit $bad

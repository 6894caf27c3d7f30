#!/bin/bash
# Install what building, testing and running OpenDFS needs, from Debian only (12 with backports, 13).
# Run as root, or as a user who may use sudo. Installs nothing when everything is already there. Arguments: further
# packages; services among them are not started.
set -euo pipefail

packages=(
    build-essential clang clang-format clang-tidy meson ninja-build pkg-config python3 git
    libraft-dev liburing-dev libfuse3-dev fuse3 libxxhash-dev liblz4-dev libzstd-dev libisal-dev
    libinih-dev libcjson-dev libssl-dev liburcu-dev libcmocka-dev
    strace procps attr acl linux-libc-dev rsync sqlite3
    "$@"
)
raft_version=0.22.1

die() {
    printf 'deps.sh: %s\n' "$*" >&2
    exit 1
}

[ -r /etc/os-release ] || die "no /etc/os-release: this script knows Debian 12 and 13"
. /etc/os-release
[ "${ID:-}" = debian ] || die "this is '${ID:-unknown}', not Debian; see the list of packages in this script"
case "${VERSION_ID:-}" in
12 | 13) ;;
*) die "Debian ${VERSION_ID:-(no version)}: this script knows 12 and 13" ;;
esac

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        command -v sudo >/dev/null || die "not root and no sudo: run this as root"
        sudo "$@"
    fi
}

installed() {
    dpkg-query -W -f='${Status}\n' "$1" 2>/dev/null | grep -qx 'install ok installed'
}

raft_good() {
    installed libraft-dev &&
        dpkg --compare-versions "$(dpkg-query -W -f='${Version}' libraft-dev)" ge "$raft_version"
}

missing=()
for p in "${packages[@]}"; do
    installed "$p" || missing+=("$p")
done
if [ ${#missing[@]} = 0 ] && raft_good; then
    exit 0
fi

# Debian 12 keeps libraft 0.22.1 in its backports. The mirror is the one that this machine uses for Debian itself.
debian_source() {
    awk '
        FNR == 1 { uri = ""; signed = "" }
        /^[[:space:]]*$/ { uri = ""; signed = "" }
        /^URIs:/ { uri = $2 }
        /^Signed-By:/ { signed = $2 }
        uri != "" && /^Suites:/ { suites = $0 }
        /^Suites:/ && $0 ~ /(^|[[:space:]])bookworm([[:space:]]|$)/ { found = 1; at = uri }
        found && signed != "" { print at, signed; exit }
        END { if (found && signed == "") print at }
    ' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1
    awk '
        $1 == "deb" {
            i = 2; signed = ""
            if ($i ~ /^\[/) {
                while ($i !~ /\]$/) { if ($i ~ /signed-by=/) signed = $i; i++ }
                if ($i ~ /signed-by=/) signed = $i
                i++
            }
            sub(/.*signed-by=/, "", signed); sub(/\]$/, "", signed)
            if ($(i + 1) == "bookworm") { print $i, signed; exit }
        }' /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | head -n 1
}

add_backports() {
    if grep -rqsE '^[^#]*bookworm-backports' /etc/apt/sources.list /etc/apt/sources.list.d; then
        return
    fi
    read -r uri signed < <(debian_source) || die "no Debian source for bookworm found below /etc/apt"
    local file=/etc/apt/sources.list.d/bookworm-backports.sources
    {
        printf 'Types: deb\nURIs: %s\nSuites: bookworm-backports\nComponents: main\n' "$uri"
        [ -z "${signed:-}" ] || printf 'Signed-By: %s\n' "$signed"
    } | as_root tee "$file" >/dev/null
}

printf 'deps.sh: installing %s\n' "${missing[*]:-libraft $raft_version}" >&2
if [ "$VERSION_ID" = 12 ]; then
    add_backports
fi
# Benchmarks start servers by themselves, with configurations of their own.
policy=/usr/sbin/policy-rc.d
if [ $# -gt 0 ] && [ ! -e $policy ]; then
    trap 'as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
fi
apt=(apt-get -y -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
export DEBIAN_FRONTEND=noninteractive
as_root "${apt[@]}" update >/dev/null
if [ "$VERSION_ID" = 12 ]; then
    as_root "${apt[@]}" install --no-install-recommends -t bookworm-backports \
        libraft-dev libraft0 </dev/null >/dev/null
fi
as_root "${apt[@]}" install --no-install-recommends "${packages[@]}" </dev/null >/dev/null
raft_good || die "libraft-dev $raft_version or newer is needed; apt offers \
$(dpkg-query -W -f='${Version}' libraft-dev 2>/dev/null || echo none)"

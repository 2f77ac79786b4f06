#!/bin/sh
# SPDX-License-Identifier: MIT
# container_try.sh: do what deploy/Containerfile says, without a container engine or a registry of images: in chroots that
# debootstrap makes of the same Debian, in build/container. Then run both servers in the result, and ask them. As root.
# Reads all from the Containerfile, and fails at an instruction that it does not know.
set -euf
cd -- "$(dirname -- "$0")/.."
. tools/step.sh

work=$PWD/build/container
stages=$work/stages
die() { printf 'container_try: error: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || die 'a chroot takes root: sudo make container'
for tool in debootstrap unshare ip; do
    command -v "$tool" >/dev/null || die "$tool is missing (Debian: debootstrap, util-linux, iproute2)"
done
mkdir -p "$stages" build/log
log=$PWD/build/log/container.log
: >"$log"

. tools/chroot.sh

copy() { # FROM_FOLDER TO_FOLDER
    mkdir -p "$2" && cp -a "$1/." "$2"
}

checkout() { # FOLDER: what git knows or would add
    mkdir -p "$1" && git ls-files -z --cached --others --exclude-standard |
        tar -cf - --null -T - | tar -xf - -C "$1" --no-same-owner
}

try() { # TITLE COMMAND...
    title=$1
    shift
    step "container: $title ..." "$log.step" 'mend deploy/Containerfile' "$@" || exit 1
    cat "$log.step" >>"$log"
}

number=0 root='' user=root command=''
sed -e ':a' -e '/\\$/{N;s/ *\\\n */ /;ba' -e '}' -e '/^#/d' -e '/^$/d' deploy/Containerfile >"$work/steps"
while read -r instruction words; do
    # shellcheck disable=SC2086 # words
    set -- $words
    case $instruction in
        FROM)
            number=$((number + 1)) root=$stages/${3:-$number} folder=/ user=root command=''
            suite=${1#debian:} suite=${suite%-slim}
            try "$words" base "$suite"
            rm -rf "${root:?}" && copy "$work/$suite" "$root"
            ;;
        WORKDIR) folder=$1 && mkdir -p "$root$folder" ;;
        COPY)
            case "$1" in
                --from=*) try "COPY $words" copy "$stages/${1#--from=}$2" "$root$3" ;;
                .) try "COPY $words" checkout "$root$folder" ;;
                *) die "cannot do: COPY $words" ;;
            esac
            ;;
        RUN) try "RUN $words" inside --mount "$root" "$user" sh -c "cd $folder && $words" ;;
        USER) user=$1 ;;
        CMD) command=$(printf %s "$words" | tr -d '[]",') ;;
        VOLUME | EXPOSE) ;;
        *) die "cannot do: $instruction $words" ;;
    esac
done <"$work/steps"

# The result, with a clock that needs no daemon, and a certificate.
prepare() {
    sed -i 's/^local_stratum.*/&\nclock = local/' "$root/etc/nts/server.ini" &&
        inside --mount "$root" root server_helper.py make-cert localhost && chown 999 "$root/etc/nts/server.key"
}
# shellcheck disable=SC2016 # expanded there
serve_and_ask='
    ntsts_server.py & time_server=$!
    '"$command"' & key_exchange=$!
    trap "kill $time_server $key_exchange 2>/dev/null || :" EXIT
    sleep 3
    ntske_client.py -c /etc/nts/ca.pem -o /tmp/client.ini localhost
    ntsts_client.py -f /tmp/client.ini
    kill $time_server $key_exchange
    wait $time_server
    wait $key_exchange'
try 'a certificate' prepare
try "both servers and both clients as $user" inside --net "$root" "$user" sh -euc "$serve_and_ask"
echo "container: all steps of deploy/Containerfile work; $log has what they said"

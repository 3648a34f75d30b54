#!/usr/bin/env bash
# statestream as a service of this machine: an environment, a user, folders, a configuration, a unit. By hand, in the
# images and in the tests alike. Run it again to upgrade; configuration, models and sessions stay.
set -euo pipefail

usage() {
    cat <<'TEXT'
install.sh [--from WHAT] [--gpu] [--runtime WHAT] [--extras LIST] [--no-service [--uid N]]
install.sh --uninstall [--purge]

  --from WHAT      a wheel or a checkout; otherwise the checkout that this script is in
  --gpu            onnxruntime-gpu instead of onnxruntime, and a unit that may use the GPU
  --runtime WHAT   onnxruntime from elsewhere, as pip takes it: on Jetson, NVIDIA's wheel for your JetPack
  --extras LIST    more of statestream's extras, with commas between them: redis
  --no-service     no unit: for images
  --uid N          the number of the user, for images and the volumes that they share
  --uninstall      environment and unit go; configuration, models and sessions stay
  --purge          … and those go too, with the user

PYTHON names the interpreter (python3), 3.10 to 3.14. pip is configured as usual: pip.conf, PIP_….
TEXT
}

readonly NAME=statestream
readonly VENV=/opt/$NAME CONFIG=/etc/$NAME STATE=/var/lib/$NAME CACHE=/var/cache/$NAME
readonly COMMAND=/usr/local/bin/$NAME UNIT=/etc/systemd/system/$NAME.service
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE PYTHON=${PYTHON:-python3}
readonly TRANSPORT='from statestream.service.transports.choice import lacking; print(lacking() or "the native transport was built")'
readonly ENGINE='from statestream.service.engine.choice import lacking; print(lacking() or "the native engine was built")'
readonly COMPILER=(g++ libnghttp2-dev python3-dev)

from=$HERE/.. gpu=no runtime='' extras='' uid='' service=yes uninstall=no purge=no fetched=no

main() {
    read_options "$@"
    [ "$(id -u)" = 0 ] || die "only root can install a service: sudo $0 $*"
    if [ $uninstall = yes ]; then
        remove_service
        rm -rf "$VENV" "$COMMAND"
        [ $purge = no ] || remove_data
        return
    fi
    find_python
    find_compiler
    make_environment
    [ $service = yes ] || forget_compiler
    make_user
    make_folders
    [ $service = no ] || make_service
    say_what_now
}

read_options() {
    while [ $# -gt 0 ]; do
        case $1 in
            --from | --runtime | --extras | --uid)
                [ $# -gt 1 ] || die "$1 needs a value"
                printf -v "${1#--}" %s "$2"
                shift
                ;;
            --gpu) gpu=yes ;;
            --no-service) service=no ;;
            --uninstall) uninstall=yes ;;
            --purge) purge=yes ;;
            --help | -h) usage && exit ;;
            *) usage >&2 && die "'$1' is no option" ;;
        esac
        shift
    done
    [ $purge = no ] || [ $uninstall = yes ] || die "--purge goes with --uninstall"
    [ -z "$uid" ] || [ $service = no ] || die "--uid goes with --no-service"
    [ -e "$from" ] || die "--from: there is no '$from'"
}

# Debian and Ubuntu have Python without venv.
find_python() {
    usable_python || ! command -v apt-get >/dev/null || fetch python3-venv
    usable_python || die "$PYTHON must be Python 3.10 to 3.14 with venv; set PYTHON to one that is"
}

usable_python() {
    "$PYTHON" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 15))' 2>/dev/null
}

# What the native transport of a checkout is built with. Without it gRPC's library serves, and the log says so.
find_compiler() {
    if [ ! -d "$from" ] || ! command -v apt-get >/dev/null || dpkg --status "${COMPILER[@]}" >/dev/null 2>&1; then
        return
    elif fetch "${COMPILER[@]}"; then
        fetched=yes
    else
        say "${COMPILER[*]} could not be installed"
    fi
}

# An image keeps what was built, and the library that this runs with.
forget_compiler() {
    [ $fetched = yes ] || return 0
    apt-mark manual -qq libnghttp2-14
    DEBIAN_FRONTEND=noninteractive apt-get purge -qy --auto-remove "${COMPILER[@]}"
}

fetch() {
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@" &&
        rm -rf /var/lib/apt/lists/*
}

make_environment() {
    local wanted=$extras constraints=()
    [ -n "$runtime" ] || wanted=$([ $gpu = yes ] && echo gpu || echo cpu)${extras:+,$extras}
    [ ! -f "$HERE/../constraints.txt" ] || constraints=(--constraint "$HERE/../constraints.txt")
    say "installing $from into $VENV"
    [ ! -d "$from" ] || copy_checkout
    "$PYTHON" -m venv "$VENV"
    # The two overwrite each other; the other one may be there from last time.
    "$VENV/bin/pip" uninstall -qq --yes "$([ $gpu = yes ] && echo onnxruntime || echo onnxruntime-gpu)"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir "${constraints[@]}" \
        "$(realpath "$from")${wanted:+[$wanted]}" ${runtime:+"$runtime"}
    # onnxruntime 1.23, the last one for Python 3.10, asks for them for a tool of its own: a quarter of the environment.
    "$VENV/bin/pip" uninstall -qq --yes sympy mpmath
    ln -sfn "$VENV/bin/$NAME" "$COMMAND"
}

# pip builds where the sources are; root should leave nothing in somebody's checkout.
copy_checkout() {
    local copy
    copy=$(mktemp -d)
    # shellcheck disable=SC2064  # the folder of now
    trap "rm -rf '$copy'" EXIT
    tar --create --directory "$from" --exclude=.git --exclude=./build --exclude=./runs . | tar --extract --directory "$copy"
    from=$copy
}

make_user() {
    getent group $NAME >/dev/null || groupadd --system ${uid:+--gid "$uid"} $NAME
    getent passwd $NAME >/dev/null ||
        useradd --system --gid $NAME ${uid:+--uid "$uid" --key SYS_UID_MAX="$uid"} --home-dir "$STATE" \
            --no-create-home --shell /usr/sbin/nologin $NAME
}

# The service writes its sessions and its engines, and reads the rest.
make_folders() {
    install -d -m 755 "$CONFIG"
    install -d -m 750 -o $NAME -g $NAME "$STATE" "$CACHE"
    install -d -m 755 -o root -g root "$STATE/models"
    [ -e "$CONFIG/server.toml" ] || install -m 640 -g $NAME "$HERE/server.toml" "$CONFIG/server.toml"
}

make_service() {
    install -D -m 644 "$HERE/systemd/$NAME.service" "$UNIT"
    if [ $gpu = yes ]; then
        install -D -m 644 "$HERE/systemd/gpu.conf" "$UNIT.d/gpu.conf"
    else
        rm -rf "$UNIT.d/gpu.conf"
    fi
    ! systemd_runs || systemctl daemon-reload
}

remove_service() {
    ! systemd_runs || [ ! -e "$UNIT" ] || systemctl disable --now --quiet $NAME
    rm -rf "$UNIT" "$UNIT.d"
    ! systemd_runs || systemctl daemon-reload
}

remove_data() {
    rm -rf "$CONFIG" "$STATE" "$CACHE"
    ! getent passwd $NAME >/dev/null || userdel $NAME
}

systemd_runs() { [ -d /run/systemd/system ]; }

say_what_now() {
    say "installed: $("$COMMAND" --version), settings in $CONFIG/server.toml"
    say "$("$VENV/bin/python" -c "$TRANSPORT")"
    say "$("$VENV/bin/python" -c "$ENGINE")"
    [ $service = no ] || say "now copy bundles (NAME/VERSION/) into $STATE/models, then: systemctl enable --now $NAME"
}

say() { echo "$NAME: $*"; }
die() { echo "$0: $*" >&2 && exit 2; }

main "$@"

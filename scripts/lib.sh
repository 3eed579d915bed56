# shellcheck shell=bash
# shellcheck disable=SC2034 # the lists of packages are for those who source this
# Shared by the scripts: what they need on this machine, how they run things, and how they clean up. Sourced, not run.
set -Eeuo pipefail
shopt -s nullglob

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
PATH=$PATH:/usr/sbin:/sbin # where an ordinary user's PATH lacks ip and the like

build_packages=(gcc libc6-dev)
demo_packages=(iproute2 dnsmasq-base)
test_packages=("${demo_packages[@]}" bind9-dnsutils bind9-host binutils ca-certificates chromium curl dante-client dante-server git
    groff-base haproxy libjemalloc2 libtcmalloc-minimal4 microsocks netbase netcat-openbsd openssh-client openssh-server openssl
    procps proxychains4 python3 python3-dnspython python3-pycares python3-socks python3-venv strace systemd valgrind wget)

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$0: $*"
    exit 1
}

as_root() {
    if ((EUID == 0)); then "$@"; else sudo -- "$@"; fi
}

# Asks for the password at once, if there is one to ask for, and not in the middle of a run.
need_root() {
    ((EUID == 0)) && return
    command -v sudo >/dev/null || die "this needs root: run it as root, or install sudo"
    say "Network namespaces and packages need root: sudo may ask for your password."
    sudo -v
}

need_cargo() {
    # Under `sudo scripts/…` the user's own Rust is meant, and the files of the build should be the user's too: what needs
    # root asks for it again.
    if ((EUID == 0)) && [[ ${SUDO_USER:-root} != root && $(stat -c %U "$root") == "$SUDO_USER" ]]; then
        exec sudo -H -u "$SUDO_USER" -- "$root/scripts/$(basename "$0")" "$@"
    fi
    if ! command -v cargo >/dev/null && [[ -r ${CARGO_HOME:-${HOME:-/root}/.cargo}/env ]]; then
        # shellcheck source=/dev/null
        source "${CARGO_HOME:-${HOME:-/root}/.cargo}/env"
    fi
    local wanted
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    command -v cargo >/dev/null ||
        die "Rust $wanted or later is needed and cargo is not there. https://rustup.rs has it:
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    local have
    have=$(rustc --version | cut -d' ' -f2)
    [[ $(printf '%s\n' "$wanted" "$have" | sort -V | head -n1) == "$wanted" ]] ||
        die "Rust $wanted or later is needed, this is $have: rustup update"
}

# Installs the Debian packages that are not there. No service is started, now or at the next boot.
need_packages() {
    local package missing=()
    if ! command -v apt-get >/dev/null; then
        say "This is not Debian; please see yourself that these are there: $*"
        return
    fi
    for package; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
            missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    say "Installing ${missing[*]}"
    need_root
    if [[ ! -e $policy ]]; then
        policy_is_ours=yes
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3)
    as_root "${apt[@]}" update </dev/null
    as_root "${apt[@]}" install --yes --no-install-recommends "${missing[@]}" </dev/null >/dev/null
    remove_policy
    if [[ -d /run/systemd/system ]]; then
        for package in "${missing[@]}"; do
            case $package in
            openssh-server) as_root systemctl --quiet disable ssh.service ;;
            dante-server) as_root systemctl --quiet disable danted.service ;;
            haproxy) as_root systemctl --quiet disable haproxy.service ;;
            esac
        done
    fi
}

policy=/usr/sbin/policy-rc.d
policy_is_ours=

remove_policy() {
    [[ -z $policy_is_ours ]] || as_root rm -f "$policy"
    policy_is_ours=
}

build_release() {
    supervised cargo build --release -p socks-lib -p socks6-gateway -p socks6
    export SOCKS6_ARTEFACTS=$CARGO_TARGET_DIR/release
}

# Runs a command in a process group of its own and waits for it. bash runs no trap while it waits for a command in the
# foreground; like this the whole group can be ended at once.
supervised() {
    local status=0
    set -m
    "$@" </dev/null &
    job=$!
    set +m
    wait "$job" || status=$?
    job=
    return "$status"
}

job=

end_job() {
    [[ -n $job ]] || return 0
    local signal
    for signal in TERM KILL; do
        as_root kill -s "$signal" -- "-$job" 2>/dev/null || break
        for _ in {1..50}; do
            as_root kill -s 0 -- "-$job" 2>/dev/null || break 2
            sleep 0.1
        done
    done
}

# What the test harness leaves if it is killed: namespaces s6-PID-…, with what runs in them and their files.
remove_namespaces() {
    local entry name pid
    for entry in /run/netns/s6-* /etc/netns/s6-* "${TMPDIR:-/tmp}"/s6-*; do
        name=${entry##*/}
        pid=${name#s6-}
        pid=${pid%%-*}
        [[ -d /proc/$pid ]] && continue
        if [[ -e /run/netns/$name ]]; then
            as_root ip netns pids "$name" | as_root xargs -r kill -s KILL -- || true
            as_root ip netns delete "$name" || true
        fi
        as_root rm -rf -- "/etc/netns/$name" "${TMPDIR:-/tmp}/$name"
    done
    if [[ -d /etc/netns ]]; then
        as_root rmdir --ignore-fail-on-non-empty /etc/netns
    fi
}

clean_up() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP PIPE # once is enough, and whoever read our output may be gone
    set +e
    end_job
    remove_policy
    remove_namespaces
    rm -rf -- "${scratch:-}"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

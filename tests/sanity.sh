#!/usr/bin/env bash
# The documentation's and ansible-test's checks of what git knows, without ignore files. Arguments go on to ansible-test.
# It insists on a path .../ansible_collections/NAMESPACE/NAME: a copy under .build, where its downloads stay too.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
copy=$PWD/.build/sanity/ansible_collections/auditdb/postgresql
python=$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')

mkdir -p .build
exec 9>.build/sanity.lock
flock 9  # one at a time: the copy is shared
rm -rf "$copy"
mkdir -p "$copy"
# Without molecule, which no user installs, and whose hosts share the example inventory's group_vars by links.
git ls-files -z --deduplicate --cached --others --exclude-standard -- ':!molecule' |
    tar --create --null --files-from=- --ignore-failed-read 2>/dev/null | tar --extract --directory="$copy"
git init --quiet "$copy"  # without a repository of its own it asks ours, which ignores .build, and checks nothing
if compgen -G "$copy/tests/sanity/ignore*" >/dev/null; then
    echo "tests/sanity/ignore* exists. Remedy: mend what it hides, and remove it" >&2
    exit 1
fi

failed=0
antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs self "$copy" || failed=1

# Its virtual environments get pip from a host that is not reachable everywhere. Python's own ensurepip will do.
export PIP_CONFIG_FILE=${PIP_CONFIG_FILE:-$HOME/.config/pip/pip.conf}
export HOME=$PWD/.build/sanity/home
pip=$HOME/.ansible/test/cache/get_pip_24_2.py
mkdir -p "${pip%/*}"
printf 'import subprocess\nimport sys\n\nsubprocess.check_call([sys.executable, "-m", "ensurepip", "--upgrade"])\n' >"$pip"

cd "$copy"
ansible-test sanity --color no --python "$python" "$@" 2>&1 | tee ../../../log || failed=1
if grep -q "All targets skipped" ../../../log; then
    echo "ansible-test found nothing to check" >&2
    exit 1
fi
exit "$failed"

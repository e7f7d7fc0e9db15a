#!/usr/bin/env bash
# Writes THIRD-PARTY.md: every crate that is linked into the server and the programs beside it, with its licence.
set -euo pipefail
base_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$base_dir/bin/steps.sh"

case ${1:-} in
  '' | --check) ;;
  *)
    echo "usage: bin/third-party.sh [--check]
Writes THIRD-PARTY.md anew from Cargo.lock. With --check it only says whether that would change it: exit code 1."
    [[ $1 == --help || $1 == -h ]] && exit 0 || exit 1
    ;;
esac
ensure_rust
cd "$base_dir"

# What runs in the build alone, tests' and macros' crates, is in no binary.
crates() {
  cargo tree --locked --package kraft --edges normal,no-proc-macro --target x86_64-unknown-linux-gnu --prefix none \
    --format '{p}|{l}|{r}' | sed 's/ (\*)$//' | grep -v '^kraft v' | LC_ALL=C sort -u
}

notice() {
  cat <<'HEAD'
# Third-party software

The programs of this package contain the crates below, unchanged and as cargo fetches them. Each comes with its source, the text
of its licence and the names of its authors. `bin/third-party.sh` writes this list from `Cargo.lock`.

| crate | version | licence | source |
|---|---|---|---|
HEAD
  crates | sed 's/^\([^ ]*\) v\([^ |]*\)[^|]*|\([^|]*\)|\(.*\)$/| \1 | \2 | \3 | \4 |/'
}

written=$(notice) || die "cargo tree failed"
if [[ ${1:-} != --check ]]; then
  printf '%s\n' "$written" >THIRD-PARTY.md
  done_line "THIRD-PARTY.md: $(grep -c '^| .* | [0-9]' THIRD-PARTY.md) crates"
elif ! diff -u THIRD-PARTY.md <(printf '%s\n' "$written"); then
  die "THIRD-PARTY.md is not what Cargo.lock says: bin/third-party.sh writes it"
fi

# What `cutover check` asks. Sent to `sh` after lib.sh. Writes only into one temporary directory, and removes it.
# $1: the deploy path.
check() {
  say system "$(uname -s)" "$(uname -r)"
  say user "$(id -u)" "$(umask)"
  for t in cp mv ln rm mkdir stat find xargs tar sha256sum readlink chmod cat tail dd id sync; do tool "$t"; done
  # The nearest folder that is there.
  d=$1
  while [ ! -d "$d" ]; do
    if [ -e "$d" ] || [ -L "$d" ]; then say not-a-directory; return; fi
    d=${d%/*}; d=${d:-/}
  done
  if [ "$d" = "$1" ]; then say exists; fi
  cd -P -- "$d" 2>/dev/null || { say denied path; return; }
  begin place; pwd -P; end
  say owner $(stat -c '%U %G %a' .)
  say room $(stat -f -c '%b %a %S %c %d' . 2>/dev/null)
  v=$(stat -c %d .); say device "$v"
  begin mounts; cat /proc/self/mountinfo 2>/dev/null; end
  o=$(readlink "/sys/dev/block/$((v >> 8 & 4095)):$((v & 255 | v >> 12 & 1048320))") && o=/proc/fs/ext4/${o##*/}/options &&
    if [ -r "$o" ]; then begin ext4; cat "$o"; end; fi
  if [ ! -w . ] || [ ! -x . ]; then say denied path; return; fi
  if [ "$d" = "$1" ]; then
    for e in releases .cutover; do if [ -e "$e" ] && { [ ! -w "$e" ] || [ ! -x "$e" ]; }; then say denied "$e"; fi; done
    if [ -d releases ] && [ -d shared ] && [ ! releases/../shared -ef shared ]; then say apart releases; fi
    if [ -d .cutover ] && [ "$(stat -L -c %d .cutover)" != "$v" ]; then say apart .cutover; fi
  fi
  s=.cutover-check.$T
  mkdir "$s" 2>/dev/null || { say denied path; return; }
  trap 'cd / && rm -rf -- "$scratch"' EXIT
  trap 'exit 1' HUP INT TERM PIPE
  scratch=$(pwd -P)/$s
  cd "$s" || return
  probe rename replaces_link
  probe fsync syncs_file
  find_syncfs
  if [ "$F" = yes ]; then probe syncfs sync -f .; elif [ "$(uname -s)" = Linux ]; then probe sync sync; fi
  probe reflink cp --reflink=always file copy
  if command -v flock >/dev/null 2>&1; then say flock; fi
}
# Notes that something works, or what it says if not.
probe() { n=$1; shift; if e=$("$@" 2>&1); then say can "$n"; else begin "cannot-$n"; printf '%s\n' "$e"; end; fi; }
replaces_link() { ln -s a old && ln -s b new && mv -fT new old && [ "$(readlink old)" = b ]; }
syncs_file() { echo probe >file && sync file .; }
# The first lines of what a tool says about itself.
tool() {
  if command -v "$1" >/dev/null 2>&1; then
    begin "tool-$1"
    "$1" --version 2>&1 </dev/null | { for k in 1 2 3; do IFS= read -r l && printf '%s\n' "$l"; done; }
    end
  else say missing "$1"; fi
}

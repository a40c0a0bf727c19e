# Cutover's verbs on a host. Sent to `sh` before anything else; the working directory is the deploy path from `open_path` on.
# What is durable after each verb, and what is not, is said at the verb. "Nothing" means: wait for the barrier.
LC_ALL=C; export LC_ALL
unset CDPATH ENV BASH_ENV TAR_OPTIONS POSIXLY_CORRECT QUOTING_STYLE TAPE FIND_BLOCK_SIZE BLOCK_SIZE BLOCKSIZE
PATH=${PATH:+$PATH:}/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin; export PATH
# Whatever is said is framed by the key `K`. It is made here, and no command line holds it: the token `T` may come in one,
# which every user of the host can read, and then a name that is made in a folder meanwhile could pass for our word. A shell
# that gets this script again keeps its key.
if [ -z "$K" ]; then
  K=$T
  if [ -r /dev/urandom ]; then
    k=$(dd if=/dev/urandom bs=32 count=1 2>/dev/null | sha256sum 2>/dev/null)
    k=${k%% *}
    case $k in *[!0-9a-f]*|'') ;; *) printf '\n%s key %s\n' "$T" "$k"; K=$k ;; esac
  fi
fi
say() { printf '\n%s %s\n' "$K" "$*"; }
begin() { printf '\n%s begin %s\n' "$K" "$1"; }
end() { printf '\n%s end\n' "$K"; }
die() { say fail "$@"; exit 1; }
# What lies in a folder; more arguments choose some of it, as find(1) takes them.
items() { d=$1; shift; find "$d/." ! -name . -prune "$@" -exec stat -c '//%f %d:%i %n' {} +; }
# GNU tar reads backslashes in the names of its command line as escapes, unless told otherwise.
case $(tar --version 2>/dev/null </dev/null) in *GNU*) unquote=--no-unquote ;; *) unquote= ;; esac
# Unpacks what comes, with the modes it comes with, whatever the umask. Busybox' tar sets modes for root only, and needs
# `modes`, too.
untar() { (umask 0 && tar -xpof "$@"); }
modes() { [ -n "$unquote" ] || (. "$1"); }
# The names of one section, and nothing where there is no such folder.
# A listing that is cut short would make releases look lost: it ends the run. Who only looks, beside a run that is at
# it (`L`), may see names that are gone a moment later.
L=
list() { begin "$1"; shift; if [ -d "$1" ]; then items "$@" || [ -n "$L" ] || die look; fi; end; }
# What vanishes meanwhile is not there, and what may not be looked into is told by `unreadable`; a listing that is cut short
# in any other way would hide what has to be removed.
tree() {
  begin tree
  { e=$( (cd "$1" && find . -exec stat -c '//%f %s %Y %n' {} +) 2>&1 >&3 ); } 3>&1
  [ -z "$e" ] || only_ends "$e" skip || { printf '%s\n' "$e" >&2; die look; }
  end
  begin links; (cd "$1" && find . -type l -exec tar $unquote -cf - {} +); end
}
# What of a tree this user cannot read: files, and folders that cannot be looked into. Root reads everything.
unreadable() {
  u=$(id -u); [ "$u" != 0 ] || return 0
  begin unreadable
  (cd "$1" && find . ! -type l \( ! -user "$u" -o ! -perm -400 -o -type d ! -perm -100 \) -exec sh -c 'for p do
    [ -r "$p" ] && { [ ! -d "$p" ] || [ -x "$p" ]; } || [ ! -e "$p" ] || printf "//%s\n" "$p"; done' sh {} + 2>/dev/null)
  end
}
# Removes a tree that is ours. rm(1) does not follow links; folders without write permission are opened first.
rmtree() {
  rm -rf -- "$@" 2>/dev/null && return
  for p in "$@"; do
    if [ -d "$p" ] && [ ! -L "$p" ]; then find "$p" -type d ! -perm -700 -exec chmod u+rwx {} \; ; fi
  done
  rm -rf -- "$@"
}

# --- opening: a look around. Runs in the main shell, which holds the lock while it lives.
open_tools() {
  for t in cp mv ln rm mkdir stat find xargs tar sha256sum readlink chmod cat tail dd id; do
    command -v "$t" >/dev/null 2>&1 || die missing-tool "$t"
  done
  stat -c %f / >/dev/null 2>&1 || die missing-tool stat-c
  # Every script but the first one comes through it.
  dd bs=1 count=1 iflag=fullblock >/dev/null 2>&1 </dev/null || die missing-tool dd-iflag=fullblock
}
open_path() {
  if [ ! -d "$1" ]; then
    if [ -e "$1" ] || [ -L "$1" ]; then die not-a-directory; fi
    mkdir -p -- "$1" || die denied above
  fi
  cd -P -- "$1" || die denied path
  may . path; may releases releases; may .cutover private
  mkdir -p .cutover || die denied path
}
# Whether this user may make files there, if it is there.
may() { [ ! -e "$1" ] || { [ -w "$1" ] && [ -x "$1" ]; } || die denied "$2"; }
# Can anything be made durable here? If not, and D is best-effort, nothing is tried in vain any more.
durable() {
  find_syncfs
  if e=$(sync "$@" 2>&1 && barrier_waits && { [ "$D" = require ] || barrier_syncs 2>&1; }); then return; fi
  [ "$D" = best-effort ] || { printf '%s\n' "$e" >&2; die no-sync; }
  begin undurable; printf '%s\n' "$e"; end
  sync() { command sync "$@" >/dev/null 2>&1 || :; }
}
barrier_waits() {
  [ "$F" = yes ] || [ "$(uname -s)" = Linux ] || { echo 'its sync(1) has no -f, and without it only Linux waits for the disk'; return 1; }
}
barrier_syncs() { if [ "$F" = yes ]; then sync -f .; else sync; fi; }
# F: whether sync(1) knows `-f`, which is syncfs(2): it waits for the disk on any system that has it, and tells errors on
# Linux from 5.8 on (syncfs(2)).
F=
find_syncfs() {
  [ -z "$F" ] || return 0
  case $(sync --help 2>&1 </dev/null) in *--file-system*|*-df*|*' -f'*|*'	-f'*) F=yes ;; *) F=no ;; esac
}
# Durable: the directory that holds `current`, which an earlier run may have left between its rename and its sync. Before
# recovery marks what is live: a marker must not outlive a cutover that is lost.
open_layout() {
  # Before anything else is made. Is there an atomic rename of a link onto a link, from where the temporary link will be
  # to beside `current`? `mv` without -T moves into what the link leads to, and to another file system it makes another
  # link after it has removed the old one. Does sync(1) work?
  rmtree .cutover/probe .cutover.probe && mkdir .cutover/probe && true >.cutover/probe/file || die path
  ln -s . .cutover.probe && ln -s new .cutover/probe/new && i=$(stat -c %d:%i .cutover/probe/new) &&
    mv -fT .cutover/probe/new .cutover.probe && [ "$(readlink .cutover.probe)" = new ] || die no-atomic-rename
  [ "$(stat -c %d:%i .cutover.probe)" = "$i" ] || { rm -f .cutover.probe; die apart .cutover; }
  durable .cutover/probe/file .cutover/probe
  rmtree .cutover/probe .cutover.probe
  mkdir -p releases shared .cutover/seals .cutover/unfinished .cutover/staging || die path
  # Links in a release lead to `../../shared`.
  [ releases/../shared -ef shared ] || die apart releases
  sync . || die sync-current
}
look() {
  if [ -L current ]; then
    begin current; readlink current; end
    i=$(stat -L -c %d:%i current 2>/dev/null) && say current-identity "$i"
  elif [ -e current ]; then say current-other; fi
  list releases releases; list seals .cutover/seals; list unfinished .cutover/unfinished
  list staging .cutover/staging; list private .cutover -name 'next.*'
  begin log; if [ -f .cutover/log ]; then tail -n 1 .cutover/log; fi; end
  find_syncfs; say syncfs "$F"
  d=$(stat -L -c %d . releases .cutover 2>/dev/null); say devices $d
  say room $(stat -f -c '%b %a %S %c %d' releases 2>/dev/null || stat -f -c '%b %a %S %c %d' . 2>/dev/null)
  b=
  for r in releases/*; do
    case ${r#releases/} in *[!0-9]*|'') continue ;; esac
    if [ -d "$r" ] && [ ! -L "$r" ] && [ "$r" -ef current ]; then b=${r#releases/}; fi
  done
  if [ -n "$b" ]; then
    say base "$b"
    if [ -f ".cutover/seals/$b" ]; then begin seal; cat ".cutover/seals/$b"; end; tree "releases/$b"; unreadable "releases/$b"; fi
  fi
}
# What lies in shared/, in those of its folders that the application has too. `p` is where we are; folders without folders
# in them come several a call.
folders() { for d do if [ -d "$p/$d" ]; then items "$p/$d" || die look; fi; done; }
into() { [ -d "$p/$1" ] && { p=$p/$1; items "$p" || die look; }; }
up() { p=${p%/*}; }

# --- the deploy
# Nothing durable. If it cannot be made so, `R` is taken back: what a failed sync covered is never durable any more.
x_recover() { true >".cutover/seals/$1.live" || die recover; }
unrecover() { [ -z "$R" ] || rm -f ".cutover/seals/$R.live"; }
# Durable after it: that these are gone, but for what is reported as pending: another user's files keep their folder,
# and that stops no deploy. Its note stays. Only what has a note in `unfinished` gets here.
x_sweep() {
  for i in "$@"; do [ "releases/$i" -ef current ] && die sweep; done
  gone=
  for i in "$@"; do
    rm -f ".cutover/seals/$i.live" ".cutover/seals/$i" || die sweep
  done
  # A seal, and one that a killed prune had taken away, never stands over missing files.
  sync .cutover/seals || die sweep
  for i in "$@"; do if rmtree "releases/$i"; then gone="$gone $i"; else say pending "$i"; fi; done
  sync releases || die sweep
  for i in $gone; do rm -f ".cutover/unfinished/$i" || die sweep; done
}
x_sweep_private() { (cd .cutover && rmtree "$@") || die sweep; }
# Durable after it: the note that this release is unfinished, and markers that recovery added.
x_intend() {
  if [ -e "releases/$1" ] || [ -L "releases/$1" ]; then die exists; fi
  true >".cutover/unfinished/$1" || die intend
  sync . .cutover .cutover/unfinished .cutover/seals || { unrecover; die sync-intend; }
}
# Nothing durable. Reads the base, writes only the new release.
x_copy() {
  if [ -e "releases/$2" ] || [ -L "releases/$2" ]; then die copy; fi
  if ! e=$(cp -a -- "releases/$1" "releases/$2" 2>&1); then
    # What is removed meanwhile is not there to be copied, and what cannot be read is left out, if U says so. Nothing else
    # may be missing; what the application needs is looked for in `x_verify`.
    only_ends "$e" "$U" || { printf '%s\n' "$e" >&2; die copy; }
  fi
  if [ -g releases ]; then same_setgid "releases/$1" "releases/$2"; fi
}
# Below a folder with setgid new folders have it too, and GNU cp leaves it on them. Verification decides if this worked.
same_setgid() {
  (b=$PWD/$1; export b; cd "$2" && find . -type d -perm -2000 -exec sh -c '
    for p do shift; [ -g "$b/$p" ] || set -- "$@" "$p"; done
    [ "$#" = 0 ] || chmod g-s -- "$@"' sh {} +)
}
# Whether all lines of $1 tell of what is gone, or, with $2 = skip, may not be read.
only_ends() {
  printf '%s\n' "$1" | { while IFS= read -r l; do case $2,$l in *': No such file or directory'|skip,*': Permission denied') ;; *) exit 1 ;; esac; done; }
}
# The archive, in chunks: each is one line, `<bytes> <how many times>`, and that much. `end` ends it; `cut` says that it
# will not be whole. They are always read up to there: what follows is the next script. dd(1) reads no byte too many.
chunks() {
  while read -r size count; do
    case $size in end) return 0 ;; cut) return 1 ;; esac
    dd bs="$size" count="$count" iflag=fullblock 2>/dev/null || return 1
  done
  return 1
}
# Nothing durable. Unpacks the archive from the channel into a staging folder; only reads it if $2 is not 0.
x_upload() {
  if [ "$2" != 0 ]; then chunks >/dev/null; return 1; fi
  set -- "$({ { chunks; echo $? >&3; } | {
    mkdir ".cutover/staging/$1" && untar - -C ".cutover/staging/$1" >&4 || { echo bad >&3; say fail upload >&4; }
    cat >/dev/null
  }; } 3>&1)"
  [ "$1" = 0 ]
} 4>&1
# Nothing durable. Puts in what was uploaded; nothing goes through a link: every folder that something is done in is checked first.
x_put_all() {
  if [ -e "releases/$1" ] || [ -L "releases/$1" ]; then die put-in; fi
  mv -T ".cutover/staging/$1/tree" "releases/$1" || die put-in
  (cd "releases/$1" && finish "../../.cutover/staging/$1/meta") || die put-in
}
# In the release: directories get their modes and times last.
finish() { untar "$1/dirs.tar" && modes "$1/modes.sh"; }
guard() { for d do if [ ! -d "$d" ] || [ -L "$d" ]; then exit 3; fi; done; }
opendirs() { chmod u+rwx -- "$@" || exit 1; }
x_put() {
  n=$PWD/releases/$1; s=$PWD/.cutover/staging/$1
  (cd "$n" && . "$s/meta/guard.sh"); case $? in 0) ;; 3) die drifted ;; *) die put-in ;; esac
  if [ -s "$s/meta/remove" ]; then
    (cd "$n" && xargs -0 sh -c 'rm -rf -- "$@" 2>/dev/null && exit
      for p do if [ -d "$p" ] && [ ! -L "$p" ]; then find "$p" -type d ! -perm -700 -exec chmod u+rwx {} \; ; fi; done
      rm -rf -- "$@"' sh <"$s/meta/remove") || die put-in
  fi
  (cd "$s/tree" && . "$s/meta/move.sh") || die put-in
  (cd "$n" && finish "$s/meta") || die put-in
}
# Reads only.
x_verify() {
  tree "releases/$1"
  begin hashes
  if [ -s ".cutover/staging/$1/meta/hash" ]; then
    (cd "releases/$1" && xargs -0 sha256sum -- <"../../.cutover/staging/$1/meta/hash")
  fi
  end
}
# Nothing durable.
x_seal() { mv -fT ".cutover/staging/$1/meta/seal" ".cutover/seals/$1" || die seal; }
# Reads only: nothing is switched by the rename that follows.
x_stay() { [ "releases/$1" -ef current ] || { where; die not-current; }; }
# Nothing durable. A fresh name: ln would follow a link that is already there.
x_link() { ln -s "$1" "$2" || die link; }
# Durable after it: everything written before it on these file systems, the temporary link included.
barrier() { if [ "$#" = 0 ]; then sync; else sync -f -- "$@"; fi; }
x_barrier() { barrier "$@" || { unrecover; die barrier; }; }
where() { begin current; readlink current; end; }
# Nothing durable. Atomic for readers.
x_rename() {
  if [ -e current ] && [ ! -L current ]; then die current-other; fi
  say renaming
  mv -fT "$1" current || { where; die rename; }
}
# Durable after it: the rename. A failed sync is never retried, its pages count as clean: a fresh link is renamed instead.
x_sync_current() {
  sync . && return
  t=$1; l=$2; shift 2
  for k in 1 2; do
    ln -s "$t" "$l.$k" && barrier "$@" && mv -fT "$l.$k" current && sync . && return
  done
  where; die sync-rename
}
# Reports. Only here is anything said to be live.
x_live() { if [ "$(readlink current)" != "$1" ]; then where; die not-current; fi; say live; }
x_same() { if [ "$(readlink current)" != "$1" ]; then where; die not-current; fi; say same; }

# --- after the cutover: a failure from here on is a warning.
# Durable after it: the marker, and that the release is not unfinished. If that fails, both are to be made anew: see
# `unrecover`.
x_mark() {
  true >".cutover/seals/$1.live" && rm -f ".cutover/unfinished/$1" || die mark
  sync .cutover/seals .cutover/unfinished || { rm -f ".cutover/seals/$1.live"; true >".cutover/unfinished/$1"; die mark; }
}
# Nothing durable: a note that comes back says nothing false. The markers that make it needless are durable first.
x_forget() {
  sync .cutover/seals || die forget
  for i in "$@"; do rm -f ".cutover/unfinished/$i" || die forget; done
}
# First a note, and marker and seal away, durably; only then the content: a seal never stands over missing files.
x_prune() {
  for i in "$@"; do
    [ "releases/$i" -ef current ] && die prune
    true >".cutover/unfinished/$i" || die prune
  done
  sync .cutover/unfinished || die prune
  for i in "$@"; do rm -f ".cutover/seals/$i.live" ".cutover/seals/$i" || die prune; done
  sync .cutover/seals || die prune
  gone= left=
  for i in "$@"; do if rmtree "releases/$i"; then gone="$gone $i"; else left=$i; fi; done
  sync releases || die prune
  for i in $gone; do rm -f ".cutover/unfinished/$i"; done
  [ -z "$left" ] || die prune
}
x_log() {
  # After a power loss the last line may be torn, or end in NUL bytes, which a shell's words drop.
  if [ -s .cutover/log ]; then tail -c 1 .cutover/log | { IFS= read -r l || echo >>.cutover/log; }; fi
  printf '%s\n' "$1" >>.cutover/log && sync .cutover/log || die log
}
x_unstage() { rmtree ".cutover/staging/$1" || die unstage; }
# Best effort, before the cutover only: what is left is swept by the next deploy.
x_abandon() {
  rm -f ".cutover/next.$1."*
  rmtree ".cutover/staging/$1"
  # Without the note it is not ours.
  if [ -e ".cutover/unfinished/$1" ]; then rm -f ".cutover/seals/$1"; rmtree "releases/$1"; fi
}

# The lock of a deploy path: one run at a time. Sent to `sh` before `lib.sh`; `T` is the run's token.
#
# It is held by living processes, never by a file alone: by the main shell and by everything that it starts.
# - With flock(1): descriptor 9 is `.cutover/lock`, locked; children inherit it.
# - Without: `.cutover/lock.held` is there, made by link(2), and its run is alive.
# Either way descriptor 7 is the run's own holder file. So a run's processes are known by their descriptor 7, by inode.
# A holder file: token, id of the boot, process, its start, time in seconds, then words for people. Written whole under
# a name of its own before it gets its final one; what is torn (a power loss) is stale.

boot() { cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo none; }
# When process $1 was started, as one word; nothing if it is not alive. With the boot's id no two processes share it.
started() {
  if [ -d /proc/self ]; then
    set -- "$(cat "/proc/$1/stat" 2>/dev/null)"
    # The name in parentheses may hold anything.
    set -- ${1##*)}
    case ${1-} in ''|Z|X) ;; *) echo "${20}" ;; esac
  else
    ps -o lstart= -p "$1" 2>/dev/null | tr -s ' ' '_'
  fi
}
# The token in holder file $1, or `torn`; nothing if there is none.
token() {
  [ -e "$1" ] || return 0
  { IFS=' ' read -r t rest; } 2>/dev/null <"$1" || t=
  case $t in ''|*[!0-9a-z]*) echo torn ;; *) echo "$t" ;; esac
}
# The processes that have holder file $1 open. Only the own user's are seen.
family() { for p in /proc/[0-9]*; do if [ "$p/fd/7" -ef "$1" ]; then echo "${p#/proc/}"; fi; done; }
# The process that took the lock of $1, if it is alive.
taker() {
  { IFS=' ' read -r t b p s rest; } 2>/dev/null <"$1" || return 1
  case $p in ''|*[!0-9]*) return 1 ;; esac
  [ -n "$s" ] && [ "$b" = "$(boot)" ] && [ "$(started "$p")" = "$s" ] && echo "$p"
}
# Whether anything of the run of $1 is alive: the process that took the lock, or what it left running.
alive() { taker "$1" >/dev/null || [ -n "$(family "$1")" ]; }

# Makes $2 a name of $1, if it is free or stale. The right to replace a stale one is a lock of the same kind: $3, with the
# token that is stale for its last part. Of several that found it stale one gets that, and only while the token is still
# that one. A power loss leaves such a right torn too, so the right to replace one has a longer name, never the same.
# 1: alive. 2: it cannot be made.
link_lock() {
  n=0
  while :; do
    ln "$1" "$2" 2>/dev/null && return 0
    [ -e "$1" ] || return 1
    if [ ! -e "$2" ]; then n=$((n + 1)); [ "$n" -gt 5 ] || continue; ln "$1" "$2" && return; return 2; fi
    # The token first: what is alive or not is that one, or a later one.
    set -- "$1" "$2" "$3" "$(token "$2")"
    [ -n "$4" ] || continue
    alive "$2" && return 1
    link_lock "$1" "$3.$4" "$3.$4" || return
    if [ "$(token "$2")" = "$4" ]; then
      # Never a moment without $2, in which somebody else could link it.
      rm -f "$1.1"
      ln "$1" "$1.1" && mv -f "$1.1" "$2"
      set -- $? "$3.$4"
      rm -f "$2"
      [ "$1" = 0 ] || return 2
      return 0
    fi
    rm -f "$3.$4"
  done
}
# One try. 0: ours. 1: busy. 2: no lock can be taken here. $1: words for people.
take() {
  flock -n 8 2>/dev/null
  case $? in
    0) ;;
    1) return 1 ;;
    126|127) take_link "$1"; return ;;
    # Once more, for what it says.
    *) flock -n 8; return 2 ;;
  esac
  exec 9>&8
  # On a full disk it stays empty, and says nothing about the holder: what frees room must be possible all the same.
  { write_holder "$1" 2>/dev/null || true >".cutover/lock.$T"; } && mv -f ".cutover/lock.$T" .cutover/holder &&
    exec 7<.cutover/holder || return 2
  # A run that found no flock(1) on this host. Each shows itself first and then looks, so one of the two sees the other.
  if [ -e .cutover/lock.held ] && alive .cutover/lock.held; then exec 7<&- 9>&-; flock -u 8; return 1; fi
}
take_link() {
  # A run that nobody could tell from another one cannot hold it.
  [ -n "$(started $$)" ] && write_holder "$1" || return 2
  link_lock ".cutover/lock.$T" .cutover/lock.held .cutover/stale
  set -- $?
  rm -f ".cutover/lock.$T"
  [ "$1" = 0 ] || return "$1"
  exec 7<.cutover/lock.held
  # A run that ends without giving it back, which leaves nothing at work: nobody has to find out that it is stale.
  [ ! -d /proc/self ] || trap 'exec 7<&-; [ -n "$(family .cutover/lock.held)" ] || release' EXIT
  if [ -e .cutover/holder ] && alive .cutover/holder; then release; return 1; fi
  # What stealers left that were killed. Who is at it now finds another token in `lock.held`, and gives up.
  for f in .cutover/stale.*; do alive "$f" || rm -f "$f"; done
}
write_holder() {
  set -- "$1" "$(started $$)"
  printf '%s %s %s %s %s %s\n' "$T" "$(boot)" "$$" "${2:-?}" "$(date +%s)" "$1" >".cutover/lock.$T"
}
release() {
  if [ "$(token .cutover/lock.held)" = "$T" ]; then rm -f .cutover/lock.held; fi
  exec 7<&- 9>&-
}
# Who holds the lock, or held it last.
holder() {
  f=.cutover/holder; if [ -e .cutover/lock.held ]; then f=.cutover/lock.held; fi
  begin holder; cat "$f" 2>/dev/null; end; say now "$(date +%s)"
}
# Takes the lock, or waits for it: $2 seconds, and two at least, because a run that just ended needs a moment until its
# shell is gone. Who waits says so all the time: on a connection that is gone that ends it.
open_lock() {
  true >>.cutover/lock || die path
  exec 8>>.cutover/lock || die path
  w=0; told=
  while :; do
    take "$1"
    case $? in 0) break ;; 1) ;; *) die lock ;; esac
    if [ "$w" -ge 2 ]; then
      if [ "$w" -ge "$2" ]; then holder; die busy; fi
      [ -n "$told" ] || holder
      told=1; say waiting
    fi
    sleep 1; w=$((w + 1))
  done
  exec 8>&-
  # Unfinished files of runs that were killed while they took it.
  for f in .cutover/lock.c*; do if [ -e "$f" ] && ! alive "$f"; then rm -f "$f"; fi; done
}

# Sends signal $2 to the processes of the run of holder file $1.
signal_run() { for p in $(family "$1") $(taker "$1"); do kill "-$2" "$p" 2>/dev/null; done; }

# --- on the second channel: watches the client. $1: the deploy path, $2: seconds of silence.
# A connection that is half open, or a client that stands still, would keep the lock: what is left of its run is ended.
watch() {
  on_end=end_run
  limit="timeout $2"; $limit true 2>/dev/null || limit=
  while :; do
    word=$($limit sh -c 'IFS= read -r w && echo "$w"')
    case $?,$word in
      # From here on what runs is to finish, whatever becomes of the client.
      0,leave) on_end=: ;;
      0,*) ;;
      # Silence: 124, or 143 from busybox. The main shell may get the lock later, so this goes on.
      124,*|143,*) $on_end "$1" ;;
      *) $on_end "$1"; return ;;
    esac
  done
}
# Ends the processes of this run, in whose holder file its token stands.
end_run() { (cd -P -- "$1" 2>/dev/null && for f in lock.held holder; do end_holder ".cutover/$f" "$T"; done); }
# Ends the run with token $2, if holder file $1 is its own. The file is opened before it is read: whatever takes the name
# meanwhile is not what is compared.
end_holder() (
  [ -e "$1" ] || exit
  exec 6<"$1"
  IFS=' ' read -r t rest <&6
  [ "$t" = "$2" ] || exit
  if [ -e /proc/self/fd/6 ]; then set -- /proc/self/fd/6; fi
  signal_run "$1" TERM
  sleep 2
  signal_run "$1" KILL
)

# --- unlocking by hand. $1: words for people; $2: `kill` ends a run that is alive.
x_unlock() {
  true >>.cutover/lock || die path
  exec 8>>.cutover/lock || die path
  # As in `open_lock`, a run that just ended needs a moment.
  for w in 0 1 2; do
    was=free
    if [ -e .cutover/lock.held ] && ! alive .cutover/lock.held; then was=stale; holder; fi
    take "$1"
    case $? in 0) release; say unlock "$was"; return ;; 1) ;; *) die lock ;; esac
    [ "$w" = 2 ] || sleep 1
  done
  holder
  f=.cutover/holder; if [ -e .cutover/lock.held ]; then f=.cutover/lock.held; fi
  say main $(taker "$f"); say family $(family "$f")
  if [ "$2" != kill ]; then say unlock held; return; fi
  end_holder "$f" "$(token "$f")"
  w=0
  until take "$1"; do
    w=$((w + 1)); if [ "$w" -gt 5 ]; then say unlock stays; return; fi
    sleep 1
  done
  release; say unlock killed
}
# --- for looking only
# Whether a run is at it, and whose.
look_lock() {
  for f in .cutover/lock.held .cutover/holder; do
    if [ -e "$f" ] && alive "$f"; then begin holder; cat "$f"; end; say now "$(date +%s)"; say locked; return; fi
  done
}

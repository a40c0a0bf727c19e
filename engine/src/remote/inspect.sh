# What only looks. Sent after lib.sh, whose functions it uses; nothing here changes anything on the host.
# A release: its seal, and what is there.
inspect_release() {
  if [ ! -d "releases/$1" ] || [ -L "releases/$1" ]; then die gone; fi
  begin seal; if [ -f ".cutover/seals/$1" ]; then cat ".cutover/seals/$1"; fi; end
  tree "releases/$1"
}
# The working directory is the release. Files that cannot be read have no line.
hash_files() { sha256sum -- "$@" || true; }
inspect_log() { begin log; if [ -f .cutover/log ]; then tail -n "$1" .cutover/log; fi; end; }

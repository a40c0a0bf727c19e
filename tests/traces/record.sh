#!/bin/sh
# Records the traces of this folder anew: a small application of four releases, deployed by the engine, by a script
# that uses rsync, and by scripts of certify/subjects. Needs what `cargo certify` needs, ssh, tar and rsync.
#
#   sh tests/traces/record.sh            # all
#   sh tests/traces/record.sh rm-ln      # one
#
# The test that judges them (`cargo test -p cutover-certify --test it traces`) holds the verdicts: after a change of a
# tool they may differ, and then the snapshot there says how.
set -eu
cd "$(dirname "$0")/../.."
# Builds both programs, so that a mistake shows before anything is recorded.
certify=${CERTIFY:-cargo certify}
$certify --version

apps=$(mktemp -d)
trap 'rm -rf "$apps"' EXIT
for version in 1 2 3 4; do
    app=$apps/$version
    mkdir -p "$app/bin" "$app/public/img" "$app/public/empty"
    printf '<p>release %s</p>\n' "$version" >"$app/public/index.html"
    printf 'the same in all\n' >"$app/public/robots.txt"
    printf '#!/bin/sh\necho %s\n' "$version" >"$app/bin/run"
    : >"$app/public/img/none"
    # Two blocks and a hole between them.
    printf 'begin %s' "$version" >"$app/sparse"
    printf 'end' | dd of="$app/sparse" bs=1 seek=12000 conv=notrunc 2>/dev/null
    ln -s public/index.html "$app/start"
    # A name that is no UTF-8, a line feed, and what would be an escape.
    printf 'odd\n' >"$app/$(printf 'caf\351 50%%25\nx')"
    chmod -R u=rwX,go=rX "$app"
    chmod 755 "$app/bin/run"
done

# record NAME OPTIONS...: one file.
record() {
    name=$1
    shift
    case "${only:-$name}" in "$name") ;; *) return ;; esac
    # A canary breaks something: that is exit status 1.
    $certify "$@" --app "$apps/1" "$apps/2" "$apps/3" "$apps/4" --record "tests/traces/$name.cutover-trace" >/dev/null ||
        [ $? -eq 1 ]
}

only=${1:-}
[ -n "$only" ] || unset only

record engine --shared uploads/ --shared public/robots.txt
record correct run --tool 'sh certify/subjects/correct.sh' --keep 3 --from-nothing
record rsync run --keep 3 --tool '
    . certify/subjects/steps.sh
    upload() {
        rsync -rlpt -e "ssh -F $CERTIFY_SSH_CONFIG" "$CERTIFY_SOURCE/" "target:$CERTIFY_DEPLOY_PATH/releases/$id/"
    }
    sweep
    upload
    cut_over
    clean_up'
for script in correct-copy-fsync correct-fdatasync fdatasync-modes fdatasync-status fsync-files-only fsync-not-releases \
    fsync-status barrier-after-cutover directories-first; do
    record "$script" run --tool "sh certify/subjects/$script.sh" --keep 3
done
record upload-into-live run --tool 'sh certify/subjects/upload-into-live.sh' --keep 3
for canary in cleanup-before-durable keeps-two link-after-barrier ln-sfn never-syncs no-barrier-after no-barrier-before rm-ln; do
    record "$canary" run --tool "sh certify/subjects/$canary.sh" --keep 3
done
record seed-shared run --tool 'sh certify/subjects/seed-shared.sh' --keep 3 \
    --shared public/robots.txt --adds public/robots.txt

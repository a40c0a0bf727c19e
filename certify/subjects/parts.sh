# What the scripts that upload in parallel have in common, beside steps.sh. Sourced, never run.
. "$(dirname "$0")/steps.sh"

# Uploads every third of the names in the source, from number $1 on (1 to 3), with all below them.
upload_part() {
    (cd "$CERTIFY_SOURCE" && find . -mindepth 1 -maxdepth 1 -print0 | sort -z | sed -zn "$1~3p" |
        tar --null -T - -cf -) | on_server 'tar -C "releases/$id" --no-same-owner -xpf -'
}

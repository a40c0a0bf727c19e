//! What a tool does on the server never reaches the machine, be it as bad as it can be.
//!
//! The attack looks first, from inside, whether anything but the simulated disk and the fresh places is writable, and
//! then does nothing: this test must be harmless even where the certifier is not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::NamedTempFile;

use crate::room::{Room, checkout, machine_has};

/// Says `unsafe` and goes no further if a mount is writable that must not be.
const ATTACK: &str = r#"
    ssh -n -F "$CERTIFY_SSH_CONFIG" target '
        while read -r id parent device root place options rest; do
            case ",$options," in *,rw,*) ;; *) continue ;; esac
            case $place in
                /srv | /mnt | /tmp | /tmp/* | /var/tmp | /run | /root | /home | /dev/shm | /dev/pts) ;;
                "'"$HOME"'" | "'"$TMPDIR"'") ;;
                *) echo "unsafe: $place"; exit 100 ;;
            esac
        done </proc/self/mountinfo
        for place in / /etc /usr /var /dev "'"$PWD"'"; do
            if [ -w "$place" ]; then echo "unsafe: $place"; exit 100; fi
        done
        echo attacks
        timeout 20 rm -rf --no-preserve-root / 2>/dev/null'
"#;

/// Files at places that the attack would reach if it could.
struct Canaries(Vec<NamedTempFile>);

impl Canaries {
    fn new(room: &Room) -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let places = [Some(room.path("")), Some("/tmp".into()), home, Some(checkout().into())];
        let canary = |place: PathBuf| {
            let file = tempfile::Builder::new().prefix(".cutover-canary-").tempfile_in(&place);
            let file = file.unwrap_or_else(|error| panic!("{}: {error}", place.display()));
            fs::write(&file, "alive").unwrap();
            file
        };
        Self(places.into_iter().flatten().filter(|place| place.is_dir()).map(canary).collect())
    }

    fn assert_alive(&self) {
        for file in &self.0 {
            assert_eq!(fs::read(file).unwrap_or_default(), b"alive", "{}", file.path().display());
        }
        assert!(Path::new("/etc/passwd").exists() && std::env::current_exe().unwrap().exists());
    }
}

/// The certifier on two small releases, with the user's own HOME: it is to be protected.
fn certify(room: &Room, tool: &str) -> Command {
    let mut command = room.certify_tool(tool);
    command.arg("--app").arg(room.app("1")).arg(room.app("2"));
    if let Some(home) = std::env::var_os("HOME") {
        command.env("HOME", home);
    }
    command
}

#[test]
fn removing_everything_instead_of_deploying() {
    if !machine_has(&["ssh", "rm", "timeout"]) {
        return;
    }
    let room = Room::new();
    let canaries = Canaries::new(&room);
    let ran = room.run(&mut certify(&room, ATTACK));
    canaries.assert_alive();
    let story = room.show(&ran);
    assert!(story.contains("| attacks\n"), "{story}");
    // Nothing was ever live, so there is nothing to judge.
    assert_eq!(ran.code, Some(2), "{story}");
}

#[test]
fn removing_everything_after_a_good_deploy() {
    if !machine_has(&["ssh", "tar", "rm", "timeout"]) {
        return;
    }
    let room = Room::new();
    let canaries = Canaries::new(&room);
    let tool = format!(
        "set -e; sh certify/subjects/correct.sh; [ \"$CERTIFY_VERSION\" -lt 2 ] || {} || exit 0",
        ATTACK.trim()
    );
    let ran = room.run(&mut certify(&room, &tool));
    canaries.assert_alive();
    let story = room.show(&ran);
    // What was live is gone, and that is what the report says.
    assert_eq!(ran.code, Some(1), "{story}");
    assert!(story.contains("never_absent is broken (live states):"), "{story}");
}

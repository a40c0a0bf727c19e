//! Counterexamples of recorded traces: how they are explained, and the crashed disk that a token shows.

use std::fmt::Write as _;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

use cutover_certify::replay::Token;
use cutover_certify::{trace_file, tree};
use serde_json::Value;
use simfs::model::PROCESS_KILL;
use simfs::{BlockStore, CrashState, POSIX};

fn trace(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/traces/{name}.cutover-trace"))
}

/// Runs the program without a home of the user's.
fn certify(home: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutover-certify"));
    command.args(arguments).env("HOME", home).env_remove("XDG_STATE_HOME");
    let out = command.output().expect("it was built for this test");
    let text = |bytes| String::from_utf8(bytes).expect("what is printed for people is UTF-8");
    (out.status.code(), text(out.stdout), text(out.stderr))
}

/// The token of each counterexample of a trace that has one, with its promise.
fn tokens(home: &Path, file: &str) -> Vec<(String, String)> {
    let json = home.join("json");
    certify(home, &["judge", file, "--json", json.to_str().unwrap()]);
    let judgement: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let mut tokens = Vec::new();
    for row in judgement["rows"].as_array().unwrap() {
        for crash in row["crash"].as_array().unwrap() {
            if let Some(token) = crash["token"].as_str() {
                tokens.push((row["promise"].as_str().unwrap().to_owned(), token.to_owned()));
            }
        }
    }
    tokens
}

#[test]
fn a_counterexample_is_explained() {
    let home = tempfile::tempdir().unwrap();
    let file = trace("no-barrier-before");
    let (_, shown, _) = certify(home.path(), &["judge", file.to_str().unwrap()]);
    let from = shown.find("durable_ack is broken").unwrap();
    let until = from + shown[from..].find("\n\n").unwrap();
    insta::assert_snapshot!(shown[from..until].replace(file.to_str().unwrap(), "FILE"), @r"
    durable_ack is broken (posix, ext4-ordered, xfs, btrfs):
      power loss after op 26 (fsync /srv/app):
      `current` resolves to /srv/app/releases/20240101000001, in which bin/run is empty instead of 17 bytes
      did not survive, since no sync had covered it: the length of /srv/app/releases/20240101000001/bin/run, from op 22 (write 17 bytes at 0 of /srv/app/releases/20240101000001/bin/run)
      allowed by `ext4-ordered`: a length that grew joins the chain when writeback begins, at any time after the write; it brings its inode, and what shrank it before, but no data: new blocks and the tail of the block that was the last may be zeros
      how likely: data stays in memory for about 30 s by default (vm.dirty_expire_centisecs), while the names of its files are committed after 5: between the two this is what a power cut leaves, not a rare accident
      what would mend it, proved under `posix` up to the end of deploy 1:
        after op 26 (fsync /srv/app), before anything is reported: `sync -f /srv/app`
      replay it: cutover-certify replay aea44zrqr3bbuafz7y --trace FILE
    ");
}

/// The smallest thing that mends a tool, or that nothing of that kind does.
#[test]
fn what_would_mend_each() {
    let home = tempfile::tempdir().unwrap();
    let mut shown = String::new();
    for name in [
        "cleanup-before-durable",
        "link-after-barrier",
        "ln-sfn",
        "no-barrier-after",
        "no-barrier-before",
        "rm-ln",
        "upload-into-live",
    ] {
        let (_, report, _) = certify(home.path(), &["judge", trace(name).to_str().unwrap()]);
        let _ = writeln!(shown, "{name}");
        let mut promise = "";
        for line in report.lines() {
            if let Some((name, _)) = line.split_once(" is broken (") {
                promise = name;
            }
            if line.contains("would mend it") {
                let _ = writeln!(shown, "  {promise}: {}", line.trim());
            } else if line.starts_with("    ") {
                let _ = writeln!(shown, "  {line}");
            }
        }
    }
    insta::assert_snapshot!(shown, @r"
    cleanup-before-durable
      current_complete: what would mend it, proved under `posix` up to the end of deploy 2:
          before op 53 (unlink /srv/app/releases/20240101000001/bin/run): `sync /srv/app`
      durable_ack: what would mend it, proved under `posix` up to the end of deploy 2:
          before op 53 (unlink /srv/app/releases/20240101000001/bin/run): `sync /srv/app`
      previous_intact: no four sync calls or fewer would mend it: the operations themselves have to be others
    link-after-barrier
      current_complete: what would mend it, proved under `posix` up to the end of deploy 2:
          before op 52 (rename /srv/app/.current.20240101000002.36 /srv/app/current): `sync /srv/app`
      durable_ack: what would mend it, proved under `posix` up to the end of deploy 2:
          before op 52 (rename /srv/app/.current.20240101000002.36 /srv/app/current): `sync /srv/app`
    ln-sfn
      current_complete: what would mend it, proved under `posix` up to the end of deploy 2:
          before op 51 (rename /srv/app/CuWYS0Pl /srv/app/current): `sync /srv/app`
      durable_ack: what would mend it, proved under `posix` up to the end of deploy 2:
          before op 51 (rename /srv/app/CuWYS0Pl /srv/app/current): `sync /srv/app`
    no-barrier-after
      current_complete: what would mend it, proved under `posix` up to the end of deploy 1:
          after op 26 (rename /srv/app/.current.20240101000001.13 /srv/app/current), before anything is reported: `sync /srv/app`
      durable_ack: what would mend it, proved under `posix` up to the end of deploy 1:
          after op 26 (rename /srv/app/.current.20240101000001.13 /srv/app/current), before anything is reported: `sync /srv/app`
    no-barrier-before
      current_complete: what would mend it, proved under `posix` up to the end of deploy 1:
          before op 25 (rename /srv/app/.current.20240101000001.13 /srv/app/current): `sync -f /srv/app`
      durable_ack: what would mend it, proved under `posix` up to the end of deploy 1:
          after op 26 (fsync /srv/app), before anything is reported: `sync -f /srv/app`
      previous_intact: what would mend it, proved under `posix` up to the end of deploy 2:
          after op 26 (fsync /srv/app), before anything is reported: `sync -f /srv/app`
    rm-ln
      current_complete: no four sync calls or fewer would mend it: the operations themselves have to be others
      durable_ack: no four sync calls or fewer would mend it: the operations themselves have to be others
    upload-into-live
      current_complete: no four sync calls or fewer would mend it: the operations themselves have to be others
      durable_ack: no four sync calls or fewer would mend it: the operations themselves have to be others
    ");
}

#[test]
fn no_counterexample_needs_more_than_six_operations() {
    let home = tempfile::tempdir().unwrap();
    let mut most = 0;
    for entry in fs::read_dir(trace("x").parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "cutover-trace") {
            continue;
        }
        let (_, report, _) = certify(home.path(), &["judge", path.to_str().unwrap()]);
        for told in report.split("\n\n").filter(|told| told.contains(" is broken (")) {
            let ops = told.lines().filter(|line| {
                ["power loss after", "survived, though", "did not survive"]
                    .iter()
                    .any(|begin| line.trim_start().starts_with(begin))
            });
            most = most.max(ops.count());
        }
    }
    assert!((1..=6).contains(&most), "{most} operations");
}

#[test]
fn a_token_shows_the_same_disk_each_time() {
    let home = tempfile::tempdir().unwrap();
    for name in ["no-barrier-before", "ln-sfn", "upload-into-live"] {
        let file = trace(name);
        let file = file.to_str().unwrap();
        let tokens = tokens(home.path(), file);
        assert!(!tokens.is_empty(), "{name}");
        assert_eq!(tokens, self::tokens(home.path(), file), "{name}: other tokens");
        for (promise, token) in tokens {
            let shown = certify(home.path(), &["replay", &token, "--trace", file]);
            assert_eq!(shown.0, Some(0), "{name}, {promise}: {}", shown.2);
            assert_eq!(certify(home.path(), &["replay", &token, "--trace", file]), shown);
            let export = |to: &str| {
                let to = home.path().join(format!("{name}-{promise}-{to}"));
                let told = certify(
                    home.path(),
                    &["replay", &token, "--trace", file, "--export", to.to_str().unwrap()],
                );
                assert_eq!(told.0, Some(0), "{}", told.2);
                // The two lines of the story, and where it is.
                assert_eq!(told.1.lines().count(), 3);
                assert!(shown.1.starts_with(&told.1[..told.1.find("written to").unwrap()]));
                tree::read_dir(&to, &BlockStore::default()).unwrap()
            };
            let first = export("first");
            assert_eq!(export("second"), first);
            assert_eq!(first.len(), shown.1.lines().count() - 2, "{}", shown.1);
        }
    }
}

/// Mounted, it is the disk that was exported, and a signal takes it away. In a mount namespace of its own, so that nothing
/// is left behind if this test is killed.
#[test]
fn a_token_can_be_mounted() {
    let home = tempfile::tempdir().unwrap();
    let [at, copy, exported] = ["mounted", "copy", "exported"].map(|name| home.path().join(name));
    fs::create_dir(&at).unwrap();
    let file = trace("no-barrier-before");
    let file = file.to_str().unwrap();
    let (_, token) = tokens(home.path(), file).swap_remove(0);
    // cp(1) sees what any program sees; `current` is there once the disk is.
    let script = "mount -t tmpfs none \"$HOME/probe\" 2>/dev/null || exit 77
        [ -r /dev/fuse ] && [ -w /dev/fuse ] || exit 77
        \"$1\" replay \"$2\" --trace \"$3\" --mount \"$4\" >\"$HOME/told\" & mounter=$!
        for try in $(seq 300); do [ -L \"$4/app/current\" ] && break; sleep 0.1; done
        cp -a \"$4\" \"$5\" || exit 1
        kill -INT $mounter; wait $mounter || exit 2
        [ -z \"$(ls -A \"$4\")\" ] || exit 3";
    fs::create_dir(home.path().join("probe")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command.args([env!("CARGO_BIN_EXE_cutover-certify"), &token, file]).args([&at, &copy]);
    let ran = command.env("HOME", home.path()).output();
    let why = match &ran {
        Ok(out) if out.status.code() == Some(77) => "nobody can mount here, or /dev/fuse cannot be opened",
        Ok(out) if String::from_utf8_lossy(&out.stderr).starts_with("unshare: ") => {
            "there are no user namespaces"
        }
        Ok(_) => "",
        Err(_) => "there is no `unshare`",
    };
    if !why.is_empty() {
        return crate::skip(why);
    }
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{:?}: {}", ran.status, String::from_utf8_lossy(&ran.stderr));
    let told = fs::read_to_string(home.path().join("told")).unwrap();
    assert!(told.contains("mounted on "), "{told}");
    certify(home.path(), &["replay", &token, "--trace", file, "--export", exported.to_str().unwrap()]);
    let read = |dir: &Path| tree::read_dir(dir, &BlockStore::default()).unwrap();
    assert_eq!(read(&copy), read(&exported));
}

#[test]
fn a_token_that_does_not_fit() {
    let home = tempfile::tempdir().unwrap();
    let (file, other) = (trace("no-barrier-before"), trace("rm-ln"));
    let (_, token) = tokens(home.path(), file.to_str().unwrap()).swap_remove(0);
    let full = home.path().join("full");
    fs::create_dir_all(full.join("of")).unwrap();
    let mut shown = String::new();
    let with_export =
        ["replay", &token, "--trace", file.to_str().unwrap(), "--export", full.to_str().unwrap()];
    for arguments in [
        &["replay", "nonsense"][..],
        &["replay", &token[..token.len() - 1]],
        &["replay", &token],
        &["replay", &token, "--trace", other.to_str().unwrap()],
        &with_export,
    ] {
        let (code, out, error) = certify(home.path(), arguments);
        assert_eq!(out, "");
        let _ = write!(shown, "exit {}: {error}", code.unwrap());
    }
    let trace_name = shown.split("cutover-certify/").nth(1).unwrap().split('.').next().unwrap().to_owned();
    let mut replaced = shown.replace(&trace_name, "TRACE").replace(full.to_str().unwrap(), "FULL");
    replaced =
        replaced.replace(other.to_str().unwrap(), "OTHER").replace(home.path().to_str().unwrap(), "HOME");
    insta::assert_snapshot!(replaced, @r"
    exit 2: error: this is no token of a counterexample, or not all of it
    hint: copy all of it from the report: what stands there after `cutover-certify replay`
    exit 2: error: this is no token of a counterexample, or not all of it
    hint: copy all of it from the report: what stands there after `cutover-certify replay`
    exit 2: error: the trace of this token is not kept any more: there is no HOME/.local/state/cutover-certify/TRACE.cutover-trace
    hint: name the trace file with --trace, if you have it; `--record FILE` keeps one
    exit 2: error: the token is of another trace than OTHER
    hint: name the file that it was found in
    exit 2: error: cannot write the disk to FULL: it is not empty
    hint: name a directory that does not exist yet, or is empty
    ");
    assert_eq!(fs::read_dir(&full).unwrap().count(), 1);
}

/// What a further run began with is told as that, and the same token is of no counterexample.
#[test]
fn a_token_of_the_disk_that_a_run_began_with() {
    let home = tempfile::tempdir().unwrap();
    let file = trace("correct");
    let recorded = trace_file::read(fs::File::open(&file).map(BufReader::new).unwrap(), u64::MAX).unwrap();
    let history = &recorded.histories[0];
    let began = |model, state| Token::of_run(&history.trace, model, state).told().unwrap();
    let at = |at| CrashState { at, ..CrashState::default() };
    let mut shown = String::new();
    for token in [began(&POSIX, at(20)), began(&PROCESS_KILL, at(20))] {
        let (code, out, error) = certify(home.path(), &["replay", &token, "--trace", file.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{error}");
        shown.push_str(&out);
    }
    insta::assert_snapshot!(shown, @r"
    power loss after op 20 (mkdir /srv/app/releases/20240101000001/bin), under `posix`
    this is the disk that the further run of the tool began with
    `current` resolves to nothing
    dir     0755          - /
    dir     0755          - /app
    after op 20 (mkdir /srv/app/releases/20240101000001/bin), with nothing lost
    this is the disk that the further run of the tool began with
    `current` resolves to nothing
    dir     0755          - /
    dir     0755          - /app
    dir     0755          - /app/releases
    dir     0755          - /app/releases/20240101000001
    dir     0700          - /app/releases/20240101000001/bin
    file    0644          4 /app/releases/20240101000001/caf\xe9 50%25\nx
    dir     0755          - /app/releases/20240101000001/public
    dir     0755          - /app/releases/20240101000001/public/empty
    dir     0755          - /app/releases/20240101000001/public/img
    file    0644          0 /app/releases/20240101000001/public/img/none
    file    0644         17 /app/releases/20240101000001/public/index.html
    file    0644         16 /app/releases/20240101000001/public/robots.txt
    file    0644      12003 /app/releases/20240101000001/sparse
    symlink ----         17 /app/releases/20240101000001/start -> public/index.html
    ");
    let same = Token::new(&history.trace, &POSIX, at(20)).to_string();
    let (_, out, _) = certify(home.path(), &["replay", &same, "--trace", file.to_str().unwrap()]);
    assert!(!out.contains("further run"), "{out}");
}

#[test]
fn models_are_told_with_their_evidence() {
    let home = tempfile::tempdir().unwrap();
    let (code, all, _) = certify(home.path(), &["models"]);
    assert_eq!(code, Some(0));
    for model in simfs::MODELS {
        let (code, one, _) = certify(home.path(), &["models", model.name]);
        assert_eq!(code, Some(0));
        assert!(all.contains(&one), "{}", model.name);
        assert!(one.matches("\n- ").count() == one.matches("\n  [").count());
    }
    let (code, out, error) = certify(home.path(), &["models", "ext3"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(
        error.contains("has to be one of posix, ext4-ordered, xfs, btrfs, lying-disk, process-kill"),
        "{error}"
    );
    insta::assert_snapshot!(certify(home.path(), &["models", "process-kill"]).1, @r"
    process-kill: the processes are gone, the machine stays up; a control, not a proof about power losses
    - every op that was applied survives
      [the page cache belongs to the kernel, not to the process]
    ");
}

/// Opt-in models: nothing survives a disk that lies, and processes that are killed lose nothing.
#[test]
fn the_models_that_are_asked_for_by_name() {
    let home = tempfile::tempdir().unwrap();
    let file = trace("correct");
    let (code, shown, _) = certify(
        home.path(),
        &[
            "judge",
            file.to_str().unwrap(),
            "--model",
            "lying-disk",
            "--model",
            "process-kill",
            "--host",
            "web1=ext4-ordered",
        ],
    );
    assert_eq!(code, Some(1));
    let rows: Vec<&str> =
        shown.lines().filter(|line| line.contains("durable_ack  ") || line.starts_with("On ")).collect();
    insta::assert_snapshot!(rows.join("\n"), @r"
     durable_ack               –             BROKEN       proved         proved         –
    On web1 (ext4-ordered): nothing is broken.
    ");
}

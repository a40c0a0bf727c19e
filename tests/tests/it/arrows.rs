//! Which package of the workspace depends on which.
//!
//! The judge is worth something only as long as it shares no code with what it judges, in either direction: a mistake
//! of the engine must not be able to hide itself in the certifier, nor a trick of the certifier in the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

use crate::room::checkout;

const JUDGES: [&str; 3] = ["simfs", "sshd-test", "cutover-certify"];

/// Never asks a registry: for this platform alone, everything has been fetched to build this test.
fn metadata() -> Metadata {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let version = Command::new(cargo).arg("-vV").output().expect("cargo runs this test");
    let version = String::from_utf8(version.stdout).expect("cargo says its version in UTF-8");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo names its host");
    MetadataCommand::new()
        .manifest_path(checkout().join("Cargo.toml"))
        .other_options(["--frozen", "--filter-platform", host].map(str::to_owned))
        .exec()
        .expect("`cargo metadata --frozen` of this workspace")
}

/// The names of all packages that are reached from `from`, itself left out.
fn reached(metadata: &Metadata, from: &str, kinds: &[DependencyKind]) -> BTreeSet<String> {
    let nodes: BTreeMap<&PackageId, _> =
        metadata.resolve.as_ref().unwrap().nodes.iter().map(|node| (&node.id, node)).collect();
    let mut waiting = vec![&metadata.packages.iter().find(|package| package.name == from).unwrap().id];
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        for dep in &nodes[id].deps {
            if dep.dep_kinds.iter().any(|kind| kinds.contains(&kind.kind)) && seen.insert(&dep.pkg) {
                waiting.push(&dep.pkg);
            }
        }
    }
    seen.into_iter().map(|id| metadata[id].name.to_string()).collect()
}

const ANY: &[DependencyKind] = &[DependencyKind::Normal, DependencyKind::Build, DependencyKind::Development];

#[test]
fn the_judges_never_depend_on_the_engine() {
    let metadata = metadata();
    for judge in JUDGES {
        assert!(!reached(&metadata, judge, ANY).contains("cutover"), "{judge} depends on the engine");
    }
}

#[test]
fn the_engine_never_depends_on_its_judges() {
    let metadata = metadata();
    let reached_by_any = reached(&metadata, "cutover", ANY);
    for judge in JUDGES {
        assert!(!reached_by_any.contains(judge), "the engine depends on {judge}");
    }
    let shipped = reached(&metadata, "cutover", &[DependencyKind::Normal]);
    assert!(shipped.contains("russh"), "the tree was not read: {shipped:?}");
    assert!(!shipped.contains("fuser"), "the engine needs FUSE");
}

#[test]
fn every_arrow_between_packages_is_meant() {
    let metadata = metadata();
    let members = metadata.workspace_packages();
    let mut arrows = BTreeSet::new();
    for package in &members {
        for dep in package.dependencies.iter().filter(|dep| members.iter().any(|m| *m.name == dep.name)) {
            let kind = match dep.kind {
                DependencyKind::Normal => "",
                DependencyKind::Build => " (to build)",
                DependencyKind::Development => " (to test)",
                _ => " (?)",
            };
            arrows.insert(format!("{} -> {}{kind}", package.name, dep.name));
        }
    }
    let mut text = String::new();
    for arrow in arrows {
        let _ = writeln!(text, "{arrow}");
    }
    insta::assert_snapshot!(text, @r"
    cutover-benches -> cutover
    cutover-benches -> cutover-certify
    cutover-benches -> simfs
    cutover-benches -> sshd-test
    cutover-certify -> simfs
    cutover-certify -> sshd-test
    cutover-tests -> cutover-certify
    cutover-tests -> simfs
    ");
}

//! The container image, as far as that can be seen without building it.

use std::fs;

use super::support::process::run;
use super::{checker, project};

#[test]
fn the_dockerfile_has_no_faults_that_hadolint_knows() {
    run(checker("bin/hadolint").arg(project("Dockerfile")));
}

#[test]
fn what_is_copied_into_the_build_is_there_and_not_ignored() {
    let dockerfile = fs::read_to_string(project("Dockerfile")).unwrap();
    let ignore = fs::read_to_string(project(".dockerignore")).unwrap();
    let sources: Vec<_> = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|copy| !copy.starts_with("--from"))
        .flat_map(|copy| {
            let mut paths: Vec<_> = copy.split(' ').collect();
            paths.pop();
            paths
        })
        .collect();
    assert_eq!(sources, ["Cargo.toml", "Cargo.lock", "src"]);
    for source in sources {
        assert!(project(source).exists(), "{source}");
        assert!(
            ignore.lines().any(|line| line == format!("!{source}")),
            "{source}"
        );
    }
}

#[test]
fn the_image_has_the_version_of_the_program() {
    let version = concat!("ARG VERSION=", env!("CARGO_PKG_VERSION"));
    let dockerfile = fs::read_to_string(project("Dockerfile")).unwrap();
    assert!(dockerfile.lines().any(|line| line == version), "{version}");
}

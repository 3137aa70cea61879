//! Builds programs of a Cargo workspace, static and the same on every machine.
//!
//! Paths of this machine are cut out of what the compiler writes; versions
//! come from the lock file. The compiler's own version is the host's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use super::recipe::Cargo;
use super::tag::workspace;
use crate::env;
use crate::error::WithHint;
use crate::oci::Platform;

/// How much of a failed build's output is told, in lines.
const TOLD: usize = 40;

/// Builds the members and returns the folder that holds the programs.
pub(super) fn build(dir: &Path, recipe: &Cargo, platform: &Platform) -> Result<PathBuf> {
    for program in recipe.requires.iter().flatten() {
        find_program(program)?;
    }
    let root = workspace(dir)?;
    let target = triple(platform)?;
    let target_dir = root.join("target/moby-pkg");
    let profile = recipe.profile.as_ref().map_or("release", |profile| &profile.value);
    let mut command = Command::new("cargo");
    command
        .current_dir(&root)
        .args(["build", "--locked", "--profile", profile, "--target", target])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(recipe, &root, &target_dir))
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_TERM_COLOR", "never")
        .env_remove("RUSTFLAGS");
    if let Some((variable, linker)) = linker(platform)? {
        command.env(variable, linker);
    }
    for member in &recipe.packages {
        command.args(["-p", &member.value]);
    }
    let output = command.output().context("starting cargo").hint(|| {
        "install Rust: a package with `builder: cargo` is compiled on this machine".to_owned()
    })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(TOLD)..].join("\n");
        let failed = format!("cargo build in {} failed, {}:\n{end}", root.display(), output.status);
        // "can't find crate for `core`": the compiler's explanation E0463.
        let lacks_library = text.contains("error[E0463]");
        return match lacks_library {
            false => Err(anyhow!(failed)),
            true => Err(anyhow!(failed)).hint(|| way_out(target, platform)),
        };
    }
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(target_dir.join(target).join(folder))
}

/// Says what to do where the compiler has no standard library for a target.
fn way_out(target: &str, platform: &Platform) -> String {
    format!(
        "install Rust's library for it, `rustup target add {target}`, or build on {} and bring \
         the package by `moby cache export` and `import`",
        platform.architecture
    )
}

/// Returns what links programs for another machine than this one, as the
/// variable of cargo's that names it; `None` where that is set, or needless.
fn linker(platform: &Platform) -> Result<Option<(String, String)>> {
    let target = triple(platform)?;
    let name = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
    if *platform == Platform::host() || env::var(&name).is_some() {
        return Ok(None);
    }
    let machine = target.split('-').next().unwrap_or_default().trim_end_matches("gc");
    let program = format!("{machine}-linux-gnu-gcc");
    let package = format!("gcc-{}-linux-gnu", machine.replace('_', "-"));
    find_program(&program).hint(|| {
        format!("install {package}, or set {name} to a linker; and `rustup target add {target}`")
    })?;
    Ok(Some((name, program)))
}

fn triple(platform: &Platform) -> Result<&'static str> {
    Ok(match platform.architecture.as_str() {
        "amd64" => "x86_64-unknown-linux-gnu",
        "arm64" => "aarch64-unknown-linux-gnu",
        "riscv64" => "riscv64gc-unknown-linux-gnu",
        _ => bail!("expected a platform that Rust builds for here, got {platform}"),
    })
}

/// Returns the compiler's flags, separated as cargo wants them. Of several
/// prefixes that match, the compiler takes the last.
fn flags(recipe: &Cargo, root: &Path, target_dir: &Path) -> String {
    let mut flags = recipe.rustflags.clone().unwrap_or_default();
    if recipe.rustflags.is_none() {
        flags.extend(["-C".to_owned(), "target-feature=+crt-static".to_owned()]);
    }
    let cargo = env::var("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| env::home().map(|home| home.join(".cargo")));
    let paths = [
        (cargo, "/cargo"),
        (Some(root.to_owned()), "/source"),
        (Some(target_dir.to_owned()), "/target"),
    ];
    for (path, name) in paths {
        if let Some(path) = path {
            flags.push(format!("--remap-path-prefix={}={name}", path.display()));
        }
    }
    flags.join("\x1f")
}

fn find_program(name: &str) -> Result<()> {
    let path = env::var("PATH").unwrap_or_default();
    if path.split(':').any(|dir| Path::new(dir).join(name).is_file()) {
        return Ok(());
    }
    let missing = format!("expected the program `{name}` on this machine, found none");
    Err(anyhow::anyhow!(missing)).hint(|| match name {
        "protoc" => "install protobuf-compiler and libprotobuf-dev".to_owned(),
        _ => format!("install `{name}`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_for_other_machines_by_their_own_linkers() {
        assert_eq!(linker(&Platform::host()).unwrap(), None);
        let other = if Platform::host().architecture == "amd64" { "arm64" } else { "amd64" };
        let machine = if other == "arm64" { "aarch64" } else { "x86_64" };
        match linker(&Platform::linux(other)) {
            Ok(found) => {
                let (name, program) = found.unwrap();
                assert_eq!(program, format!("{machine}-linux-gnu-gcc"));
                assert!(name.contains(&machine.to_uppercase()) && name.ends_with("_LINKER"));
            }
            Err(error) => {
                let told = crate::error::hint(&error).unwrap();
                assert!(told.contains("rustup target add") && told.contains("gcc-"), "{told}");
            }
        }
    }
}

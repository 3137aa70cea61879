//! Builds programs of a Cargo workspace, static and the same on every machine.
//!
//! Paths of this machine are cut out of what the compiler writes; versions
//! come from the lock file. The compiler's own version is the host's. For
//! another machine than this one it takes the first compiler that has a
//! standard library for it: cargo's own, Debian's beside it, or rustup's once
//! that has fetched the library.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::recipe::Cargo;
use super::tag::workspace;
use crate::env;
use crate::error::WithHint;
use crate::oci::Platform;
use crate::source::debian;

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
    if *platform != Platform::host() {
        if let Some((variable, linker)) = linker(platform)? {
            command.env(variable, linker);
        }
        if let Some(compiler) = compiler(&root, target, platform)? {
            command.env("RUSTC", compiler);
        }
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
        bail!("cargo build in {} failed, {}:\n{end}", root.display(), output.status);
    }
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(target_dir.join(target).join(folder))
}

/// Where Debian has its compiler, which a rustup before it in the path hides.
const DEBIAN: &str = "/usr/bin/rustc";

/// Finds a compiler with a standard library for another machine; `None` where
/// cargo's own has it.
fn compiler(root: &Path, target: &str, platform: &Platform) -> Result<Option<&'static str>> {
    let chosen = env::var("RUSTC");
    if has_library(chosen.as_deref().unwrap_or("rustc"), root, target) {
        return Ok(None);
    }
    if chosen.is_none() && has_library(DEBIAN, root, target) {
        return Ok(Some(DEBIAN));
    }
    let lacking = || format!("expected Rust's standard library for {target}, found none");
    let fetched = match chosen {
        Some(chosen) => Err(anyhow!("`{chosen}`, which RUSTC names, has none")),
        None => rustup(root, target),
    };
    fetched.map(|()| None).with_context(lacking).hint(|| way_out(target, platform))
}

/// Asks a compiler where it has the libraries for a target, and looks there.
fn has_library(compiler: &str, root: &Path, target: &str) -> bool {
    let mut command = Command::new(compiler);
    command.current_dir(root).args(["--print", "target-libdir", "--target", target]);
    let Some(told) = command.output().ok().filter(|output| output.status.success()) else {
        return false;
    };
    let dir = String::from_utf8_lossy(&told.stdout).trim().to_owned();
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.any(|name| name.starts_with("libstd-") && name.ends_with(".rlib"))
}

/// Has rustup fetch the library for a target.
fn rustup(root: &Path, target: &str) -> Result<()> {
    let mut command = Command::new("rustup");
    let output = command.current_dir(root).args(["target", "add", target]).output();
    let output = output.context("starting rustup")?;
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    ensure!(output.status.success(), "`rustup target add {target}` failed: {}", last.trim());
    Ok(())
}

/// Says what to do where no compiler has a standard library for a target.
fn way_out(target: &str, platform: &Platform) -> String {
    let arch = debian::architecture(platform).unwrap_or(&platform.architecture);
    format!(
        "`rustup target add {target}` fetches it where rustup reaches its server. On Debian 12: \
         `dpkg --add-architecture {arch}`, `apt-get update`, `apt-get install rustc-web \
         libstd-rust-web-dev:{arch}`. Or build on {} and bring the package by `moby cache export` \
         and `import`",
        platform.architecture
    )
}

/// Returns what links programs for another machine than this one, as the
/// variable of cargo's that names it; `None` where that is set, or needless.
fn linker(platform: &Platform) -> Result<Option<(String, String)>> {
    let target = triple(platform)?;
    let name = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
    if env::var(&name).is_some() {
        return Ok(None);
    }
    let machine = target.split('-').next().unwrap_or_default().trim_end_matches("gc");
    let program = format!("{machine}-linux-gnu-gcc");
    let package = format!("gcc-{}-linux-gnu", machine.replace('_', "-"));
    let arch = debian::architecture(platform)?;
    find_program(&program).hint(|| {
        format!("install {package} and libc6-dev-{arch}-cross, or set {name} to a linker")
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

    fn other() -> Platform {
        let here = Platform::host().architecture;
        Platform::linux(if here == "amd64" { "arm64" } else { "amd64" })
    }

    #[test]
    fn links_for_other_machines_by_their_own_linkers() {
        let platform = other();
        let machine = if platform.architecture == "arm64" { "aarch64" } else { "x86_64" };
        match linker(&platform) {
            Ok(found) => {
                let (name, program) = found.unwrap();
                assert_eq!(program, format!("{machine}-linux-gnu-gcc"));
                assert!(name.contains(&machine.to_uppercase()) && name.ends_with("_LINKER"));
            }
            Err(error) => {
                let told = crate::error::hint(&error).unwrap();
                assert!(told.contains("gcc-") && told.contains("-cross"), "{told}");
            }
        }
    }

    #[test]
    fn looks_for_a_library_where_the_compiler_has_it() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(has_library("rustc", here, triple(&Platform::host()).unwrap()));
        assert!(!has_library("rustc", here, "no-such-machine"));
        assert!(!has_library("/no/such/compiler", here, triple(&Platform::host()).unwrap()));
    }

    #[test]
    fn tells_what_to_install() {
        let told = way_out("aarch64-unknown-linux-gnu", &Platform::linux("arm64"));
        for part in ["rustup target add aarch64", "--add-architecture arm64", "-dev:arm64"] {
            assert!(told.contains(part), "{told}");
        }
    }
}

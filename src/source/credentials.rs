//! The host's Docker credentials: `config.json` and its credential helpers.
//!
//! Follows Docker's "Credential stores" and "Credential helper protocol": a
//! helper `docker-credential-NAME get` reads a server on stdin and answers
//! with JSON on stdout.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::error::WithHint;

/// Docker Hub's name in `config.json`, which predates the protocol in use.
const HUB: &str = "https://index.docker.io/v1/";
/// What a helper says for a server that it does not know.
const UNKNOWN: &str = "credentials not found in native keychain";

/// How to log in.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// By name.
    Password { user: String, password: String },
    /// By a token that is traded for another.
    Identity(String),
}

// Secrets stay out of logs.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

/// Where credentials are looked up.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    config: Option<PathBuf>,
    helper_path: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: BTreeMap<String, Auth>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl Credentials {
    /// Reads from a `config.json`, which may be absent, and runs helpers of a
    /// search path.
    pub(super) fn new(config: Option<PathBuf>, helper_path: Option<String>) -> Self {
        Self { config, helper_path }
    }

    /// Returns how to log in to a host.
    pub(super) fn of(&self, host: &str) -> Result<Option<Login>> {
        let Some(path) = &self.config else {
            return Ok(None);
        };
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let config: DockerConfig =
            serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?;
        let server = if host == "docker.io" { HUB } else { host };
        let own = config.cred_helpers.iter().find(|(key, _)| same(key, host)).map(|(_, name)| name);
        if let Some(name) = own.or(config.creds_store.as_ref()).filter(|name| !name.is_empty()) {
            let found = self.ask_helper(name, server)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        let auth = config.auths.iter().find(|(key, _)| same(key, host));
        auth.map_or(Ok(None), |(_, auth)| {
            auth.login()
                .with_context(|| format!("reading the login of {host} in {}", path.display()))
        })
    }

    fn ask_helper(&self, name: &str, server: &str) -> Result<Option<Login>> {
        let program = format!("docker-credential-{name}");
        ensure!(!name.contains('/'), "expected a credential helper's name, got `{name}`");
        let doing = || format!("asking the credential helper {program} for {server}");
        self.run(&program, server)
            .with_context(doing)
            .hint(|| format!("install {program}, or take it out of Docker's config.json"))
    }

    fn run(&self, program: &str, server: &str) -> Result<Option<Login>> {
        let found = self.helper_path.iter().flat_map(|path| path.split(':'));
        let found = found.map(|dir| Path::new(dir).join(program)).find(|path| path.is_file());
        let found = found.context("expected it on the search path, found none")?;
        let mut child = Command::new(&found)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting it")?;
        let mut stdin = child.stdin.take().context("opening its input")?;
        match stdin.write_all(server.as_bytes()) {
            // One that answers without reading is no fault.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(error).context("writing its input");
            }
            _ => drop(stdin),
        }
        let output = child.wait_with_output().context("waiting for it")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            if text.contains(UNKNOWN) {
                return Ok(None);
            }
            let errors = String::from_utf8_lossy(&output.stderr);
            anyhow::bail!("{}: {} {}", output.status, text.trim(), errors.trim());
        }
        read_answer(&text)
    }
}

fn read_answer(text: &str) -> Result<Option<Login>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    // The text may hold the secret: no error repeats it.
    let answer: Result<Answer, _> = serde_json::from_str(text);
    let Ok(Answer { username, secret }) = answer else {
        anyhow::bail!("expected JSON with Username and Secret");
    };
    Ok(Some(if username == "<token>" {
        Login::Identity(secret)
    } else {
        Login::Password { user: username, password: secret }
    }))
}

impl Auth {
    fn login(&self) -> Result<Option<Login>> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Login::Identity(token)));
        }
        if let (Some(user), Some(password)) = (given(&self.username), given(&self.password)) {
            return Ok(Some(Login::Password { user, password }));
        }
        let Some(auth) = given(&self.auth) else {
            return Ok(None);
        };
        let plain = STANDARD.decode(auth.trim()).ok().and_then(|raw| String::from_utf8(raw).ok());
        let pair = plain.as_deref().and_then(|text| text.trim_end_matches('\0').split_once(':'));
        let (user, password) = pair.context("expected base64 of user:password")?;
        Ok(Some(Login::Password { user: user.into(), password: password.into() }))
    }
}

/// Says whether a key of `config.json`, a host or an address, means a host.
fn same(key: &str, host: &str) -> bool {
    if host == "docker.io" && key == HUB {
        return true;
    }
    let bare = key.trim_start_matches("https://").trim_start_matches("http://");
    bare.split('/').next() == Some(host)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn password(user: &str, password: &str) -> Option<Login> {
        Some(Login::Password { user: user.into(), password: password.into() })
    }

    #[test]
    fn reads_logins_of_the_file_and_of_helpers() {
        let dir = tempfile::tempdir().unwrap();
        let helper = dir.path().join("docker-credential-test");
        let script = r#"#!/bin/sh
read -r server
case $server in
h.test) echo '{"ServerURL":"h.test","Username":"u","Secret":"s"}';;
t.test) echo '{"Username":"<token>","Secret":"s"}';;
bad.test) echo nonsense;;
no.test) echo 'credentials not found in native keychain'; exit 1;;
*) echo broken >&2; exit 3;;
esac
"#;
        fs::write(&helper, script).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let config = dir.path().join("config.json");
        let text = r#"{"auths":{"a.test:5000":{"auth":"dTpwOnE="},"https://index.docker.io/v1/":{"auth":"aDpo"},
            "i.test":{"identitytoken":"id"},"bad2.test":{"auth":"?"},"empty.test":{}},
            "credHelpers":{"h.test":"test","t.test":"test","bad.test":"test","no.test":"test","x.test":"test","gone.test":"gone"}}"#;
        fs::write(&config, text).unwrap();
        let path = dir.path().display().to_string();
        let credentials = Credentials::new(Some(config), Some(path));
        for (host, login) in [
            ("a.test:5000", password("u", "p:q")),
            ("docker.io", password("h", "h")),
            ("h.test", password("u", "s")),
            ("t.test", Some(Login::Identity("s".into()))),
            ("i.test", Some(Login::Identity("id".into()))),
            ("no.test", None),
            ("empty.test", None),
            ("other.test", None),
        ] {
            assert_eq!(credentials.of(host).unwrap(), login, "{host}");
        }
        for (host, told) in [
            ("bad.test", "expected JSON"),
            ("x.test", "broken"),
            ("gone.test", "docker-credential-gone"),
            ("bad2.test", "bad2.test"),
        ] {
            let error = credentials.of(host).unwrap_err();
            assert!(format!("{error:#}").contains(told), "{error:#}");
        }
    }
}

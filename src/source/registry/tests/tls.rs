//! Whom TLS trusts. The certificates are `openssl`'s, made for each test.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::*;

/// Makes an authority and a certificate of it for loopback.
fn certify(dir: &Path) -> Option<PathBuf> {
    let mut commands = vec![vec!["-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=authority"]];
    let server = ["-keyout", "server.key", "-out", "server.crt", "-subj", "/CN=server"];
    let signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1"];
    let leaf = ["-addext", "basicConstraints=critical,CA:FALSE"];
    commands.push([&server[..], &signed, &leaf].concat());
    for more in commands {
        let mut command = Command::new("openssl");
        let key = ["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt"];
        command.args(key).args(["ec_paramgen_curve:P-256", "-days", "9"]).args(more);
        command.current_dir(dir).stdin(Stdio::null());
        match command.output() {
            Ok(output) => {
                let told = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{command:?}: {told}");
            }
            Err(_) => {
                registry::skipped("openssl");
                return None;
            }
        }
    }
    Some(dir.join("ca.crt"))
}

/// Serves what the bench has by TLS.
fn secured(bench: &Bench, dir: &Path) -> Server {
    let place = |name: &str| dir.join(name).display().to_string();
    let tls =
        format!("  tls: {{certificate: {}, key: {}}}\n", place("server.crt"), place("server.key"));
    Server::start_with(bench.dir.path(), &tls, "").unwrap()
}

#[test]
fn an_authority_is_trusted_where_it_is_named() {
    let Some(bench) = Bench::new() else { return };
    let Some(authority) = certify(bench.dir.path()) else { return };
    let server = secured(&bench, bench.dir.path());
    let image = format!("{}/t/app:1", server.address);
    let folder = bench.options().certificates.join(&server.address);

    // By an authority of all hosts, through a mirror: loopback speaks plainly.
    let mirrors = vec![format!("https://{}", server.address).parse().unwrap()];
    let options = Options { mirrors, authorities: vec![authority.clone()], ..bench.options() };
    let (heard, found) = pull(&bench.store("0"), options, "app.test/t/app:1");
    assert_eq!(found.unwrap().digest.to_string(), bench.manifest);
    assert_eq!(*heard.notes.lock().unwrap(), Vec::<String>::new());

    // By one of this host, whose folder says that it speaks TLS.
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(&authority, folder.join("ca.crt")).unwrap();
    let store = bench.store("1");
    pull(&store, bench.options(), &image).1.unwrap();
    assert_sound(&store);

    // Not by another one.
    let other = tempfile::tempdir().unwrap();
    std::fs::copy(certify(other.path()).unwrap(), folder.join("ca.crt")).unwrap();
    let (heard, found) = pull(&bench.store("2"), bench.options(), &image);
    let text = text(&found.unwrap_err(), &[&server.address]);
    assert!(text.contains("invalid peer certificate"), "{text}");
    assert!(text.contains("hint: trust its authority with --cert-file"), "{text}");
    // Another attempt would not help.
    assert_eq!(*heard.notes.lock().unwrap(), Vec::<String>::new());

    // Nor by a file that holds none.
    std::fs::write(folder.join("ca.crt"), "nonsense").unwrap();
    let error = pull(&bench.store("3"), bench.options(), &image).1.unwrap_err();
    assert!(format!("{error:#}").contains("expected PEM certificates"), "{error:#}");
}

#[test]
fn plain_http_to_a_registry_of_tls_is_told() {
    let Some(bench) = Bench::new() else { return };
    if certify(bench.dir.path()).is_none() {
        return;
    }
    let server = secured(&bench, bench.dir.path());
    let image = format!("{}/t/app:1", server.address);
    let error = pull(&bench.store("cache"), bench.options(), &image).1.unwrap_err();
    assert!(format!("{error:#}").contains("HTTP request to an HTTPS server"), "{error:#}");
}

#[test]
fn tls_to_a_plain_registry_is_told() {
    let Some(bench) = Bench::new() else { return };
    let address = &bench.server.address;
    std::fs::create_dir_all(bench.options().certificates.join(address)).unwrap();
    let error = pull(&bench.store("0"), bench.options(), &format!("{address}/t/app:1"));
    let text = text(&error.1.unwrap_err(), &[address]);
    assert!(text.contains("--insecure-registry"), "{text}");
}

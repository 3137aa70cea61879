//! A real registry of the tests' own: Debian's `docker-registry` on a loopback
//! port that the kernel chooses, over a folder that may outlive it. So a test
//! can fill the folder through a plain registry and then serve it with logins
//! or TLS.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::layout::{Layer, digest};

/// A registry that ends with this value.
#[derive(Debug)]
pub(crate) struct Registry {
    child: Child,
    /// Host and port.
    pub(crate) address: String,
}

impl Registry {
    /// Serves a folder in plain http, or says that the program is missing.
    pub(crate) fn start(folder: &Path) -> Option<Self> {
        Self::start_with(folder, "", "")
    }

    /// Serves a folder with more lines of YAML below `http:` and at the end.
    pub(crate) fn start_with(folder: &Path, http: &str, more: &str) -> Option<Self> {
        let config = folder.join("registry.yml");
        let data = folder.join("registry").display().to_string();
        let text = format!(
            "version: 0.1\nlog: {{accesslog: {{disabled: true}}, level: info}}\n\
             storage: {{filesystem: {{rootdirectory: {data}}}}}\n\
             http:\n  addr: 127.0.0.1:0\n{http}{more}"
        );
        fs::write(&config, text).expect("a file");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
        let mut child = match command.stderr(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                skipped("docker-registry");
                return None;
            }
            Err(error) => panic!("docker-registry: {error}"),
        };
        let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut told = String::new();
        let port = loop {
            let mut line = String::new();
            let more = log.read_line(&mut line).expect("the registry's log");
            assert!(more > 0, "docker-registry ended:\n{told}");
            if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
                break rest.chars().take_while(char::is_ascii_digit).collect::<String>();
            }
            told.push_str(&line);
        };
        // Whoever does not read its log stops it.
        std::thread::spawn(move || io::copy(&mut log, &mut io::sink()));
        Some(Self { child, address: format!("127.0.0.1:{port}") })
    }

    /// Puts a blob and returns its descriptor.
    pub(crate) fn blob(&self, repository: &str, kind: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        let (status, head) = request(&self.address, "POST", &uploads, "", b"");
        assert_eq!(status, 202, "{head}");
        let place = header(&head, "location").expect("a place for the blob");
        let path = place.find("/v2/").map(|at| &place[at..]).expect("a path");
        let glue = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{glue}digest={digest}");
        let (status, head) =
            request(&self.address, "PUT", &path, "application/octet-stream", bytes);
        assert_eq!(status, 201, "{head}");
        json!({ "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": digest, "size": bytes.len() })
    }

    /// Puts a manifest or an index by a tag and returns its descriptor.
    pub(crate) fn document(
        &self,
        repository: &str,
        tag: &str,
        kind: &str,
        document: &Value,
    ) -> Value {
        let kind = format!("application/vnd.oci.image.{kind}");
        let bytes = document.to_string().into_bytes();
        let path = format!("/v2/{repository}/manifests/{tag}");
        let (status, head) = request(&self.address, "PUT", &path, &kind, &bytes);
        assert_eq!(status, 201, "{head}");
        json!({ "mediaType": kind, "digest": digest(&bytes), "size": bytes.len() })
    }

    /// Puts an image of one platform and returns its manifest's descriptor.
    pub(crate) fn image(&self, repository: &str, tag: &str, arch: &str, layers: &[Layer]) -> Value {
        let diffs: Vec<&str> = layers.iter().map(|layer| layer.diff.as_str()).collect();
        let config = json!({ "architecture": arch, "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": diffs } });
        let config = self.blob(repository, "config.v1+json", config.to_string().as_bytes());
        let put =
            |layer: &Layer| self.blob(repository, &format!("layer.v1.{}", layer.kind), &layer.blob);
        let layers: Vec<Value> = layers.iter().map(put).collect();
        let kind = "manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2,
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "config": config, "layers": layers });
        let mut found = self.document(repository, tag, kind, &manifest);
        found["platform"] = json!({ "os": "linux", "architecture": arch });
        found
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // One that has ended by itself is ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says that a test ends for want of a program.
pub(crate) fn skipped(program: &str) {
    eprintln!("skipped: {program} is not installed");
}

/// Sends one request over a connection of its own.
fn request(address: &str, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("a request");
    stream.write_all(body).expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|text| text.parse().ok());
    (status.expect("a status"), answer)
}

/// A header of a head, by its name in small letters.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = head.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

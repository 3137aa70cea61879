//! HTTP: one small runtime for all of moby, which is synchronous otherwise,
//! and a client for each host, as hosts differ in whom they trust.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use reqwest::{Client, RequestBuilder, Response, StatusCode};

use super::Options;
use super::endpoint::{host_of, is_loopback};
use super::retry::{Failure, Tries};
use crate::error::{NotFound, WithHint};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(15);
/// How much of an error's text is read, in bytes.
const ERROR_MAX: u64 = 64 << 10;
/// The largest manifest that is read from an address, in bytes.
const URL_MAX: u64 = 16 << 20;

/// Clients by host.
#[derive(Debug)]
pub struct Http {
    runtime: tokio::runtime::Runtime,
    clients: Mutex<BTreeMap<String, Client>>,
    authorities: Vec<PathBuf>,
    certificates: PathBuf,
    idle: Duration,
    attempts: u32,
    backoff: Duration,
}

impl Http {
    /// Starts the runtime. Clients come as hosts are asked.
    pub fn new(options: &Options) -> Result<Self> {
        // An error says that one is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("http")
            .enable_all()
            .build()
            .context("starting the network threads")?;
        Ok(Self {
            runtime,
            clients: Mutex::default(),
            authorities: options.authorities.clone(),
            certificates: options.certificates.clone(),
            idle: options.idle,
            attempts: options.attempts,
            backoff: options.backoff,
        })
    }

    /// Fetches what an http or https address of a person's own giving has.
    pub fn get(&self, url: &str) -> Result<Vec<u8>> {
        let host = host_of(url)?;
        let mut tries = Tries::new(self.attempts, self.backoff);
        loop {
            let asked = self.send(&host, &|client| client.get(url)).and_then(|answer| {
                let answer = answer.success(url, &host)?;
                answer.whole(URL_MAX)
            });
            match asked {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => {
                    tries.wait(failure, &|_| ()).with_context(|| format!("fetching {url}"))?;
                }
            }
        }
    }

    /// Sends a request to a host and waits for the head of its answer.
    pub(super) fn send(
        &self,
        host: &str,
        make: &dyn Fn(&Client) -> RequestBuilder,
    ) -> Result<Answer<'_>, Failure> {
        let client = self.client(host)?;
        // Within the runtime: timers are made when a request is sent.
        match self.runtime.block_on(async { make(&client).send().await }) {
            Ok(response) => Ok(Answer { http: self, response }),
            Err(error) if error.is_builder() => Err(Failure::Final(error.into())),
            Err(error) if is_distrust(&error) => Err(Failure::Final(distrust(error, host))),
            Err(error) => Err(Failure::Again { error: explain(error), after: None }),
        }
    }

    fn client(&self, host: &str) -> Result<Client> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(host) {
            return Ok(client.clone());
        }
        let mut builder = Client::builder()
            .user_agent(concat!("moby/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .read_timeout(self.idle);
        let mut roots = Vec::new();
        for path in
            self.authorities.iter().cloned().chain(host_authorities(&self.certificates, host))
        {
            roots.extend(read_authorities(&path)?);
        }
        if !roots.is_empty() {
            builder = builder.tls_certs_merge(roots);
        }
        if is_loopback(host) {
            // No proxy knows the way to this machine.
            builder = builder.no_proxy();
        }
        let client = builder.build().with_context(|| format!("preparing to ask {host}"))?;
        clients.insert(host.to_owned(), client.clone());
        Ok(client)
    }
}

fn host_authorities(certificates: &Path, host: &str) -> Vec<PathBuf> {
    // No such folder is the common case.
    let entries = std::fs::read_dir(certificates.join(host)).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "crt"));
    paths.sort();
    paths
}

fn read_authorities(path: &Path) -> Result<Vec<reqwest::Certificate>> {
    let reading = || format!("reading the certificates of {}", path.display());
    let pem = std::fs::read(path).with_context(reading)?;
    let found = reqwest::Certificate::from_pem_bundle(&pem).with_context(reading)?;
    ensure!(!found.is_empty(), "expected PEM certificates in {}, found none", path.display());
    Ok(found)
}

/// Says whether TLS itself failed, which another attempt does not mend.
fn is_distrust(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut at = Some(error);
    while let Some(error) = at {
        if error.is::<rustls::Error>() {
            return true;
        }
        // An I/O error leaves what it wraps out of its chain.
        let io = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        at = match io {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

fn distrust(error: reqwest::Error, host: &str) -> anyhow::Error {
    let way_out = format!(
        "trust its authority with --cert-file FILE or /etc/docker/certs.d/{host}/ca.crt; a \
         registry without TLS needs --insecure-registry {host}"
    );
    Err::<(), _>(error).hint(|| way_out).expect_err("it was an error")
}

fn explain(error: reqwest::Error) -> anyhow::Error {
    let way_out = if error.is_connect() {
        "check the host's name, the network and the proxy (HTTPS_PROXY); a registry without TLS \
         needs --insecure-registry, one with its own authority --cert-file"
    } else {
        "check the network, or ask another place with --mirror"
    };
    Err::<(), _>(error).hint(|| way_out.into()).expect_err("it was an error")
}

/// The head of an answer, and its body still to come.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    http: &'a Http,
    response: Response,
}

impl Answer<'_> {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Returns a header's text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Returns all headers of a name.
    pub(super) fn headers(&self, name: &str) -> Vec<String> {
        let values = self.response.headers().get_all(name).iter();
        values.filter_map(|value| value.to_str().ok().map(str::to_owned)).collect()
    }

    /// Waits for the next bytes of the body.
    pub(super) fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, Failure> {
        let chunk = self.http.runtime.block_on(self.response.chunk());
        chunk.map_err(|error| Failure::Again { error: explain(error), after: None })
    }

    /// Reads a small body whole.
    pub(super) fn whole(mut self, limit: u64) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk()? {
            let chunk = chunk.as_ref();
            if (bytes.len() + chunk.len()) as u64 > limit {
                let url = self.response.url();
                return Err(anyhow!("{url}: expected at most {limit} bytes, got more").into());
            }
            bytes.extend_from_slice(chunk);
        }
        Ok(bytes)
    }

    /// Makes an error of any answer but success.
    pub(super) fn success(self, what: &str, host: &str) -> Result<Self, Failure> {
        let status = self.status();
        if status.is_success() {
            return Ok(self);
        }
        let after = self.header("retry-after").and_then(|text| text.trim().parse().ok());
        let after = after.map(Duration::from_secs);
        let body = self.whole(ERROR_MAX).unwrap_or_default();
        let told = told(&body).map(|text| format!(": {text}")).unwrap_or_default();
        let error = anyhow!("{host} answered {status}{told}");
        let login = format!("docker login {host}");
        let (error, hint) = match status.as_u16() {
            401 => (error, format!("log in with `{login}`; moby uses Docker's credentials")),
            403 => (error, format!("check that this account may pull it, or `{login}`")),
            404 => {
                let missing = NotFound { what: what.into(), place: host.into() };
                (error.context(missing), "check the name and the tag".into())
            }
            429 => (error, format!("wait, `{login}` for a higher limit, or use --mirror")),
            _ => (error, "try again later, or ask another place with --mirror".into()),
        };
        let error = Err::<(), _>(error).hint(|| hint).expect_err("it was an error");
        let again = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
        Err(if again { Failure::Again { error, after } } else { Failure::Final(error) })
    }
}

/// The text of an error as the Distribution specification has it, or the line
/// of text that a server said instead.
fn told(body: &[u8]) -> Option<String> {
    let tidy = |text: &str| text.chars().filter(|c| !c.is_control()).take(200).collect();
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else {
        let line = std::str::from_utf8(body).ok()?.lines().next()?.trim();
        return (!line.is_empty() && !line.starts_with('<')).then(|| tidy(line));
    };
    let first = value.get("errors")?.get(0)?;
    first.get("message").or_else(|| first.get("code"))?.as_str().map(tidy)
}

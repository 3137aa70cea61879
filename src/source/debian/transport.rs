//! Brings files from an archive: `http:`, `https:` and `file:`.
//!
//! What fails for a while (no connection, a broken one, 429, 5xx) is tried
//! again with growing pauses, from where it broke off. Certificates are the
//! host's. No `mirror:`, `tor:` or other methods of apt.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::header::{CONTENT_RANGE, RANGE};

use super::super::progress::{Item, Progress, Stage};
use crate::error::NotFound;
use crate::oci::Descriptor;
use crate::store::{BlobWriter, Store};

/// Pauses before each further attempt, in milliseconds.
const PAUSES: [u64; 4] = [200, 1000, 3000, 8000];
/// How long a connection, or the next bytes, may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Brings files by address.
#[derive(Debug)]
pub(super) struct Transport {
    client: OnceLock<Client>,
    progress: Arc<dyn Progress>,
}

/// A failure, and whether another attempt may help.
struct Failure {
    error: anyhow::Error,
    passing: bool,
}

impl Failure {
    fn passing(error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), passing: true }
    }

    fn lasting(error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), passing: false }
    }
}

impl Transport {
    /// Starts without a connection; `progress` hears of what is brought.
    pub(super) fn new(progress: Arc<dyn Progress>) -> Self {
        Self { client: OnceLock::new(), progress }
    }

    /// Reads a small file. One that is not there is [`NotFound`].
    pub(super) fn read(&self, address: &str, limit: u64) -> Result<Vec<u8>> {
        self.attempt(address, || {
            let mut bytes = Vec::new();
            let (from, _) = self.open(address, 0)?;
            from.take(limit + 1).read_to_end(&mut bytes).map_err(Failure::passing)?;
            if bytes.len() as u64 > limit {
                return Err(Failure::lasting(anyhow!("expected at most {limit} bytes, got more")));
            }
            Ok(bytes)
        })
    }

    /// Brings a file into the store, if it is not there, and checks it.
    /// `what` names it to people.
    pub(super) fn download(
        &self,
        what: &str,
        address: &str,
        blob: &Descriptor,
        store: &Store,
    ) -> Result<()> {
        let (image, stage) = (what.to_owned(), Stage::Fetch);
        let item = Item { image, digest: blob.digest, stage, total: blob.size };
        let started = Cell::new(false);
        self.attempt(address, || {
            let Some(writer) = store.download(blob).map_err(Failure::lasting)? else {
                return Ok(());
            };
            if !started.replace(true) {
                self.progress.started(&item);
            }
            self.copy(address, &item, writer)
        })?;
        if started.get() {
            self.progress.finished(&item);
        }
        Ok(())
    }

    fn copy(&self, address: &str, item: &Item, mut to: BlobWriter) -> Result<(), Failure> {
        if to.position() < item.total {
            let (mut from, resumed) = self.open(address, to.position())?;
            if !resumed {
                to.restart().map_err(Failure::lasting)?;
            }
            let mut buf = vec![0; 1 << 17];
            loop {
                match from.read(&mut buf) {
                    Ok(0) => break,
                    Ok(n) => {
                        to.write(&buf[..n]).map_err(Failure::lasting)?;
                        self.progress.advanced(item, to.position());
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(Failure::passing(error)),
                }
            }
        }
        let whole = to.position() == item.total;
        to.finish().map_err(|error| Failure { error, passing: !whole })
    }

    /// Opens a file from an offset, or from its start where the other side
    /// cannot do that; says which it was.
    fn open(&self, address: &str, offset: u64) -> Result<(Box<dyn Read>, bool), Failure> {
        if let Some(path) = address.strip_prefix("file:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match File::open(path) {
                Ok(file) => Ok((Box::new(file), offset == 0)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Err(Failure::lasting(not_found(address)))
                }
                Err(error) => Err(Failure::lasting(error)),
            };
        }
        let mut request = self.client().map_err(Failure::lasting)?.get(address);
        if offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
        }
        // The address stands in the context already.
        let answer = request.send().map_err(|error| Failure::passing(error.without_url()))?;
        let resumed = answer.status() == StatusCode::PARTIAL_CONTENT;
        check_status(&answer, address)?;
        if resumed {
            check_range(&answer, offset).map_err(Failure::lasting)?;
        }
        Ok((Box::new(answer), resumed || offset == 0))
    }

    fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // Another part of the program may have chosen one before: as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(20))
            .timeout(PATIENCE)
            .user_agent(concat!("moby/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("starting an HTTP client")?;
        Ok(self.client.get_or_init(|| client))
    }

    fn attempt<T>(&self, address: &str, go: impl Fn() -> Result<T, Failure>) -> Result<T> {
        let mut pauses = PAUSES.iter();
        loop {
            match (go(), pauses.next()) {
                (Ok(done), _) => return Ok(done),
                (Err(Failure { passing: true, .. }), Some(pause)) => {
                    std::thread::sleep(Duration::from_millis(*pause));
                }
                (Err(failure), _) => {
                    return Err(failure.error).with_context(|| format!("fetching {address}"));
                }
            }
        }
    }
}

fn check_status(answer: &Response, address: &str) -> Result<(), Failure> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    if status == StatusCode::NOT_FOUND || status == StatusCode::GONE {
        return Err(Failure::lasting(not_found(address)));
    }
    let passing = status.is_server_error()
        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
    let error = anyhow!("expected the file, got the answer {status}");
    Err(Failure { error, passing })
}

fn check_range(answer: &Response, offset: u64) -> Result<()> {
    let range = answer.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let Some(range) = range else {
        bail!("expected a range from {offset}, got one without bounds");
    };
    let start = range.strip_prefix("bytes ").and_then(|rest| rest.split('-').next());
    ensure!(
        start == Some(offset.to_string().as_str()),
        "expected a range from {offset}, got `{range}`"
    );
    Ok(())
}

fn not_found(address: &str) -> NotFound {
    NotFound { what: address.to_owned(), place: "the archive".to_owned() }
}
